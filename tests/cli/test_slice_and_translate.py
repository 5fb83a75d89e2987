"""The commands ``slice-volumes`` and ``translate-volume`` in real processes; every mistake gives one line."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from support.models import tiny_model
from support.phantoms import head_ct, head_mr, write_nifti

from medcyclegan.cli.main import main


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_nifti(head_ct(), tmp_path / "volumes" / "ct" / "a.nii.gz")
    write_nifti(head_mr(), tmp_path / "volumes" / "mr" / "b.nii.gz")
    tiny_model().save(tmp_path / "runs" / "latest" / "model")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_the_bare_commands_run_as_processes(workspace):
    sliced = subprocess.run(
        [sys.executable, "-m", "medcyclegan", "slice-volumes"], capture_output=True, text=True, cwd=workspace
    )
    assert (sliced.returncode, sliced.stdout) == (0, "slices\n"), sliced.stderr
    assert "1 volume (1 train), 20 slices (20 train)" in sliced.stderr
    done = subprocess.run(
        [sys.executable, "-m", "medcyclegan", "translate-volume", "volumes/ct/a.nii.gz", "out.nii.gz"],
        capture_output=True, text=True, cwd=workspace,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "out.nii.gz\n"), done.stderr
    assert "translating to mr (choose with --to ct or --to mr)" in done.stderr
    assert all(line.isprintable() for line in (sliced.stderr + done.stderr).splitlines()), "no bar in a pipe"
    assert np.array_equal(nib.load("out.nii.gz").affine, nib.load("volumes/ct/a.nii.gz").affine)


def test_quiet_prints_only_the_result(workspace):
    result = run("slice-volumes", "-q")
    assert (result.stdout, result.stderr) == ("slices\n", "")


def test_a_refused_volume_is_exit_code_1_and_the_rest_is_done(workspace):
    (workspace / "volumes" / "ct" / "broken.nii").write_text("x")
    result = run("slice-volumes")
    assert result.exit_code == 1
    assert result.stdout == "slices\n"
    assert "1 volume was refused" in result.stderr
    assert "broken.nii" in result.stderr


def test_a_split_file_is_written_to_be_corrected(workspace):
    result = run("slice-volumes", "--write-split-file", "split.csv")
    assert (result.exit_code, result.stdout) == (0, "split.csv\n"), result.output
    assert "patient | split | cases" in result.stderr
    assert (workspace / "split.csv").read_text().splitlines() == [
        "case,patient,split,source", "ct/a,a,train,name", "mr/b,b,train,name",
    ]  # fmt: skip
    assert not (workspace / "slices").exists()
    assert "exists" in run("slice-volumes", "--write-split-file", "split.csv").stderr
    (workspace / "split.csv").write_text("case,patient,split\nct/a,x,test\n")
    assert run("slice-volumes", "--split-file", "split.csv").exit_code == 0


def test_what_is_missing_is_removed_or_kept(workspace):
    write_nifti(head_ct(seed=1), workspace / "volumes" / "ct" / "c.nii.gz")
    run("slice-volumes")
    (workspace / "volumes" / "ct" / "c.nii.gz").unlink()
    assert "--keep-missing keeps" in run("slice-volumes", "--keep-missing").stderr
    assert len(list((workspace / "slices" / "ct").glob("*.npy"))) == 2
    assert "the slices are removed" in run("slice-volumes").stderr
    assert len(list((workspace / "slices" / "ct").glob("*.npy"))) == 1


def test_options_reach_the_slices(workspace):
    assert run("slice-volumes", "--size", "64", "--fit", "stretch", "--dtype", "float32", "--out", "s").exit_code == 0
    (stack,) = (workspace / "s" / "ct").glob("*.npy")
    assert np.load(stack).shape[1:] == (64, 64)
    assert np.load(stack).dtype == np.float32


def test_registration_is_an_option(workspace):
    (workspace / "volumes" / "mr" / "b.nii.gz").rename(workspace / "volumes" / "mr" / "a.nii.gz")
    shifted = head_mr().affine @ np.array([[1, 0, 0, 1.5], [0, 1, 0, -1.0], [0, 0, 1, 0.5], [0, 0, 0, 1.0]])
    write_nifti(head_mr(affine=shifted), workspace / "volumes" / "mr" / "a.nii.gz")
    result = run("slice-volumes", "--register")
    assert result.exit_code == 0, result.stderr
    assert json.loads((workspace / "slices" / "run.json").read_text())["registered"] == 1
    refused = run("slice-volumes", "volumes/mr", "--domain", "mr", "--out", "other", "--register")
    assert refused.exit_code == 2
    assert "it needs the volumes of both domains in one call" in refused.stderr


def test_the_first_volume_of_a_series_can_be_chosen(workspace):
    series = np.stack([head_mr().array, 0 * head_mr().array], axis=3)
    nib.save(nib.Nifti1Image(series, np.eye(4)), workspace / "4d.nii.gz")
    result = run("translate-volume", "4d.nii.gz", "out.nii.gz", "--to", "ct", "--volume", "0")
    assert result.exit_code == 0, result.output
    assert nib.load("out.nii.gz").shape == series.shape[:3]


CASES = {
    "missing input": (["translate-volume", "nothing.nii.gz", "o.nii.gz"], 1, "no such file or folder"),
    "missing folder": (["slice-volumes", "nothing"], 1, "no such file or folder"),
    "empty folder": (["slice-volumes", "empty"], 1, "holds no folders"),
    "text as NIfTI": (["translate-volume", "text.nii.gz", "o.nii.gz"], 1, "text.nii.gz"),
    "unknown domain": (["translate-volume", "volumes/ct/a.nii.gz", "o.nii.gz", "--to", "pet"], 1, "--to pet"),
    "output exists": (["translate-volume", "volumes/ct/a.nii.gz", "there.nii.gz"], 1, "--overwrite"),
    "no model": (["translate-volume", "volumes/ct/a.nii.gz", "o.nii.gz", "--model", "empty"], 1, "holds no model.json"),
    "no model folder": (["translate-volume", "volumes/ct/a.nii.gz", "o.nii.gz", "--model", "no"], 1, "neither"),
    "model without weights": (
        ["translate-volume", "volumes/ct/a.nii.gz", "o.nii.gz", "--model", "hollow"], 1, "incomplete",
    ),
    "NaN": (["translate-volume", "nan.nii.gz", "o.nii.gz", "--to", "ct"], 1, "--nan fill"),
    "4-D": (["translate-volume", "4d.nii.gz", "o.nii.gz", "--to", "ct"], 1, "--volume"),
    "volume out of range": (["translate-volume", "4d.nii.gz", "o.nii.gz", "--volume", "3"], 1, "--volume 3"),
    "negative volume": (["translate-volume", "4d.nii.gz", "o.nii.gz", "--volume", "-1"], 2, "from 0"),
    "no voxels": (["translate-volume", "4d.nii.gz", "o.nii.gz", "--max-voxels", "0"], 2, "--max-voxels 0"),
    "unknown key": (["slice-volumes", "--config", "wrong.yaml"], 1, "did you mean 'slicing'"),
    "unknown config": (["slice-volumes", "--config", "smok"], 1, "did you mean 'smoke'"),
    "output is no folder": (["translate-volume", "volumes/ct/a.nii.gz", "text.nii.gz/o.nii.gz"], 1, "is not a folder"),
    "no CUDA": (["translate-volume", "volumes/ct/a.nii.gz", "o.nii.gz", "--device", "tpu"], 2, "--device tpu"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line(case, workspace):
    (workspace / "empty").mkdir()
    (workspace / "text.nii.gz").write_text("not a volume")
    (workspace / "there.nii.gz").write_text("precious")
    (workspace / "wrong.yaml").write_text("slicin: {size: 64}\n")
    tiny_model().save(workspace / "hollow")
    (workspace / "hollow" / "G_AB.safetensors").unlink()
    nan = head_mr()
    nan.array[3, 3, 3] = np.nan
    write_nifti(nan, workspace / "nan.nii.gz")
    series = np.stack([head_mr().array] * 3, axis=3)
    nib.save(nib.Nifti1Image(series, np.eye(4)), workspace / "4d.nii.gz")
    before = sorted(workspace.rglob("*"))
    arguments, code, message = CASES[case]
    result = run(*arguments)
    assert result.exit_code == code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.output
    assert sorted(workspace.rglob("*")) == before, "nothing is left behind"
    assert (workspace / "there.nii.gz").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; test_storage checks the message")
def test_an_unwritable_folder_is_a_line(workspace):
    (workspace / "locked").mkdir(mode=0o500)
    result = run("translate-volume", "volumes/ct/a.nii.gz", "locked/o.nii.gz")
    assert result.exit_code == 1
    assert "not writable" in result.stderr


def test_debug_shows_the_traceback(workspace):
    result = run("slice-volumes", "nothing", "--debug")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "ReadError"
