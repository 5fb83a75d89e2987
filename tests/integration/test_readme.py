"""The README's commands: every one parses; the three of the first screen do what it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import nibabel as nib
import numpy as np
import pytest
from support.phantoms import head_mr, make_affine, write_nifti

from medcyclegan.cli.main import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands():
    lines = re.findall(r"^    (medcyclegan .*)$", README, flags=re.M)
    return sorted({line.split("  #")[0].strip() for line in lines})


def test_it_has_at_most_150_lines():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("line", commands())
def test_every_command_parses(line):
    name, *arguments = shlex.split(line)[1:]
    command = main.get_command(click.Context(main), name)
    assert command is not None, name
    with command.make_context(name, arguments, resilient_parsing=False):
        pass


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_files_that_are_named_exist():
    for name in re.findall(r"\]\((?!http)([\w./-]+)\)|`((?:docs|examples|pipelines)/[\w./-]+\.\w+)`", README):
        assert (ROOT / (name[0] or name[1])).exists(), name


def test_the_first_screen_works_as_written(tmp_path):
    """slice-volumes, train and translate-volume with no argument more than the README gives them.

    Only the training is shortened, by a configuration file's values that ``--config smoke`` names.
    """
    place = make_affine("LPS", (5.0, 5.0, 8.0), rotation_degrees=(4.0, 0.0, 3.0))
    for n in range(2):
        write_nifti(head_mr(affine=place, seed=n), tmp_path / "volumes" / "t1" / f"p{n}.nii.gz")
        write_nifti(head_mr(affine=place, seed=n, inverted=True), tmp_path / "volumes" / "t2" / f"q{n}.nii.gz")
    write_nifti(head_mr(affine=place, seed=9), tmp_path / "in.nii.gz")
    for line in ("slice-volumes", "train --config smoke", "translate-volume in.nii.gz out.nii.gz"):
        run = subprocess.run(
            [sys.executable, "-m", "medcyclegan", *line.split()], cwd=tmp_path, capture_output=True, text=True
        )
        assert run.returncode == 0, f"{line}: {run.stderr}"
        assert "Traceback" not in run.stderr
    before, after = nib.load(tmp_path / "in.nii.gz"), nib.load(tmp_path / "out.nii.gz")
    assert after.shape == before.shape
    assert np.allclose(after.affine, before.affine, atol=1e-6)
    assert (tmp_path / "runs" / "latest").is_symlink()
    assert not (tmp_path / "runs" / "latest").readlink().is_absolute()


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    from support.models import tiny_model

    from medcyclegan.intensity import IntensityScaling
    from medcyclegan.model import DomainModel

    monkeypatch.chdir(tmp_path)
    scaling = IntensityScaling("percentile", 0.0, 900.0, "arbitrary units")
    tiny_model(DomainModel("t1", "MR", scaling), DomainModel("t2", "MR", scaling)).save("runs/latest/model")
    write_nifti(head_mr(), tmp_path / "in.nii.gz")
    block = re.search(r"## From Python\n\n((?:    .*\n|\n)+)", README)[1]
    exec(re.sub(r"^    ", "", block, flags=re.M), {})  # noqa: S102
    assert (tmp_path / "out.nii.gz").exists()
