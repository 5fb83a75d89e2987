"""Every command of the documentation runs, page by page, as a new user would type it, on synthetic phantoms.

Only trainings are shortened (few filters, two steps), and fewer phantoms and folds are used: see SHORTER. Blocks whose
title says that they need a cluster or a browser, and commands that install or build, are only parsed, by test_docs.py.
"""

import dataclasses
import glob
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from model.test_public_weights import PublicResnet, initialised
from PIL import Image
from support import dicom_phantoms as made
from support.cohorts import make_cohort
from support.dicom_node_server import make_certificate, running_node
from support.dicomweb_server import archive_of, running_service
from support.label_phantoms import write_labels
from support.models import tiny_model
from support.orthanc_server import free_port
from support.phantoms import head_ct, head_mr, make_affine, write_nifti

import medcyclegan.config
from medcyclegan.cli.main import main
from medcyclegan.cli.slicer import command as slicer
from medcyclegan.intensity import IntensityScaling
from medcyclegan.metrics import TissueMeans
from medcyclegan.model import DomainModel
from medcyclegan.model.training_set import TrainingSet
from medcyclegan.service.node import Service

ROOT = Path(__file__).parents[2]
SHAPE, PLACE = (24, 28, 16), make_affine("LPS", (8.0, 8.0, 12.0), rotation_degrees=(4.0, 0.0, 3.0))
MR = IntensityScaling("percentile", 0.0, 900.0, "arbitrary units")
SHORTER = {
    "--patients 20": "--patients 2 --spacing-mm 6",
    "demo --out demo": "demo --out demo --heads 2 1",
    " --max-steps 20000": "",
    "--folds 5": "--folds 2",
    "--cases patients": "--cases patients --steps 20",
    "scaling.py 10 100 1000": "scaling.py 2",
}
TRAINING = [
    "networks.generator.filters=2",
    "networks.discriminator.filters=2",
    "training.max_steps=2",
    "training.panel_every=2",
    "validation.slices=2",
    "pretraining.patients_at_once=1",
    "pretraining.slices_per_patient=2",
    "pretraining.reference_patients=1",
    "pretraining.validation_patients=1",
    "pretraining.workers=0",
]
#: The README's commands are in indented lines.
README_LINE = re.compile(r"^    ((?:medcyclegan|python) .*)$", re.M)
INSTALLS = ("make", "pip")
BLOCK = re.compile(r"^```(?P<language>sh|python)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<text>.*?)^```", re.M | re.S)


def series(volume, folder, seed):
    made.save(made.slices_of(volume, seed=seed), folder)


def three_commands():
    for n in range(5):
        write_nifti(head_mr(SHAPE, PLACE, seed=n), Path("volumes/t1") / f"p{n}.nii.gz")
        write_nifti(head_mr(SHAPE, PLACE, seed=9 + n, inverted=True), Path("volumes/t2") / f"q{n}.nii.gz")
    write_nifti(head_mr(SHAPE, PLACE, seed=30), Path("in.nii.gz"))


def patients_with_both():
    three_commands()
    for file in Path("volumes/t2").iterdir():
        file.rename(file.with_name(file.name.replace("q", "p")))


def many_scanners():
    three_commands()
    Path("volumes/t1").rename("volumes/scanners")
    Path("volumes/t2").rename("volumes/reference")


def first_screen():
    three_commands()
    for name in ("t1", "brain_t1"):
        write_nifti(head_mr((24, 28, 4), PLACE), Path(f"{name}.nii.gz"))


def label_maps():
    for n in range(2):
        write_labels(Path("labels") / f"head-{n}.nii.gz")
    for name in ("t1", "t2"):
        write_nifti(head_mr(SHAPE, PLACE, inverted=name == "t2"), Path("volumes") / name / "a.nii.gz")
    write_nifti(head_mr(SHAPE, PLACE), Path("in.nii.gz"))
    assert CliRunner().invoke(main, ["slice-volumes"]).exit_code == 0


def pacs_export():
    for n in range(3):
        series(head_ct(SHAPE, PLACE, seed=n), Path("export") / f"A{n}", f"ct{n}")
        series(head_mr(SHAPE, PLACE, seed=n), Path("export") / f"B{n}", f"mr{n}")


def shuffled_export():
    for n in range(3):
        for head, name in ((head_ct, "Head H31s"), (head_mr, "T1 tse")):
            slices = made.slices_of(head(SHAPE, PLACE, seed=n), seed=f"{name}{n}")
            for k, dataset in enumerate(slices):
                dataset.PatientID, dataset.SeriesDescription = f"P{n}", name
                made.save([dataset], Path("export") / f"CD{k % 3}", name=lambda _, i=f"{name[0]}{n}{k:03}": f"IM{i}")


def image_sets():
    random = np.random.default_rng(0)
    for name in ("trainA", "trainB", "testA", "testB"):
        for n in range(1, 4):
            path = Path("ct2mr") / name / f"{'ct' if name.endswith('A') else 'mr'}{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (40, 48), dtype=np.uint8)).save(path)


def bids():
    make_cohort(Path("bids"), 6, SHAPE)
    for n in (0, 1, 2):  # what make_cohort breaks
        for suffix in ("T1w", "T2w"):
            whole = Path(f"bids/sub-05/anat/sub-05_{suffix}.nii.gz").read_bytes()
            Path(f"bids/sub-{n:02d}/anat/sub-{n:02d}_{suffix}.nii.gz").write_bytes(whole)


def public_files():
    Path("checkpoints/ct2mr").mkdir(parents=True)
    for seed, name in enumerate(("A", "B")):
        weights = initialised(PublicResnet(2, 9), seed).state_dict()
        torch.save(weights, f"checkpoints/ct2mr/latest_net_G_{name}.pth")
    write_nifti(head_ct(SHAPE, PLACE), Path("in.nii.gz"))
    for name, head in (("ct", head_ct), ("mr", head_mr)):
        for n in range(2):
            write_nifti(head(SHAPE, PLACE, seed=n), Path("volumes") / name / f"{name}{n}.nii.gz")
    assert CliRunner().invoke(main, ["slice-volumes", "--fit", "stretch"]).exit_code == 0


def to_a_node():
    tiny_model().save("runs/latest/model")
    series(head_ct((20, 24, 4), make_affine("LPS", (9.0, 9.0, 9.0))), Path("series_folder"), "ct")
    series(head_ct(SHAPE, PLACE), Path("original_series"), "original")
    write_nifti(head_mr(SHAPE, PLACE), Path("in.nii.gz"))


def at_a_server():
    tiny_model().save("runs/latest/model")
    images = made.slices_of(head_ct((20, 24, 4), make_affine("LPS", (9.0, 9.0, 9.0))))
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    made.save(images, Path("archive"))


def dicom_node():
    shutil.copy(ROOT / "examples" / "serve_rules.yaml", "rules.yaml")
    make_certificate(Path())


def own_code():
    tiny_model(DomainModel("t1", "MR", MR), DomainModel("t2", "MR", MR)).save("runs/latest/model")
    series(head_mr(SHAPE, PLACE), Path("series_folder"), "mr")
    write_nifti(head_mr(SHAPE, PLACE), Path("in.nii.gz"))


def one_and_many():
    own_code()
    for n in range(2):
        series(head_mr(SHAPE, PLACE, seed=n), Path("export") / f"A{n}", f"mr{n}")
    series(head_ct(SHAPE, PLACE), Path("export") / "B", "ct")
    write_nifti(head_mr(SHAPE, PLACE), Path("export/head.nii.gz"))


def scored():
    means = TissueMeans((-0.8,), (300.0, 40.0), "shares", 5)
    known = TrainingSet(5, (0.0,) * 64, 0.1, (8.0, 8.0), (12.0, 12.0), {"axial": 5}, means)
    dataclasses.replace(tiny_model(), provenance={"training_set": {"ct": known.to_dict()}}).save("runs/latest/model")
    for n in range(3):
        for folder, head in (("true_ct", head_ct), ("mr", head_mr)):
            write_nifti(head(SHAPE, PLACE, seed=n), Path(folder) / f"p{n}.nii.gz")
        for seed, folder in ((10, "synthetic_ct"), (20, "other_ct")):
            write_nifti(head_ct(SHAPE, PLACE, seed=seed + n), Path(folder) / f"p{n}.nii.gz")
    rows = [f"synthetic_ct/p{n}.nii.gz,true_ct/p{n}.nii.gz,{n // 2}" for n in range(3)]
    Path("pairs.csv").write_text("\n".join(["fake,reference,patient", *rows]) + "\n")


def patients_with_truth():
    own_code()
    for n in range(14):
        for name in ("t1", "t2"):
            write_nifti(
                head_mr(SHAPE, PLACE, seed=n, inverted=name == "t2"), Path("patients") / name / f"p{n:02d}.nii.gz"
            )


#: Prepares the folder in which the commands of a page are run.
PREPARED = {
    "README": first_screen,
    "index": three_commands,
    "tutorial": lambda: None,
    "scaling": lambda: None,
    "howto/train": patients_with_both,
    "howto/translate": one_and_many,
    "howto/export": own_code,
    "howto/ct_to_mr_pacs": pacs_export,
    "howto/sort_export": shuffled_export,
    "howto/t1_to_t2_bids": bids,
    "howto/image_folders": image_sets,
    "howto/patients": three_commands,
    "howto/synthetic_heads": label_maps,
    "howto/shipped_models": lambda: write_nifti(head_mr(SHAPE, PLACE), Path("t1.nii.gz")),
    "howto/public_weights": public_files,
    "howto/send_to_pacs": to_a_node,
    "howto/dicomweb": at_a_server,
    "howto/slicer": lambda: None,
    "howto/evaluate": scored,
    "howto/calibrate": patients_with_truth,
    "howto/own_monai_code": own_code,
    "howto/dicom_node": dicom_node,
    "howto/federated": three_commands,
    "howto/harmonise": many_scanners,
}


def blocks(page):
    """The language, the title and the text of each block of commands or of Python; a command is a line."""
    if page == "README":
        lines = README_LINE.findall((ROOT / "README.md").read_text())
        return [("sh", None, "\n".join(lines))]
    found = BLOCK.finditer((ROOT / "docs" / f"{page}.md").read_text())
    return [(b["language"], b["title"], b["text"].replace("\\\n", " ")) for b in found]


def test_no_page_with_commands_is_left_out():
    for path in (ROOT / "docs").rglob("*.md"):
        page = path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        for language, title, text in blocks(page):
            if title or page in PREPARED:
                continue
            for line in text.splitlines():
                assert (language, line.split()[0] in INSTALLS) == ("sh", True), f"{page}: {line}"


@pytest.mark.parametrize("page", PREPARED)
@pytest.mark.filterwarnings("ignore::UserWarning:monai", "ignore::DeprecationWarning:pynetdicom")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_commands_run_as_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PREPARED[page]()
    shorten_trainings(monkeypatch)
    names = {}
    for language, title, text in blocks(page):
        if title:
            continue
        if language == "python":
            exec(text, names)  # noqa: S102
            continue
        for line in text.splitlines():
            run(line.split("  #")[0].strip(), monkeypatch)


def shorten_trainings(monkeypatch):
    """Make every configuration that a command asks for small; scripts that are started run in this process."""
    load = medcyclegan.config.load_config
    monkeypatch.setattr(
        medcyclegan.config, "load_config", lambda name="default", sets=(): load(name, [*sets, *TRAINING])
    )
    monkeypatch.setattr(
        "medcyclegan.training.run.shipped_start.load_config",
        lambda name="default", sets=(): load(name, [*sets, *TRAINING]),
    )
    start = subprocess.run

    def run_script(words, **options):
        if words[0] != sys.executable or not words[1].endswith(".py"):
            return start(words, **options)
        return subprocess.CompletedProcess(words, script(words[1:], monkeypatch))

    monkeypatch.setattr(subprocess, "run", run_script)


def run(line, monkeypatch):
    for long, short in SHORTER.items():
        line = line.replace(long, short)
    program, *words = shlex.split(line)
    if words[0] == "serve":
        # it starts, and stops at once instead of waiting; the addresses of other machines become this one's
        words = [word.replace("0.0.0.0", "127.0.0.1") for word in words]  # noqa: S104
        with monkeypatch.context() as patch:
            patch.setattr(Service, "wait", lambda _service, _stop: None)
            command([*words, "--port", str(free_port()), "--health-port", str(free_port())], line)
    elif "4242" in line:
        with running_node(called="ORTHANC") as node:
            words = [word.replace("4242", str(node.port)) for word in words]
            command(words, line) if program == "medcyclegan" else module(words, line)
            assert node.images
    elif found := re.search(r"https://pacs.example/dicom-web|http://127.0.0.1:8042/dicom-web", line):
        kept = sorted(Path("archive").iterdir()) if Path("archive").is_dir() else sorted(Path().rglob("*.dcm"))
        with running_service(archive_of(kept)) as (service, received):
            command([word.replace(found[0], service) for word in words], line)
            assert received
    elif program == "python" and words[0] == "-m":
        module(words, line)
    elif program == "medcyclegan":
        command(words, line)
    elif program == "medcyclegan-slicer":
        assert CliRunner().invoke(slicer, words).exit_code == 0, line
    else:
        assert program == "python"
        assert script([str(ROOT / words[0]), *words[1:]], monkeypatch) == 0, line


def command(words, line):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, f"{line}: {result.output}"
    if words[0] == "train" and "--config" in words:
        assert "the slices were made with" not in result.output, "slice-volumes needs the configuration too"


def module(words, line):
    """Run ``python -m`` in a process of its own; patterns of files are expanded, as by a shell."""
    expanded = [path for word in words for path in (sorted(glob.glob(word)) if "*" in word else [word])]
    done = subprocess.run([sys.executable, *expanded], capture_output=True, text=True)
    assert done.returncode == 0, f"{line}: {done.stderr}"


def script(words, monkeypatch):
    """Run a script as a program in this process, where the imports are paid for; return its exit code."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(words[0], run_name="__main__")
    return ended.value.code or 0


def test_the_way_from_an_export_to_an_archive_has_at_most_ten_commands():
    """The benchmark runs the commands of the page, not a list of its own."""
    script = runpy.run_path(str(ROOT / "tests" / "benchmarks" / "afternoon.py"))
    commands = script["page_commands"]()
    assert commands[0] == "medcyclegan inspect export"
    assert len(commands) <= 10
    assert script["final_text"]("a\r\nbar 1\r\x1b[2Kbar 2\r\x1b[2K\x1b[1A\x1b[2Kb\r\n") == "b\n"
