"""A failed measurement or preview never loses a translation: the volume is written first, the error is one line."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support import dicom_phantoms as made
from support.models import tiny_model
from support.phantoms import head_ct, make_affine, write_nifti

from medcyclegan import read_volume
from medcyclegan.cli.main import main
from medcyclegan.errors import IncompleteError
from medcyclegan.inference import TranslationOptions, translate_file

GRID = ((20, 24, 6), make_affine("LPS", (9.0, 9.0, 9.0)))
#: Stages after the volume: their name in the sidecar, and the phrase in the error.
STEPS = {
    "assess": ("quality", "its quality was not measured"),
    "uncertainty_map": ("uncertainty", "uncertainty.nii.gz was not written"),
    "preview": ("preview", "look.png was not written"),
}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_nifti(head_ct(*GRID), tmp_path / "in.nii.gz")
    made.save(made.slices_of(head_ct(*GRID)), tmp_path / "series")
    tiny_model().save(tmp_path / "model")
    return tmp_path


def translate(source, output, *more):
    beside = ["--uncertainty", "uncertainty.nii.gz", "--preview", "look.png"]
    return CliRunner().invoke(
        main, ["translate-volume", source, output, "--to", "mr", "--model", "model", *beside, *more]
    )


def fail(monkeypatch, step, error):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(sys.modules["medcyclegan.inference.translate_file"], step, failing)


@pytest.mark.parametrize("error", [ZeroDivisionError("float division by zero"), MemoryError(), KeyError("x")])
@pytest.mark.parametrize(("source", "output"), [("in.nii.gz", "out.nii.gz"), ("series", "out")])
@pytest.mark.parametrize("step", STEPS)
def test_a_failure_after_the_translation_keeps_it(workspace, monkeypatch, step, source, output, error):
    name, phrase = STEPS[step]
    fail(monkeypatch, step, error)
    result = translate(source, output)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert line.startswith(f"Error: {output} is written, but {phrase} ({type(error).__name__}")
    assert "Traceback" not in result.stderr
    assert read_volume(output).array.size == np.prod(GRID[0])
    record = json.loads((workspace / "out.json").read_text())
    assert record["failed"] == [name]
    assert set(record["seconds"]) == {"read", "translate", "write", "assess"}
    assert (record["quality"] is None) == (name == "quality")
    assert ("uncertainty" in record) == (name != "uncertainty")
    assert (workspace / "uncertainty.nii.gz").exists() == (name != "uncertainty")
    assert (workspace / "look.png").exists() == (name != "preview")
    monkeypatch.undo()
    monkeypatch.chdir(workspace)
    assert "exists: " in translate(source, output).stderr
    assert translate(source, output, "--overwrite").exit_code == 0
    assert "failed" not in json.loads((workspace / "out.json").read_text())


def test_all_failures_are_named(workspace, monkeypatch):
    for step in STEPS:
        fail(monkeypatch, step, RuntimeError(step))
    options = TranslationOptions(to="mr", uncertainty="uncertainty.nii.gz", preview="look.png")
    with pytest.raises(IncompleteError) as caught:
        translate_file("in.nii.gz", "out.nii.gz", "model", options)
    assert all(f"{phrase} (RuntimeError: {step})" in str(caught.value) for step, (_, phrase) in STEPS.items())
    assert json.loads((workspace / "out.json").read_text())["failed"] == ["quality", "uncertainty", "preview"]


def test_debug_shows_where_it_failed(workspace, monkeypatch):
    fail(monkeypatch, "assess", ZeroDivisionError("float division by zero"))
    result = translate("in.nii.gz", "out.nii.gz", "--debug")
    assert isinstance(result.exception, IncompleteError)
    assert "in failing" in result.stderr


def test_a_replaced_output_has_its_own_sidecar_at_once(workspace, monkeypatch):
    assert translate("in.nii.gz", "out.nii.gz").exit_code == 0
    seen = {}

    def look(*_, **__):
        seen.update(json.loads((workspace / "out.json").read_text()))
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules["medcyclegan.inference.translate_file"], "assess", look)
    assert translate("in.nii.gz", "out.nii.gz", "--overwrite", "--tta").exit_code == 1
    assert (seen["tta"], seen["quality"]) == (True, None), "the earlier sidecar does not lie beside the new volume"


def test_a_series_is_sent_though_it_could_not_be_judged(workspace, monkeypatch):
    sent = []
    monkeypatch.setattr("medcyclegan.io.dicom.network.send.check_node", lambda node: None)
    monkeypatch.setattr(
        "medcyclegan.io.dicom.network.send.send_series",
        lambda folder, *_, **__: sent.append(len(list(folder.iterdir()))),
    )
    fail(monkeypatch, "assess", ZeroDivisionError("float division by zero"))
    with pytest.raises(IncompleteError, match=r"^dicom://A@localhost:104 is sent, but its quality was not measured"):
        translate_file("series", "dicom://A@localhost:104", "model", TranslationOptions(to="mr"))
    assert sent == [GRID[0][2]]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_is_ended_while_it_is_judged_keeps_the_volume(workspace, how):
    code = (
        "import os, sys\nfrom medcyclegan.inference import translate_file as _\n"
        "module = sys.modules['medcyclegan.inference.translate_file']\n"
        f"module.assess = lambda *a, **k: os.kill(os.getpid(), {int(how)})\n"
        "from medcyclegan.cli.main import main\n"
        "main(['translate-volume', 'in.nii.gz', 'out.nii.gz', '--to', 'mr', '--model', 'model'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == (-9 if how == signal.SIGKILL else 1), ended.stderr
    assert read_volume("out.nii.gz").shape == GRID[0]
    record = json.loads((workspace / "out.json").read_text())
    assert (record["synthetic"], record["quality"], "seconds" in record) == (True, None, False)
    again = translate("in.nii.gz", "out.nii.gz")
    assert "exists: outputs are not replaced unless you pass --overwrite (the command that wrote this" in again.stderr
    assert translate("in.nii.gz", "out.nii.gz", "--overwrite").exit_code == 0
    assert not [path for path in workspace.iterdir() if path.name.startswith(".tmp-")]


@pytest.mark.parametrize("shape", [(16, 16, 5), (31, 16, 31), (8, 8, 1)])
def test_equal_slices_are_translated(workspace, shape):
    plane = np.where(np.random.default_rng(0).random((*shape[:2], 1)) > 0.5, 40, -1000).astype(np.int16)
    equal = head_ct(shape).replace(array=np.repeat(plane, shape[2], axis=2))
    write_nifti(equal, workspace / "equal.nii.gz")
    result = translate("equal.nii.gz", "out.nii.gz")
    assert result.exit_code == 0, result.stderr
    assert json.loads((workspace / "out.json").read_text())["quality"]["flicker"] is None


@pytest.mark.parametrize("shape", [(9, 1, 1), (1, 9, 1), (1, 1, 9), (9, 9, 1), (1, 9, 9)])
def test_lines_of_voxels_are_drawn(workspace, shape):
    values = np.where(np.arange(np.prod(shape)) % 3 > 0, 40, -1000).astype(np.int16).reshape(shape)
    write_nifti(head_ct(shape).replace(array=values), workspace / "line.nii.gz")
    result = translate("line.nii.gz", "out.nii.gz")
    assert result.exit_code == 0, result.stderr
    assert Path("look.png").stat().st_size > 0
