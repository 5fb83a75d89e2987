import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from models import CT_DOMAIN, HU, MR, MR_DOMAIN, identity_model, tiny_model
from phantoms import head_ct, head_mr, make_affine, write_nifti

from medcyclegan.inference import Computing, DomainModel, TranslationOptions, assess, translate, translate_file
from medcyclegan.inference.training_set import TrainingSet, histogram_of

T2_DOMAIN = DomainModel("t2", "MR", MR)


def described(volume, scaling, **changes):
    fields = {
        "volumes": 5, "histogram": histogram_of(scaling.normalize(volume.array)), "histogram_spread": 0.05,
        "pixel_mm": (5.0, 5.0), "slice_mm": (8.0, 8.0), "acquisitions": {"axial": 5},
    }  # fmt: skip
    return TrainingSet(**{**fields, **changes}).to_dict()


def judge(volume, provenance=None, model=None, **options):
    model = model or identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0)
    model = dataclasses.replace(model, provenance={"training_set": provenance} if provenance else {})
    done = translate(volume, [model], "t2", Computing(), force=True)
    return assess(volume, done, [model], Computing(), **options)


@pytest.fixture
def known():
    mr = head_mr()
    done = translate(mr, [identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0)], "t2", Computing())
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
    assert quality.verdict in ("check", "doubtful")
    assert quality.histogram_score > 2
    assert "another contrast?" in quality.reasons[0]
    assert f"quality: {quality.reasons[0]}" in caplog.text


def test_another_grid_warns(known):
    quality = judge(head_mr((40, 48, 24), make_affine("LPS", (5.0, 5.0, 20.0))), known)
    assert quality.reasons == ("axial slice spacing of 20 mm, where the training set's were 8 to 8 mm",)
    sagittal = judge(head_mr((48, 24, 40), make_affine("PIR", (5.0, 8.0, 5.0))), known)
    assert sagittal.acquisition == "sagittal"
    assert "acquired sagittal" in sagittal.reasons[-1]


def test_a_model_that_does_not_say_is_no_obstacle(caplog):
    with caplog.at_level(logging.INFO):
        quality = judge(head_mr())
    assert quality.histogram_score is None
    assert quality.verdict == "ok"
    assert "does not say what its mr volumes were like" in caplog.text
    assert judge(head_mr(), {"mr": {"volumes": "damaged"}}).histogram_score is None


def test_flicker_and_clipping_are_found(monkeypatch, known):
    class Shaking(torch.nn.Module):
        def forward(self, x):
            shift = 0.3 * torch.sin(1e4 * x.mean(dim=(1, 2, 3), keepdim=True))
            return torch.where(x > -0.9, (x + shift).clamp(-1, 1), x)

    monkeypatch.setattr("medcyclegan.inference.bundle.build_generator", lambda config, size: Shaking())
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
    assert record["quality"]["verdict"] in ("ok", "check", "doubtful")
    assert set(record["quality"]) >= {"flicker", "clipped_share", "cycle_error", "histogram_score", "reasons"}
    assert record["planes"] == "axial"
    assert record["fast"] is None
    mr = write_nifti(head_mr(), tmp_path / "mr.nii.gz")
    translate_file(mr, tmp_path / "forced.nii.gz", model, TranslationOptions(to="mr", force=True))
    assert json.loads((tmp_path / "forced.json").read_text())["quality"]["verdict"] == "doubtful"


def test_whole_numbers_of_a_trained_model_stay_json(known):
    text = json.dumps(judge(head_mr(), known).to_dict())
    assert np.isfinite(json.loads(text)["cycle_error"])
