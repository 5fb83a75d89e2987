"""``evaluate --dose``: columns of its tables, and one line for each mistake."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from medcyclegan.cli import main
from medcyclegan.dose import plan as plans
from medcyclegan.evaluation import CaseScores, Evaluation, rows_to_text, summarize, write_table
from medcyclegan.evaluation.text import _dose_footer
from medcyclegan.io import write_volume
from medcyclegan.volume import Volume

SHAPE, SPACING_MM = (32, 36, 30), 4.0


def ball(center, radius_mm) -> np.ndarray:
    places = (np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2) * SPACING_MM
    return ((places - center) ** 2).sum(-1) < radius_mm**2


@pytest.fixture
def files(tmp_path):
    """A head of water in a skull, a fake without skull, an MR, and masks."""
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    head, brain = ball(0, 54), ball(0, 48)
    ct = np.where(head, np.where(brain, 20, 900), -1000).astype(np.int16)
    write_volume(Volume(ct, affine, modality="CT"), tmp_path / "ct.nii.gz")
    fake = np.where(head, np.where(brain, 20, 40), -1000).astype(np.int16)
    write_volume(Volume(fake, affine, modality="CT"), tmp_path / "fake.nii.gz")
    write_volume(Volume(fake[1:], affine, modality="CT"), tmp_path / "smaller.nii.gz")
    write_volume(Volume(np.where(head, 400.0, 0).astype(np.float32), affine, modality="MR"), tmp_path / "mr.nii.gz")
    masks = {
        "target": ball((10, 0, 0), 9),
        "organ": ball((-10, 0, 0), 9),
        "empty": ball((500, 0, 0), 9),
        "outside": ball((55, 0, 0), 9),
        "short": ball(0, 9)[1:],
    }
    for name, mask in masks.items():
        write_volume(Volume(mask.astype(np.uint8), affine), tmp_path / f"{name}.nii.gz")
    return tmp_path


def run(files, *arguments, fails=0):
    words = [str(files / word) if (files / word).exists() else word for word in arguments]
    result = CliRunner().invoke(main, ["evaluate", *words])
    assert result.exit_code == fails, result.output
    if fails:
        assert "Traceback" not in result.stderr
        assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1
    return result


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "target.nii.gz"], "add --dose"),
        (["--organ", "stem=organ.nii.gz"], "add --dose"),
        (["--unpaired", "--organ", "stem=organ.nii.gz"], "--organ and --unpaired"),
        (["--dose", "--register", "rigid"], "--register"),
        (["--dose", "--modality", "MR"], "--modality MR"),
        (["--dose", "--organ", "stem"], "--organ brainstem=brainstem.nii.gz"),
    ],
)
def test_wrong_options_are_named(files, arguments, says):
    words = [word.replace("=organ", f"={files}/organ") for word in arguments]
    assert says in run(files, "fake.nii.gz", "ct.nii.gz", *words, fails=2).stderr


def test_the_extra_is_named_if_it_is_not_installed(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymedphys", None)
    result = run(files, "fake.nii.gz", "ct.nii.gz", "--dose", "--out", f"{files}/t.json", fails=1)
    assert "medcyclegan[dose]" in result.stderr
    assert not (files / "t.json").exists()


def test_missing_masks_are_found_at_once(files):
    result = run(files, "fake.nii.gz", "ct.nii.gz", "--dose", "--target", "nothing.nii.gz", fails=1)
    assert "nothing.nii.gz" in result.stderr
    result = run(files, "fake.nii.gz", "ct.nii.gz", "--dose", "--organ", "stem=nothing.nii.gz", fails=1)
    assert "nothing.nii.gz" in result.stderr


def test_organs_and_targets_are_columns_of_a_csv(files):
    (files / "pairs.csv").write_text("fake,reference,organ:a b\nfake.nii.gz,ct.nii.gz,organ.nii.gz\n")
    assert "letters, digits" in run(files, "--pairs", "pairs.csv", fails=2).stderr
    (files / "pairs.csv").write_text(
        f"fake,reference,target\n{files}/fake.nii.gz,{files}/ct.nii.gz,{files}/target.nii.gz\n"
    )
    assert "are for --dose" in run(files, "--pairs", "pairs.csv", fails=2).stderr
    result = run(files, "--pairs", "pairs.csv", "--dose", "--target", "target.nii.gz", fails=2)
    assert "columns target and organ:NAME" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mr.nii.gz", "ct.nii.gz"], "fake: "),
        (["fake.nii.gz", "mr.nii.gz"], "reference: "),
        (["smaller.nii.gz", "ct.nii.gz"], "different grids"),
        (["fake.nii.gz", "ct.nii.gz", "--target", "empty.nii.gz"], "--target: the mask is empty"),
        (["fake.nii.gz", "ct.nii.gz", "--target", "outside.nii.gz"], "outside the head"),
        (["fake.nii.gz", "ct.nii.gz", "--target", "short.nii.gz"], "not on the grid of the reference"),
        (["fake.nii.gz", "ct.nii.gz", "--organ", "stem=short.nii.gz"], "--organ stem: a mask of"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(files, arguments, says):
    pytest.importorskip("pyRadPlan", reason="the extra dose is not installed")
    words = [word.replace("stem=", f"stem={files}/") for word in arguments]
    result = run(files, *words, "--dose", "--out", f"{files}/t.json", "--save-mask", f"{files}/m.nii.gz", fails=1)
    assert says in result.stderr
    assert not (files / "t.json").exists()
    assert not (files / "m.nii.gz").exists()


def test_dose_is_in_every_table(files, monkeypatch):
    pytest.importorskip("pyRadPlan", reason="the extra dose is not installed")
    for particle in ("photon", "proton"):
        monkeypatch.setitem(plans.BEAMS, particle, (90.0,))
    masks = ("--target", "target.nii.gz", "--organ", f"stem={files}/organ.nii.gz")
    pair = ("fake.nii.gz", "ct.nii.gz", "--dose", *masks)
    printed = run(files, *pair, "--out", f"{files}/t.json").stdout
    table = json.loads((files / "t.json").read_text())
    (row,) = table["cases"]
    dose, water = row["dose"], row["baselines"]["water"]["dose"]
    assert dose.keys() == water.keys()
    assert "dose" not in row["baselines"]["flat"]
    on_reference = row["dose_plan"]["dose_on_reference"]
    assert on_reference["photon_target_d50"] == pytest.approx(60)
    for particle in ("photon", "proton"):
        for structure in ("target", "stem"):
            for point in ("d2", "d50", "d95", "d98", "mean"):
                name = f"{particle}_{structure}_{point}"
                assert dose[f"{name}_difference"] == pytest.approx(dose[name] - on_reference[name])
    # Without the skull, photons are attenuated less, and protons that enter from the left stop beyond the target.
    assert dose["photon_target_mean_difference"] > 0.3
    assert dose["proton_stem_mean_difference"] != 0
    assert 0 < dose["proton_gamma"] < 99
    assert table["summary"]["fake"]["proton_gamma"]["mean"] == dose["proton_gamma"]
    assert table["summary"]["baselines"]["water"]["proton_gamma"]["ci95"] is None
    assert max(map(len, printed.splitlines())) <= 120
    assert "photon_gamma" in printed
    assert "given mask" in printed


def test_tables_of_several_cases_show_the_dose(tmp_path):
    scores = {"photon_gamma": 98.5, "proton_gamma": 91.25, "photon_target_d95_difference": 0.5,
              "proton_target_d95_difference": -1.5}  # fmt: skip
    plan = {"gamma": "2 %", "prescription": "60 Gy", "target": "given mask"}
    plain = Evaluation(*[1.0] * 11, 8, "HU", "none", "fake")
    water = dataclasses.replace(plain, scored="water", dose={name: value - 50 for name, value in scores.items()})
    flat = dataclasses.replace(plain, scored="flat")
    fake = dataclasses.replace(plain, dose=scores, dose_plan=plan, baselines={"flat": flat, "water": water})
    cases = [CaseScores(name, fake) for name in ("a", "b")]
    rows = [case.to_dict() for case in cases]
    text = rows_to_text(rows)
    assert max(map(len, text[text.index("photon gamma") :].splitlines())) <= 80
    below = text[text.rindex("case ") :]
    assert "98.5" in below
    assert "41.25" in below
    assert "flat" not in below
    assert summarize(rows)["photon_gamma"]["patients"] == 2
    write_table(tmp_path / "t.csv", cases)
    first = next(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert float(first["proton_gamma"]) == 91.25
    assert float(first["water_proton_gamma"]) == 41.25
    assert "flat_proton_gamma" not in first
    assert "dose" not in CaseScores("c", plain).to_dict()


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["given mask"] * 2, "target: given mask"),
        (["sphere at (1, 2, 3)"], "target: sphere at (1, 2, 3)"),
        (["sphere at (1, 2, 3)"] * 2, "target: default sphere of each case"),
        (["given mask", "sphere at (1, 2, 3)"], "given mask in 1 of 2 cases, default sphere in the others"),
    ],
)
def test_the_footer_states_which_targets_were_planned(targets, said):
    rows = [{"dose_plan": {"target": target, "gamma": "2 %", "prescription": "60 Gy"}} for target in targets]
    assert _dose_footer(rows)[-1].endswith(said)
