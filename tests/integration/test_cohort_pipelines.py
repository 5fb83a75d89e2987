"""The cohort pipelines on a synthetic cohort with three broken volumes: complete, killed, repeated; and launchers."""

import json
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.cohorts import make_cohort

from medcyclegan.cohort import read_ledger

PIPELINES = Path(__file__).parents[2] / "pipelines"
LAUNCH = PIPELINES / "launch"
PATIENTS = 6


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A prepared and trained study of six patients, and its broken volumes."""
    folder = tmp_path_factory.mktemp("cohort")
    broken = make_cohort(folder / "bids", PATIENTS, (24, 28, 16))
    domains = [word for name in ("t1", "t2") for word in ("--domain", name, folder / "bids", f"suffix={name.upper()}w")]
    (folder / "tiny.yaml").write_text(
        "slicing: {size: 32, pixel_mm: 8, validation_fraction: 0}\n"
        "networks: {generator: {filters: 2, blocks: 1}, discriminator: {filters: 2, layers: 1}}\n"
        "training: {max_steps: 3, checkpoint_steps: 1, panel_every: 3}\n"
    )
    assert run("prepare_cohort.py", folder / "study", *domains, "--config", folder / "tiny.yaml") == 1
    assert run("train_and_report.py", folder / "study", "--config", folder / "tiny.yaml") == 0
    return folder, broken


def run(script, *words):
    """Run a script as a program in this process, which has done the imports; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(PIPELINES / script), run_name="__main__")
    return ended.value.code or 0


def test_the_broken_are_in_the_ledger_with_their_reasons(study):
    folder, broken = study
    ledger = {failure.case.partition("/")[2]: failure.reason for failure in read_ledger(folder / "study")}
    assert ledger.keys() == broken.keys()
    assert all(why in ledger[case] for case, why in broken.items())


def test_held_out_patients_are_translated_scored_and_reported(study):
    results = study[0] / "study" / "results" / "tiny"
    scores = json.loads((results / "evaluation.json").read_text())["cases"]
    made = list(results.glob("translated/sub-*/anat/*_T2w.nii.gz"))
    assert len(scores) == len(made) == 1
    assert scores[0]["baselines"].keys() == {"input"}
    assert re.fullmatch("[0-9a-f]{16}", scores[0]["patient"]), "the store's keyed hash"
    for page in ("run.html", "evaluation.html"):
        assert "<!doctype html>" in (results / page).read_text()[:100].lower()


def test_a_rerun_does_nothing_again(study, capsys):
    folder, _ = study
    results = folder / "study" / "results" / "tiny"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file() and path.name != ".lock"}
    assert run("train_and_report.py", folder / "study", "--config", folder / "tiny.yaml") == 0
    assert "0 translated, 1 unchanged, 0 failed" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file() and path.name != ".lock"}
    assert {p.name for p in after if after[p] != before.get(p)} <= {"ledger.jsonl"}


def test_two_jobs_one_killed_and_again_give_what_one_go_gives(study, tmp_path):
    folder, broken = study
    model = next(folder.glob("study/results/tiny/runs/*/latest")) / "model"
    words = [folder / "bids", tmp_path / "shared", "--select", "suffix=T1w", "--to", "t2", "--model", model]
    logs = ["--cluster", "local", "--num-shards", "2", "--logs", tmp_path / "logs"]
    command = [str(word) for word in (sys.executable, PIPELINES / "translate_cohort.py", *words, *logs)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _kill_a_shard(first.pid)
    said = first.communicate()[1]
    assert first.returncode == 1, said
    assert "was killed by signal 9; run the same command again to continue" in said
    assert (tmp_path / "logs").stat().st_mode & 0o077 == 0
    assert len(list((tmp_path / "logs").glob("found-*.jsonl"))) == 1

    assert run("translate_cohort.py", *words) == 1
    assert run("translate_cohort.py", folder / "bids", tmp_path / "whole", *words[2:]) == 1
    shared, whole = (
        {p.name: p.read_bytes() for p in (tmp_path / n).rglob("[!.]*.nii.gz")} for n in ("shared", "whole")
    )
    assert len(whole) == PATIENTS - 2
    assert shared == whole
    failed = {failure.case for failure in read_ledger(tmp_path / "shared")}
    assert failed == {case for case in broken if case.endswith("T1w")}
    validate(tmp_path / "whole")


def _kill_a_shard(pid):
    """Kill shard 1 as soon as it runs."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for process in psutil.Process(pid).children(recursive=True):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if words[-2:] == ["--shard-id", "1"]:
                process.send_signal(signal.SIGKILL)
                return
        time.sleep(0.05)
    raise AssertionError("no shard was started")


def validate(dataset):
    """Run the BIDS validator if it is installed (PyPI: bids-validator-deno, which needs no network)."""
    validator = shutil.which("bids-validator-deno")
    if validator is None:
        return
    checked = subprocess.run([validator, str(dataset), "--json"], capture_output=True, text=True)
    issues = json.loads(checked.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_every_patient_is_scored_once_by_cross_validation(study, capsys):
    folder, _ = study
    words = [folder / "study", "--folds", "2", "--config", folder / "tiny.yaml"]
    assert run("cross_validate.py", *words) == 0
    printed = capsys.readouterr().out
    assert "3 cases of 3 patients" in printed
    assert printed.count("input as output") >= 4, "beside each case and in the summary"
    table = json.loads((folder / "study" / "results" / "tiny-folds-2.json").read_text())
    assert [case["case"] for case in sorted(table["cases"], key=lambda c: c["case"])] == [
        f"sub-{n:02d}/anat/sub-{n:02d}_T1w" for n in (3, 4, 5)
    ], "the others have a broken volume"
    assert len({case["patient"] for case in table["cases"]}) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", case["patient"]) for case in table["cases"]), "the store's keyed hashes"
    assert table["summary"]["baselines"]["input"]["mae"]["patients"] == 3
    assert table["summary"]["fake"]["mae"]["patients"] == 3
    assert (folder / "study" / "results" / "tiny-folds-2.html").is_file()


def test_folds_are_combined_if_one_has_no_patient_to_score(study, tmp_path, capsys):
    bring_together = runpy.run_path(str(PIPELINES / "cross_validate.py"))["bring_together"]
    folds = [tmp_path / "folds" / name for name in ("1-2", "2-2")]
    scored, other = (fold / "results" / "tiny" for fold in folds)
    table = tmp_path / "results" / "tiny-folds-2.json"
    for path in (scored, other, table.parent):
        path.mkdir(parents=True)
    shutil.copy(study[0] / "study" / "results" / "tiny" / "evaluation.json", scored)
    bring_together(tmp_path, folds, "tiny", {"1-2"})
    assert not table.exists(), "the other fold, of another shard, has not ended"
    (other / "distances.json").write_text("{}")
    bring_together(tmp_path, folds, "tiny", {"1-2"})
    assert len(json.loads(table.read_text())["cases"]) == 1
    assert "in fold 2-2, no held-out patient has both images" in capsys.readouterr().out
    table.unlink()
    (other / "distances.json").unlink()
    bring_together(tmp_path, folds, "tiny", {"1-2", "2-2"})
    assert table.exists(), "nobody was held out there"


def test_wrong_arguments_are_reported_in_one_line(study, tmp_path, capfd):
    assert run("train_and_report.py", tmp_path / "nowhere") == 1
    assert "prepare_cohort.py first" in capfd.readouterr().err
    assert run("translate_cohort.py", study[0] / "bids", tmp_path / "out", "--select", "T1w") == 2
    assert "an entity and its value" in capfd.readouterr().err
    command = [
        "translate_cohort.py",
        study[0] / "bids",
        tmp_path / "out",
        "--cluster",
        "local",
        "--logs",
        tmp_path / "l",
    ]
    assert run(*command, "--job", "no_such=1") == 2
    assert "no_such" in capfd.readouterr().err


@pytest.mark.parametrize("path", sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")]), ids=lambda p: p.name)
def test_launchers_are_sound_shell(path):
    """Launchers are parsed by bash, and checked with shellcheck if it is installed."""
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    if shutil.which("shellcheck"):
        checked = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout
    assert path.stat().st_mode & 0o100
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", path.read_text(), flags=re.M))
    if path.suffix == ".sbatch":
        assert {"requeue", "time", "open-mode"} <= options.keys()


def test_recipes_copy_existing_files_and_run_as_an_ordinary_user():
    root = PIPELINES.parent
    docker, apptainer = (LAUNCH / "Dockerfile").read_text(), (LAUNCH / "medcyclegan.def").read_text()
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", docker, flags=re.M) for word in line.split()}
    files = set(re.findall(r"^    (\S+) /(?:src|opt)/\S+$", apptainer, flags=re.M))
    assert copied == files
    assert all((root / name).exists() for name in copied)
    assert docker.index("USER 10001") < docker.index("ENTRYPOINT")
    if shutil.which("hadolint"):
        read = subprocess.run(["hadolint", LAUNCH / "Dockerfile"], capture_output=True, text=True)
        assert read.returncode == 0, read.stdout
    if shutil.which("shellcheck"):
        lines = "".join(re.findall(r"^%(?:post|environment|runscript)\n((?:    .*\n|\n)+)", apptainer, flags=re.M))
        read = subprocess.run(["shellcheck", "--shell=sh", "-"], input=lines, capture_output=True, text=True)
        assert read.returncode == 0, read.stdout
    extras = [re.search(r"/src\[([\w,]+)\]", recipe)[1] for recipe in (docker, apptainer)]
    assert extras[0] == extras[1]
