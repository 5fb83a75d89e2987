"""pipelines/slice_train_translate.py: all steps in a workspace, twice, with one broken volume."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from support.phantoms import head_mr, write_nifti

from medcyclegan import slice_volumes, train
from medcyclegan.config import load_config

SCRIPT = Path(__file__).parents[2] / "pipelines" / "slice_train_translate.py"


def run(workspace, *arguments):
    command = [sys.executable, SCRIPT, workspace, "--config", "smoke", *arguments]
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def test_the_whole_way_and_again(tmp_path):
    for n in range(2):
        write_nifti(head_mr(seed=n), tmp_path / "volumes" / "t1" / f"p{n}.nii.gz")
        write_nifti(head_mr(seed=n, inverted=True), tmp_path / "volumes" / "t2" / f"q{n}.nii.gz")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    for n in range(2):
        before = nib.load(tmp_path / "volumes" / "t1" / f"p{n}.nii.gz")
        after = nib.load(tmp_path / "translated" / "t2" / f"p{n}.nii.gz")
        assert after.shape == before.shape
        assert np.array_equal(after.affine, before.affine)
    weights = (tmp_path / "runs" / "latest" / "model" / "G_AB.safetensors").read_bytes()

    (tmp_path / "volumes" / "t1" / "broken.nii.gz").write_text("no volume")
    again = run(tmp_path)
    assert again.returncode == 1
    assert "broken.nii.gz" in again.stderr
    assert again.stdout == "", "what stands is not done again"
    assert len(list((tmp_path / "runs").iterdir())) == 2, "one run and latest"
    assert (tmp_path / "runs" / "latest" / "model" / "G_AB.safetensors").read_bytes() == weights


def test_the_same_volumes_make_the_same_model_in_another_place(tmp_path):
    for n in range(3):
        write_nifti(head_mr(seed=n), tmp_path / "volumes" / "t1" / f"p{n}.nii.gz")
        write_nifti(head_mr(seed=n, inverted=True), tmp_path / "volumes" / "t2" / f"q{n}.nii.gz")
    models = []
    for name in ("here", "there"):
        config = load_config("smoke", ["training.max_steps=4"])
        slice_volumes(tmp_path / "volumes", tmp_path / name / "slices", config=config)
        run = train(tmp_path / name / "slices", config=config, out=tmp_path / name / "runs", device="cpu")
        models.append([(run / "model" / f"{part}.safetensors").read_bytes() for part in ("G_AB", "G_BA")])
    assert models[0] == models[1]
