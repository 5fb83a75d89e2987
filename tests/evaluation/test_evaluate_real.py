"""Real scans: T1 taken as T2, on one grid and on two, with and without registration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from medcyclegan.cli import main

DATA = Path(__file__).parents[3] / "shared/data/nifti"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real scans of ../shared/data are not here"),
]


def evaluate(*arguments):
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_one_grid():
    folder = DATA / "cstar_stroke_coreg"
    scores = evaluate(folder / "t1.nii.gz", folder / "t2.nii.gz", "--input", folder / "t1.nii.gz")
    assert scores["notes"] == []
    assert -0.7 < scores["ncc"] < -0.5, "T1 and T2 are each other's inverse in the brain"
    for name in ("mae", "psnr", "ms_ssim", "mae_2023", "psnr_2023", "ssim_2023"):
        assert scores[name] == scores["baselines"]["input"][name], "the input is the fake here"


def test_two_grids_and_registration():
    """The patient moved between the scans: registration finds a few mm, and the agreement improves."""
    folder = DATA / "openms_patient12"
    plain = evaluate(folder / "t1.nii.gz", folder / "t2.nii.gz")
    assert plain["notes"] == [
        "fake: 256x256x48 voxels of 0.9102x0.9102x3 mm, resampled linearly to the grid of the reference"
    ]
    moved = evaluate(folder / "t1.nii.gz", folder / "t2.nii.gz", "--register", "rigid")
    assert moved["notes"][0].startswith("registered rigidly")
    assert moved["ncc"] > plain["ncc"] + 0.05
    assert moved["psnr"] > plain["psnr"]
