import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from support.models import CT_DOMAIN, HU, MR, MR_DOMAIN, identity_model, tiny_model, with_fitness
from support.phantoms import head_ct, head_mr, make_affine, write_nifti

from medcyclegan.inference import InferenceOptions, TranslationOptions, assess, translate, translate_file
from medcyclegan.model import DomainModel, direction_to
from medcyclegan.model.fitness import ModelWarning
from medcyclegan.model.training_set import TrainingSet
from medcyclegan.slicing.measures import histogram_of

T2_DOMAIN = DomainModel("t2", "MR", MR)


def described(volume, scaling, **changes):
    fields = {
        "volumes": 5, "histogram": histogram_of(scaling.normalize(volume.array)), "histogram_spread": 0.05,
        "pixel_mm": (5.0, 5.0), "slice_mm": (8.0, 8.0), "acquisitions": {"axial": 5},
    }  # fmt: skip
    return TrainingSet(**{**fields, **changes}).to_dict()


def judge(volume, provenance=None, model=None, *, fitness=None, **options):
    model = model or identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0)
    model = dataclasses.replace(model, provenance={"training_set": provenance} if provenance else {})
    model = with_fitness(model, **(fitness or {}))
    done = translate(volume, model.direction("t2"), InferenceOptions(), force=True)
    return assess(volume, done, InferenceOptions(), **options)


@pytest.fixture
def known():
    mr = head_mr()
    model = identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0)
    done = translate(mr, model.direction("t2"), InferenceOptions())
    return {"mr": described(mr, done.scaling)}


def test_an_input_like_the_training_set_is_ok(known):
    quality = judge(head_mr(seed=3), known)
    assert (quality.verdict, quality.reasons) == ("ok", ())
    assert quality.flicker == pytest.approx(0, abs=0.02)
    assert quality.cycle_error < 1e-4
    assert quality.histogram_score < 1
    assert quality.spacing_mm == pytest.approx((5.0, 5.0, 8.0))


def test_an_odd_histogram_warns(known, caplog):
    with caplog.at_level(logging.WARNING):
        quality = judge(head_mr(inverted=True), known)
    assert quality.verdict == "doubtful"
    assert quality.histogram_score > 2
    assert "another contrast?" in quality.reasons[0]
    assert f"quality: {quality.reasons[0]}" in caplog.text


def shifted(known, distance, spread=0.05):
    """Return a training set whose mean histogram differs from the input's by ``distance``."""
    fields = dict(known["mr"])
    fields["histogram"] = [value - distance for value in fields["histogram"]]
    return {"mr": {**fields, "histogram_spread": spread}}


@pytest.mark.parametrize(
    ("distance", "spread", "verdict"),
    [
        (0.099, 0.05, "ok"),
        (0.101, 0.05, "check"),
        (0.299, 0.05, "check"),
        (0.301, 0.05, "doubtful"),
        (0.039, 0.001, "ok"),
        (0.041, 0.001, "check"),
    ],
)
def test_a_histogram_is_odd_from_twice_the_spread_on_and_alien_from_six_times(known, distance, spread, verdict):
    quality = judge(head_mr(), shifted(known, distance, spread))
    assert quality.histogram_score == pytest.approx(distance / max(spread, 0.02), abs=0.01)
    assert quality.verdict == verdict


@pytest.mark.parametrize(
    ("measure", "below", "above", "phrase"),
    [
        ("cycle_error", 0.099, 0.101, "translated back, it differs from the input by 10.1%"),
        ("measure_flicker", 0.149, 0.151, "varies 15% more than the input"),
        ("measure_flicker", None, 0.151, "varies 15% more than the input"),
    ],
)
def test_measures_speak_against_it_beyond_their_limits(known, monkeypatch, measure, below, above, phrase):
    monkeypatch.setattr(f"medcyclegan.inference.quality.{measure}", lambda *_: below)
    assert judge(head_mr(), known).verdict == "ok"
    monkeypatch.setattr(f"medcyclegan.inference.quality.{measure}", lambda *_: above)
    quality = judge(head_mr(), known)
    assert quality.verdict == "check"
    assert phrase in quality.reasons[0]


@pytest.mark.parametrize(("share", "verdict"), [(0.0098, "ok"), (0.0102, "check")])
def test_a_hundredth_of_the_voxels_may_be_clipped(share, verdict):
    ct = head_ct((50, 50, 20))
    array = ct.array.astype(np.int16).copy()
    array.ravel()[np.flatnonzero(ct.array.ravel() > -500)[: round(share * array.size)]] = 4000
    model = identity_model(CT_DOMAIN, DomainModel("t2", "CT", HU))
    quality = judge(ct.replace(array=array), model=model)
    assert quality.clipped_share == pytest.approx(share)
    assert any("were clipped" in reason for reason in quality.reasons) is (verdict == "check")


@pytest.mark.parametrize(("factor", "odd"), [(1.49, False), (1.51, True), (1 / 1.49, False), (1 / 1.51, True)])
@pytest.mark.parametrize("field", ["pixel_mm", "slice_mm"])
def test_a_grid_is_odd_from_half_as_much_again(known, factor, odd, field):
    own = {"pixel_mm": 5.0, "slice_mm": 8.0}[field] / factor
    quality = judge(head_mr(), {"mr": {**known["mr"], field: (own, own)}})
    assert bool(quality.reasons) is odd


def test_another_grid_warns(known):
    quality = judge(head_mr((40, 48, 24), make_affine("LPS", (5.0, 5.0, 20.0))), known)
    assert quality.reasons == ("axial slice spacing of 20 mm, where the training set's were 8 to 8 mm",)
    sagittal = judge(head_mr((48, 24, 40), make_affine("PIR", (5.0, 8.0, 5.0))), known)
    assert sagittal.acquisition == "sagittal"
    assert "acquired sagittal" in sagittal.reasons[-1]


def test_a_model_without_a_description_of_its_training_set_is_accepted(caplog):
    with caplog.at_level(logging.INFO):
        quality = judge(head_mr())
    assert quality.histogram_score is None
    assert quality.verdict == "ok"
    assert "has no summary of its mr training volumes" in caplog.text
    assert judge(head_mr(), {"mr": {"volumes": "damaged"}}).histogram_score is None


def test_flicker_and_clipping_are_found(monkeypatch, known):
    class Shaking(torch.nn.Module):
        def forward(self, x):
            shift = 0.3 * torch.sin(1e4 * x.mean(dim=(1, 2, 3), keepdim=True))
            return torch.where(x > -0.9, (x + shift).clamp(-1, 1), x)

    monkeypatch.setattr("support.models.identity_network", Shaking)
    quality = judge(head_mr(), known)
    assert quality.flicker > 0.15
    assert any("--planes three" in reason for reason in quality.reasons)
    assert quality.verdict == "check"


def test_clipped_voxels_are_a_reason():
    ct = head_ct()
    array = ct.array.copy()
    array[ct.array > 500] = 9000
    model = identity_model(CT_DOMAIN, DomainModel("t2", "CT", HU))
    quality = judge(ct.replace(array=array), model=model)
    assert quality.clipped_share > 0.01
    assert "were clipped" in quality.reasons[0]


def test_a_forced_modality_is_doubtful():
    assert judge(head_mr(), forced=True).verdict == "doubtful"


def test_one_slice_has_no_flicker():
    assert judge(head_mr((40, 40, 1))).flicker is None


def test_the_sidecar_holds_the_verdict(tmp_path):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    model = tiny_model().save(tmp_path / "model")
    translate_file(source, tmp_path / "out.nii.gz", model, TranslationOptions(to="mr"))
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["quality"]["verdict"] == "check"
    assert record["quality"]["reasons"][0] == "the model does not record how it was trained, so its fitness is unknown"
    assert set(record["quality"]) >= {"flicker", "clipped_share", "cycle_error", "histogram_score", "reasons"}
    assert record["model_fitness"] is None
    assert record["planes"] == "axial"
    assert record["fast"] is None
    fit = with_fitness(tiny_model())
    options = TranslationOptions(to="mr")
    translate_file(source, tmp_path / "fit.nii.gz", fit.save(tmp_path / "fit"), options)
    assert json.loads((tmp_path / "fit.json").read_text())["model_fitness"] == fit.provenance["fitness"]
    translate_file(source, tmp_path / "two.nii.gz", [tmp_path / "fit", tmp_path / "fit"], options)
    assert json.loads((tmp_path / "two.json").read_text())["model_fitness"] == [fit.provenance["fitness"]] * 2
    mr = write_nifti(head_mr(), tmp_path / "mr.nii.gz")
    translate_file(mr, tmp_path / "forced.nii.gz", model, TranslationOptions(to="mr", force=True))
    assert json.loads((tmp_path / "forced.json").read_text())["quality"]["verdict"] == "doubtful"


def test_an_unfit_model_is_never_ok(known, caplog):
    """The input is perfect, and a translation by a checkerboard of 60 steps must not be called ok."""
    assert judge(head_mr(), known).verdict == "ok"
    with caplog.at_level(logging.WARNING):
        quality = judge(head_mr(), known, fitness={"steps": 60})
    assert quality.verdict == "doubtful"
    assert quality.reasons == ("the model was trained for 60 steps, fewer than 1000",)
    assert "quality: the model was trained for 60 steps" in caplog.text
    unknown = identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0)
    done = translate(head_mr(), unknown.direction("t2"), InferenceOptions())
    quality = assess(head_mr(), done, InferenceOptions())
    assert quality.verdict == "check"
    assert quality.reasons == ("the model does not record how it was trained, so its fitness is unknown",)


def test_of_several_models_the_worst_counts(known):
    model = dataclasses.replace(identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0), provenance={"training_set": known})
    models = [with_fitness(model), with_fitness(model, steps=999), with_fitness(model, steps=999)]
    done = translate(head_mr(), direction_to(models, "t2"), InferenceOptions())
    quality = assess(head_mr(), done, InferenceOptions())
    assert (quality.verdict, len(quality.reasons)) == ("check", 1)


def test_the_direction_decides_which_scores_and_warnings_count(known):
    warning = ModelWarning("contrast inversion", "mr", 900, "the contrast of synthetic mr is turned round")
    fitness = {"warnings": (warning,), "scores": {"mae_BA": 0.5}, "input_scores": {"mae_BA": 0.4}}
    there = judge(head_mr(), known, fitness=fitness)
    assert (there.verdict, len(there.reasons)) == ("check", 1)
    model = with_fitness(identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0), **fitness)
    done = translate(head_mr(), model.direction("mr"), InferenceOptions())
    back = assess(head_mr(), done, InferenceOptions())
    assert back.verdict == "doubtful"
    assert "'contrast inversion' of mr (step 900)" in back.reasons[0]
    assert "mean absolute error of held-out pairs is 0.5, " in back.reasons[1]


def test_whole_numbers_of_a_trained_model_stay_json(known):
    text = json.dumps(judge(head_mr(), known).to_dict())
    assert np.isfinite(json.loads(text)["cycle_error"])
