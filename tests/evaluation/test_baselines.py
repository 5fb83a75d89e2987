"""Baselines for outputs in HU, and the source of the tissue means."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from support.models import CT_DOMAIN, MR_DOMAIN, identity_model, identity_models_are_read

from medcyclegan.cli import main
from medcyclegan.errors import ModelError
from medcyclegan.evaluation import evaluate_volumes
from medcyclegan.io import read_volume, write_volume
from medcyclegan.metrics import TissueMeans, head_mask, mae
from medcyclegan.model.domains import source_scaling
from medcyclegan.model.training_set import TrainingSet
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume

MEANS = TissueMeans((-0.7, 0.4), (500.0, 30.0, -80.0), "pairs", 3)


@pytest.fixture(scope="module")
def head():
    return make_head(9, shape=(48, 60, 40), spacing_mm=(4.0, 4.0, 4.0))


@pytest.fixture
def model():
    """A model of CT and MR with the tissue means ``MEANS``."""
    known = TrainingSet(3, (0.0,) * 64, 0.1, (4.0, 4.0), (4.0, 4.0), {"axial": 3})
    described = {"mr": known.to_dict(), "ct": dataclasses.replace(known, tissue_means=MEANS).to_dict()}
    return dataclasses.replace(identity_model(), provenance={"training_set": described})


def expected_mae(head, source):
    """The error of the tissue means in the head, calculated without the evaluation."""
    reference = ct_volume(head)
    return mae(
        MEANS.to_hu(source_scaling(source, MR_DOMAIN).normalize(source.array)), reference.array, head_mask(reference)
    )


def test_noise_around_40_hu_is_worse_than_a_baseline(head):
    """A translation looked good next to an MR whose values were compared with HU."""
    reference, source = ct_volume(head), t1_volume(head)
    noise = np.random.default_rng(0).normal(40, 60, reference.shape).round().astype(np.int16)
    result = evaluate_volumes(reference.replace(array=noise), reference, baseline=source)
    assert list(result.baselines) == ["flat", "water"], "the numbers of an MR are no baseline in HU"
    assert result.mae > result.baseline.mae
    assert result.baseline is result.baselines["flat"]


def test_water_and_the_best_constant(head):
    reference = ct_volume(head)
    result = evaluate_volumes(reference.replace(array=reference.array + np.int16(25)), reference)
    inside = reference.array[head_mask(reference)].astype(float)
    water, flat = result.baselines["water"], result.baselines["flat"]
    assert (water.scored, flat.scored) == ("water", "flat")
    assert water.mae == pytest.approx(np.abs(inside).mean())
    assert water.mean_error == pytest.approx(-inside.mean())
    assert water.mae_bone == pytest.approx(inside[inside >= 200].mean())
    assert flat.mae == pytest.approx(np.abs(inside - np.median(inside)).mean())
    assert (water.ncc, flat.ncc) == (0, 0)
    for constant in (-30, 20, 55):
        assert flat.mae <= np.abs(inside - constant).mean()


def test_an_input_in_hu_is_its_own_baseline(head):
    reference = ct_volume(head)
    source = reference.replace(array=reference.array + np.int16(40))
    fake = reference.replace(array=reference.array + np.int16(10))
    result = evaluate_volumes(fake, reference, baseline=source)
    assert list(result.baselines) == ["input", "flat", "water"]
    assert result.baselines["input"].mae == 40
    unnamed = evaluate_volumes(fake, reference, baseline=source.replace(modality=None))
    assert list(unnamed.baselines) == ["input", "flat", "water"]


def test_a_model_gives_its_tissue_means(head, model):
    reference, source = ct_volume(head), t1_volume(head)
    result = evaluate_volumes(reference.replace(array=reference.array + 9), reference, baseline=source, model=model)
    assert list(result.baselines) == ["tissue_means", "flat", "water"]
    assert result.baselines["tissue_means"].mae == pytest.approx(expected_mae(head, source))


def test_an_input_on_another_grid_is_scaled_as_a_whole(head, model):
    """An input on another grid is resampled, but scaled by the intensities of the whole input."""
    reference, source = ct_volume(head), t1_volume(head)
    part = reference.replace(array=reference.array[:, :, 12:], affine=reference.affine @ np.array(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 12], [0, 0, 0, 1]]))  # fmt: skip
    mask = head_mask(reference)[:, :, 12:]
    found = evaluate_volumes(part, part, baseline=source, model=model, mask=mask).baselines["tissue_means"]
    scaled = source_scaling(source, MR_DOMAIN).normalize(source.array)[:, :, 12:]
    assert found.mae == pytest.approx(mae(MEANS.to_hu(scaled), part.array, mask), rel=0.01)


def test_tissue_means_are_no_baseline_of_an_mr(head, model):
    result = evaluate_volumes(t2_volume(head), t2_volume(head), baseline=t1_volume(head), model=model)
    assert list(result.baselines) == ["input"]
    assert any("the reference is not in HU" in note for note in result.notes)


def test_a_model_without_tissue_means_is_refused(head):
    reference = ct_volume(head)
    with pytest.raises(ModelError, match=r"has no tissue means.*leave --model out"):
        evaluate_volumes(reference, reference, baseline=t1_volume(head), model=identity_model())
    damaged = {"training_set": {"ct": {"tissue_means": {**MEANS.to_dict(), "hu": [1.0]}}}}
    with pytest.raises(ModelError, match="damaged tissue means"):
        evaluate_volumes(
            reference,
            reference,
            baseline=t1_volume(head),
            model=dataclasses.replace(identity_model(), provenance=damaged),
        )


@pytest.fixture
def files(tmp_path, head, model):
    reference, source = ct_volume(head), t1_volume(head)
    write_volume(reference, tmp_path / "ref.nii.gz")
    write_volume(source, tmp_path / "in.nii.gz")
    model.save(tmp_path / "model")
    with identity_models_are_read():
        yield tmp_path


def run(command, *arguments, code=0):
    result = CliRunner().invoke(main, [command, *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_a_translation_carries_the_baseline_in_its_sidecar(files, head):
    """translate-volume writes the means to the sidecar, and evaluate uses them without the model."""
    run("translate-volume", files / "in.nii.gz", files / "fake.nii.gz", "--to", "ct", "--model", files / "model")
    record = json.loads((files / "fake.json").read_text())
    assert TissueMeans.from_dict(record["tissue_means"]) == MEANS
    pair = (files / "fake.nii.gz", files / "ref.nii.gz")
    scores = json.loads(run("evaluate", *pair, "--input", files / "in.nii.gz", "--json").stdout)
    assert scores["baselines"].keys() == {"tissue_means", "flat", "water"}
    assert scores["baselines"]["tissue_means"]["mae"] == pytest.approx(
        expected_mae(head, read_volume(files / "in.nii.gz"))
    )
    text = run("evaluate", *pair, "--input", files / "in.nii.gz").stdout
    assert text.splitlines()[0].split() == ["fake", "tissue", "means", "flat", "water"]
    alone = json.loads(run("evaluate", *pair, "--json").stdout)
    assert alone["baselines"].keys() == {"flat", "water"}, "the means are those of an input"

    record["tissue_means"]["levels"] = ["x"]
    (files / "fake.json").write_text(json.dumps(record))
    refused = run("evaluate", *pair, "--input", files / "in.nii.gz", code=1)
    assert "the tissue means in the sidecar are damaged" in refused.stderr
    assert refused.stderr.strip().count("\n") == 0


def test_translations_of_other_programs_get_it_from_the_model(files, head):
    fake = ct_volume(head)
    write_volume(fake.replace(array=fake.array + np.int16(5)), files / "other.nii.gz")
    pair = (files / "other.nii.gz", files / "ref.nii.gz", "--model", files / "model")
    scores = json.loads(run("evaluate", *pair, "--input", files / "in.nii.gz", "--json").stdout)
    assert scores["baselines"]["tissue_means"]["mae"] == pytest.approx(
        expected_mae(head, read_volume(files / "in.nii.gz"))
    )
    assert "--model without --input" in run("evaluate", *pair, code=2).stderr
    assert "--model without --input" in run("evaluate", *pair, "--unpaired", code=2).stderr
    (files / "model" / "model.json").unlink()
    assert "model.json" in run("evaluate", *pair, "--input", files / "in.nii.gz", code=1).stderr


def test_an_mr_output_carries_none(files):
    run("translate-volume", files / "ref.nii.gz", files / "mr.nii.gz", "--to", "mr", "--model", files / "model")
    assert "tissue_means" not in json.loads((files / "mr.json").read_text())


def test_the_domains_are_those_of_the_model_and_not_their_order(head, model):
    """The CT may be A or B."""
    swapped = dataclasses.replace(model, domains=(MR_DOMAIN, CT_DOMAIN))
    reference, source = ct_volume(head), t1_volume(head)
    one, other = (evaluate_volumes(reference, reference, baseline=source, model=each) for each in (model, swapped))
    assert one.baselines["tissue_means"] == other.baselines["tissue_means"]
