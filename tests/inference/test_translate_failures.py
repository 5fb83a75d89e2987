"""Failures around a translation are one line and damage nothing: disk, folder, model, kill."""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from support import dicom_phantoms as made
from support.models import GREY, MR, tiny_model
from support.phantoms import head_ct, head_mr, make_affine, write_nifti

from medcyclegan.cli.main import main
from medcyclegan.model import DomainModel

NOBODY = 65534


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_nifti(head_ct(), tmp_path / "ct.nii.gz")
    write_nifti(head_mr(), tmp_path / "mr.nii.gz")
    made.save(made.slices_of(head_ct((20, 24, 6), make_affine("LPS", (9.0, 9.0, 9.0)))), tmp_path / "series")
    tiny_model().save(tmp_path / "model")
    return tmp_path


def translate(*arguments):
    return CliRunner().invoke(main, ["translate-volume", *arguments, "--model", "model"])


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def failure(result):
    """Return the one line of a failure."""
    assert result.exit_code == 1, result.output
    assert (result.stdout, "Traceback" in result.stderr) == ("", False)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@contextlib.contextmanager
def files_of_at_most(size):
    """Limit files to ``size`` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_volume_of_the_wrong_modality(workspace):
    before = contents(workspace)
    assert re.search(
        "input is CT.*but the model's mr is MR: .*--force", failure(translate("series", "o", "--to", "ct"))
    )
    line = failure(translate("ct.nii.gz", "o.nii.gz", "--to", "ct"))
    assert re.search(r"CT \(in HU\), but the model's mr is MR: .*--force", line)
    line = failure(translate("mr.nii.gz", "o.nii.gz", "--to", "mr"))
    assert re.search("not in HU.*--to", line)
    assert contents(workspace) == before
    forced = translate("ct.nii.gz", "o.nii.gz", "--to", "ct", "--force")
    assert forced.exit_code == 0
    assert json.loads((workspace / "o.json").read_text())["quality"]["verdict"] == "doubtful"


def test_a_wrong_model(workspace):
    before = contents(workspace)
    assert "holds no model.json" in failure(
        CliRunner().invoke(main, ["translate-volume", "ct.nii.gz", "o.nii.gz", "--model", "series"])
    )
    tiny_model(DomainModel("t1", "MR", MR), DomainModel("t2", "MR", MR)).save(workspace / "m")
    two = ["translate-volume", "ct.nii.gz", "o.nii.gz", "--to", "mr", "--model", "model", "--model", "m"]
    assert "--model number 2 has other domains" in failure(CliRunner().invoke(main, two))
    one = ["translate-volume", "ct.nii.gz", "o.nii.gz", "--to", "t2", "--model", "m"]
    assert "--force" in failure(CliRunner().invoke(main, one))
    weights = workspace / "m" / "G_AB.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "SHA-256 differs" in failure(CliRunner().invoke(main, one))
    after = {name: content for name, content in contents(workspace).items() if name.parts[0] != "m"}
    assert after == before


@pytest.mark.parametrize("output", ["o.nii", "o.nii.gz", "o.mha", "o.nrrd", "series-out"])
@pytest.mark.parametrize("size", [0, 1024])
def test_a_full_disk(workspace, output, size):
    source = "series" if output == "series-out" else "ct.nii.gz"
    before = contents(workspace)
    with files_of_at_most(size):
        line = failure(translate(source, output, "--to", "mr"))
    assert "cannot be written" in line
    assert contents(workspace) == before
    assert translate(source, output, "--to", "mr").exit_code == 0
    kept = contents(workspace)
    with files_of_at_most(size):
        failure(translate(source, output, "--to", "mr", "--overwrite"))
    assert contents(workspace) == kept, "what was there is still there"


def test_a_full_disk_for_the_sidecar_leaves_no_output_without_one(workspace, monkeypatch):
    tiny_model(*(DomainModel(name, None, GREY) for name in "ab")).save(workspace / "grey")
    write_nifti(head_mr((8, 8, 1)), workspace / "small.nii.gz")
    arguments = ["translate-volume", "small.nii.gz", "o.nii.gz", "--to", "b", "--model", "grey"]
    before = contents(workspace)
    with files_of_at_most(1500):
        failure(CliRunner().invoke(main, arguments))
    assert contents(workspace) == before
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (workspace / "o.nii.gz").stat().st_size < 1500 < (workspace / "o.json").stat().st_size


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to act as nobody; test_slice_and_translate has the other way")
@pytest.mark.parametrize("output", ["o.nii.gz", "out"])
def test_a_folder_that_may_not_be_written(workspace, output):
    (workspace / "locked").mkdir(mode=0o555)
    for place in (workspace, workspace / "series"):  # nobody can read the input
        place.chmod(0o755)
    before = contents(workspace)
    os.seteuid(NOBODY)
    try:
        line = failure(translate("ct.nii.gz" if "." in output else "series", f"locked/{output}", "--to", "mr"))
    finally:
        os.seteuid(0)
    assert re.search("locked.*(Permission denied|not writable)", line)
    assert contents(workspace) == before


def test_an_existing_output_is_kept(workspace):
    for name in ("o.nii.gz", "out", "taken.json", "uncertainty.nii.gz", "p.png"):
        (workspace / name).write_text("precious")
    before = contents(workspace)
    for arguments in (
        ("ct.nii.gz", "o.nii.gz"),
        ("series", "out"),
        ("ct.nii.gz", "taken.nii.gz"),
        ("ct.nii.gz", "new.nii.gz", "--uncertainty", "uncertainty.nii.gz"),
        ("ct.nii.gz", "new.nii.gz", "--preview", "p.png"),
    ):
        line = failure(translate(*arguments, "--to", "mr"))
        assert re.search("exists: .*--overwrite|is a file, and a name without an ending means a folder", line)
    assert contents(workspace) == before


#: A script that exits (or stops and waits) at the n-th flush of a file to disk, in the middle of a write.
STOP = """
import os, signal, sys, time
how, left = sys.argv[1], int(sys.argv[2])
flush = os.fsync
def fsync(descriptor):
    global left
    left -= 1
    if left == 0 and how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if left == 0:
        print("in mid-write", flush=True)
        time.sleep(60)
    flush(descriptor)
os.fsync = fsync
from medcyclegan.cli.main import main
main(["translate-volume", *sys.argv[3:], "--to", "mr", "--model", "model"])
"""


@pytest.mark.parametrize(("source", "output", "flushes"), [("ct.nii.gz", "o.nii.gz", 1), ("series", "out", 3)])
def test_killed_in_mid_write(workspace, source, output, flushes):
    assert translate(source, output, "--to", "mr").exit_code == 0
    before = contents(workspace)
    command = [sys.executable, "-c", STOP, "kill", str(flushes), source, output, "--overwrite"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    after = contents(workspace)
    assert {name: content for name, content in after.items() if ".tmp-" not in str(name)} == before
    assert len(after) > len(before), "it was killed in mid-write"
    assert translate(source, output, "--to", "mr", "--overwrite").exit_code == 0
    assert translate(source, f"new-{output}", "--to", "mr").exit_code == 0


def test_a_refused_command_clears_what_a_killed_one_left(workspace):
    (workspace / "o.nii.gz").write_bytes(b"an earlier output")
    left = workspace / ".tmp-0123abcd-o.json"
    left.write_text("half a sidecar")
    assert "o.nii.gz exists" in failure(translate("ct.nii.gz", "o.nii.gz", "--to", "mr"))
    assert not left.exists()


def test_ended_in_mid_write(workspace):
    before = contents(workspace)
    command = [sys.executable, "-c", STOP, "wait", "1", "ct.nii.gz", "o.nii.gz"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in mid-write\n"
        assert len(contents(workspace)) > len(before)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("Error: stopped by SIGTERM")
    assert "Traceback" not in errors
    assert contents(workspace) == before
