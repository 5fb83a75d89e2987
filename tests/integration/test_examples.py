"""Every script in examples/ runs, is short, and prints what it did."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.models import tiny_model
from support.phantoms import head_ct, head_mr, make_affine, write_nifti

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
REAL = ROOT.parent / "shared" / "data" / "nifti"


def run_here(monkeypatch, name, *arguments):
    """Run a script as a program in this process, which has done the imports."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_scripts_are_short():
    scripts = [path for path in EXAMPLES.glob("*.py") if not path.name.endswith("_notebook.py")]
    assert len(scripts) == 6
    for path in scripts:
        assert len(path.read_text().splitlines()) <= 70, path.name


def test_slice_with_monai(tmp_path):
    source = write_nifti(head_mr(), tmp_path / "in.nii.gz")
    command = [sys.executable, EXAMPLES / "slice_with_monai.py", source, tmp_path / "sheet.png", "--modality", "MR"]
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "back on the original grid" in run.stdout
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_train_on_phantoms(tmp_path, monkeypatch, capsys):
    run_here(monkeypatch, "train_on_phantoms.py", tmp_path, "--config", "smoke", "--heads", "2")
    said = capsys.readouterr().out
    assert said.count("ct: ") == said.count("t1: ") == 2
    assert "values from -1024 to 3071 HU" in said
    model = tmp_path / "runs" / "latest" / "model"
    assert {path.name for path in model.iterdir()} >= {"model.json", "G_AB.safetensors", "G_BA.safetensors"}


def test_translate_and_keep_geometry(tmp_path, monkeypatch, capsys):
    place = make_affine("PIR", (5.0, 8.0, 5.0), rotation_degrees=(12.0, -7.0, 20.0))
    source = write_nifti(head_ct(affine=place), tmp_path / "in.nii.gz")
    model = tiny_model().save(tmp_path / "model")
    out = tmp_path / "out.nii.gz"
    run_here(monkeypatch, "translate_and_keep_geometry.py", source, out, "--model", model, "--to", "mr")
    said = capsys.readouterr().out
    assert "PIR, " in said
    assert "modality MR" in said
    assert np.allclose(nib.load(out).affine, nib.load(source).affine)


def test_the_notebook_page_on_made_patients(tmp_path, monkeypatch, capsys):
    for n, patient in enumerate(("anna", "bert", "carl")):
        write_nifti(head_mr(seed=n), tmp_path / "scans" / patient / "t1.nii.gz")
        other = make_affine("LPS", (4.5, 4.5, 9.0), rotation_degrees=(3.0, 0.0, 0.0))
        write_nifti(head_mr(affine=other, seed=n, inverted=True), tmp_path / "scans" / patient / "t2_visit1.nii.gz")
    page = _run_page(tmp_path / "scans", tmp_path / "work", "smoke", monkeypatch)
    said = capsys.readouterr().out
    assert "trained on: anna, bert; held out: carl" in said
    assert "4 volumes, 0 refused" in said
    assert "psnr" in said
    assert (page["run"] / "report.html").is_file()
    assert (tmp_path / "work" / "synthetic_t2.png").stat().st_size > 1000


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="no real scans in ../shared/data")
def test_the_notebook_page_on_real_scans(tmp_path, monkeypatch, capsys):
    for patient in ("openms_patient03", "openms_patient04"):
        (tmp_path / "scans" / patient).mkdir(parents=True)
        for name in ("t1.nii.gz", "t2.nii.gz"):
            os.symlink(REAL / patient / name, tmp_path / "scans" / patient / name)
    page = _run_page(tmp_path / "scans", tmp_path / "work", "smoke", monkeypatch)
    said = capsys.readouterr().out
    assert "held out: openms_patient04" in said
    assert page["fake_t2"].shape == page["t1"].shape
    assert np.array_equal(page["fake_t2"].affine, page["t1"].affine)
    assert page["scores"].baseline.psnr > 10


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="no real scans in ../shared/data")
def test_real_heads(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    out = tmp_path / "out"
    small = ["training.max_steps=2", "networks.generator.filters=4", "networks.discriminator.filters=4"]
    options = [word for override in small for word in ("--set", override)]
    run_here(monkeypatch, "real_heads.py", REAL, "skull", out, *options)
    said = capsys.readouterr().out
    assert [line[:19].rstrip() for line in said.splitlines()[1:]] == [
        "synthetic t2, head",
        "synthetic t2, brain",
        "synthetic t1, head",
        "synthetic t1, brain",
    ]
    assert "/ 13.9" in said.splitlines()[1], "the input taken as the output, as the scans are"
    people = {folder.name for folder in (out / "volumes").glob("*/*")}
    assert people == {"sub-openmspatient03", "sub-openmspatient12"}, "the unseen patient must not be trained on"
    worse = [found.split() for found in re.findall(r"[\d.-]+ / [\d.-]+(?: !)?", said)]
    falling = [n % 4 == 2 for n in range(len(worse))]  # MAE is the third of four columns
    assert [len(words) == 4 for words in worse] == [
        float(ours) > float(other) if falls else float(ours) < float(other)
        for (ours, _, other, *_), falls in zip(worse, falling, strict=True)
    ], "scores that are worse than the input's are marked, and no others"
    assert any(len(words) == 4 for words in worse), "two steps make nothing better"
    assert (out / "heads.png").stat().st_size > 10_000


def test_a_fresh_subject_is_neither_trained_on_nor_chosen_by(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from real_heads_stages import SPLITS

    for chosen in ("skull", "brain"):
        (trained, scored), (retrained, fresh) = SPLITS[chosen], SPLITS[f"{chosen}-fresh"]
        assert scored not in trained
        assert fresh not in {scored, *retrained}
        assert scored in retrained, "the one that was chosen by may be trained on"


def _run_page(scans, work, config, monkeypatch):
    for name, value in (("T1T2_DATA", scans), ("T1T2_WORK", work), ("T1T2_CONFIG", config)):
        monkeypatch.setenv(name, str(value))
    return run_here(monkeypatch, "t1_to_t2_notebook.py")
