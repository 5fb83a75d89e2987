import importlib
import json
import logging

import nibabel as nib
import numpy as np
import pytest
from support.calibrations import calibrated, make_calibration
from support.models import MR_DOMAIN, identity_model, tiny_model
from support.phantoms import head_ct, head_mr, linear_error, linear_volume, make_affine, write_nifti

from medcyclegan.errors import IncompleteError, ModelError, UsageError
from medcyclegan.inference import (
    InferenceOptions,
    TranslationOptions,
    assess,
    calibration_for,
    interval_half_width,
    translate,
    translate_file,
)
from medcyclegan.inference.intervals.description import describe_case
from medcyclegan.inference.intervals.half_width import expect_case_error, thinned
from medcyclegan.inference.intervals.signals import every_nth_slice
from medcyclegan.inference.intervals.tissue_classes import classes_of, patient_mask
from medcyclegan.metrics.familiarity import Familiarity
from medcyclegan.model import DomainModel, direction_to
from medcyclegan.volume import Volume

T2_DOMAIN = DomainModel("t2", "MR", MR_DOMAIN.scaling)
OPTIONS = InferenceOptions(device="cpu")


def translated(model, volume, to):
    return translate(volume, model.direction(to), OPTIONS)


def test_half_widths_are_expected_error_times_factor_in_the_target_s_unit():
    model = identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0, size=64)
    mr = head_mr()
    done = translated(model, mr, "t2")
    quantiles = {name: np.full_like(make_calibration(model, "t2").quantiles["dark"], n + 1.0)
                 for n, name in enumerate(("outside", "dark", "medium", "bright"))}  # fmt: skip
    calibration = make_calibration(model, "t2", expected=0.1, quantiles=quantiles, levels=(-0.6, 0.1))
    width = interval_half_width(mr, done, calibration)
    assert width.shape == mr.shape
    assert np.array_equal(width.affine, mr.affine)
    classes = classes_of(done, patient_mask(mr, done), calibration.levels)
    assert set(np.unique(classes)) == {0, 1, 2, 3}
    # 0.1 of the scaled range, of which 1 is 500 units.
    assert np.allclose(width.array, 50.0 * (classes + 1.0), rtol=1e-3)


def test_the_map_is_an_interval_of_the_requested_coverage(tmp_path, caplog):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    folder = calibrated(tiny_model(), "mr").save(tmp_path / "model")
    found = {}
    for coverage in (None, 0.95):
        out = tmp_path / f"out-{coverage}.nii.gz"
        map_ = tmp_path / f"map-{coverage}.nii.gz"
        translate_file(source, out, folder, TranslationOptions(to="mr", uncertainty=map_, coverage=coverage))
        record = json.loads(out.with_name(out.name.replace(".nii.gz", ".json")).read_text())
        assert record["uncertainty"]["calibrated"] is True
        assert record["uncertainty"]["coverage"] == (coverage or 0.9)
        assert record["uncertainty"]["calibration_patients"] == 30
        assert record["uncertainty"]["unit"] == "arbitrary units"
        expected = record["quality"]["expected_error"]
        assert expected["patient"]["mae"] == pytest.approx(50.0, rel=0.02)
        low, high = expected["patient"]["interval_90"]
        assert low < expected["patient"]["mae"] < high
        found[coverage] = nib.load(map_).get_fdata().mean()
    assert found[0.95] > 1.2 * found[None]
    assert "is not an interval" not in caplog.text


@pytest.mark.parametrize(
    ("is_calibrated", "coverage", "heading"),
    [(True, None, "half-width, 90% interval"), (True, 0.95, "half-width, 95% interval"), (False, None, None)],
)
def test_the_preview_labels_the_map(tmp_path, monkeypatch, is_calibrated, coverage, heading):
    module = importlib.import_module("medcyclegan.inference.translate_file")
    drawn, draw = [], module.preview
    monkeypatch.setattr(module, "preview", lambda *args, **named: drawn.append(named) or draw(*args, **named))
    model = calibrated(tiny_model(), "mr") if is_calibrated else tiny_model()
    options = TranslationOptions(
        to="mr", uncertainty=tmp_path / "map.nii.gz", coverage=coverage, preview=tmp_path / "map.png"
    )
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    translate_file(source, tmp_path / "out.nii.gz", model.save(tmp_path / "model"), options)
    assert (tmp_path / "map.png").exists()
    assert [named.get("heading") for named in drawn] == [heading]


def test_an_uncalibrated_map_is_reported_as_such(tmp_path, caplog):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    folder = tiny_model().save(tmp_path / "model")
    with caplog.at_level(logging.WARNING):
        translate_file(source, tmp_path / "out.nii.gz", folder,
                       TranslationOptions(to="mr", uncertainty=tmp_path / "map.nii.gz"))  # fmt: skip
    assert "not calibrated to mr" in caplog.text
    assert "is not an interval" in caplog.text
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["uncertainty"]["calibrated"] is False
    assert "coverage" not in record["uncertainty"]
    assert record["quality"]["expected_error"] is None
    assert record["quality"]["familiarity"] is None


def test_a_coverage_without_calibration_or_without_a_map_is_refused_before_any_work(tmp_path):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    folder = tiny_model().save(tmp_path / "model")
    options = TranslationOptions(to="mr", uncertainty=tmp_path / "map.nii.gz", coverage=0.9)
    with pytest.raises(UsageError, match="not calibrated to mr: calibrate"):
        translate_file(source, tmp_path / "out.nii.gz", folder, options)
    with pytest.raises(UsageError, match="add --uncertainty FILE"):
        TranslationOptions(to="mr", coverage=0.9)
    assert {path.name for path in tmp_path.iterdir()} == {"in.nii.gz", "model"}


@pytest.mark.parametrize(
    ("options", "models", "reason"),
    [
        (InferenceOptions(tta=True), 1, "calibrated for --planes axial, not for these options"),
        (InferenceOptions(planes="three"), 1, "calibrated for --planes axial"),
        (OPTIONS, 2, "several models are averaged"),
    ],
)
def test_a_calibration_is_valid_for_its_own_options_only(options, models, reason):
    model = calibrated(tiny_model(), "mr")
    assert calibration_for(model.direction("mr"), OPTIONS)[0] is not None
    found, why = calibration_for(direction_to([model] * models, "mr"), options)
    assert found is None
    assert reason in why


def test_a_calibration_of_other_weights_stops_the_map_but_not_the_translation(tmp_path, caplog):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    folder = calibrated(tiny_model(), "mr", fingerprint="0" * 64).save(tmp_path / "model")
    with pytest.raises(ModelError, match="belongs to other weights"):
        translate_file(source, tmp_path / "out.nii.gz", folder,
                       TranslationOptions(to="mr", uncertainty=tmp_path / "map.nii.gz"))  # fmt: skip
    assert not (tmp_path / "out.nii.gz").exists()
    translate_file(source, tmp_path / "out.nii.gz", folder, TranslationOptions(to="mr"))
    assert "the expected error is not reported" in caplog.text


def test_a_large_expected_error_and_an_unfamiliar_input_are_findings():
    model = identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0, size=64)
    mr = head_mr()
    done = translated(model, mr, "t2")
    usual = describe_case(*thinned(mr, done, patient_mask(mr, done)))
    random = np.random.default_rng(0)
    known = Familiarity.fit(
        [[g + random.normal(0, 0.05, g.shape).astype(np.float32) for g in usual] for _ in range(40)]
    )
    good = make_calibration(model, "t2", expected=0.1, familiarity=known)
    quality = assess(mr, done, OPTIONS, calibration=good)
    assert not any("expected MAE" in r or "calibration patients (" in r for r in quality.reasons)
    assert quality.familiarity > 0.04
    bad = make_calibration(model, "t2", expected=0.1, familiarity=known, mae=tuple(np.linspace(10, 49, 30)))
    reasons = assess(mr, done, OPTIONS, calibration=bad).reasons
    assert any(
        r.startswith("the expected MAE is 50 arbitrary units: 95 % of the calibration patients") for r in reasons
    )
    odd = head_mr(inverted=True)
    found = assess(odd, translated(model, odd, "t2"), OPTIONS, calibration=good)
    assert found.verdict == "doubtful"
    assert any("unlike those of the 30 calibration patients" in reason for reason in found.reasons)


def described_box(pixel_mm):
    """Return the description of a box of 180 x 240 mm that is bright more than 12 mm below its surface."""
    x, y = np.ogrid[pixel_mm / 2 : 240 : pixel_mm, pixel_mm / 2 : 300 : pixel_mm]
    depth = np.minimum(np.minimum(x - 30, 210 - x), np.minimum(y - 30, 270 - y))
    array = np.repeat(np.select([depth > 12, depth > 0], [400, 100])[:, :, None], 3, axis=2).astype(np.float32)
    volume = Volume(array, make_affine(spacing=(pixel_mm, pixel_mm, 3.0)))
    model = identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0, size=64)
    return describe_case(volume, translated(model, volume, "t2"), array > 0)


def test_the_profile_of_a_case_has_a_value_for_each_depth():
    profile = described_box(3.0)[2][::2]
    assert np.ptp(profile[:3]) == np.ptp(profile[3:]) == 0
    assert profile[3] > profile[2] + 0.5


def test_the_description_does_not_depend_on_smaller_pixels():
    coarse, fine = described_box(3.0), described_box(1.5)
    for name in (2, 6):
        assert np.allclose(coarse[name], fine[name], atol=1e-3)


def test_a_case_in_single_slices_is_described_like_the_whole():
    model = identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0, size=64)
    mr = head_mr((40, 48, 64))
    calibration = make_calibration(model, "t2")
    case = expect_case_error(mr, translated(model, mr, "t2"), calibration)
    assert case.regions["patient"][0] == pytest.approx(50.0, rel=0.02)
    assert 0 < case.p_value <= 1


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SLA"])
@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_every_nth_slice_keeps_its_place(axes, most):
    volume = linear_volume((7, 9, 8), make_affine(axes, (2.0, 3.0, 5.0), rotation_degrees=(4.0, 0.0, 3.0)))
    some, kept = every_nth_slice(volume, most)
    axis = next(n for n, letter in enumerate(volume.orientation) if letter in "SI")
    assert 1 <= some.shape[axis] <= most
    assert some.shape == tuple(len(range(n)[kept]) if k == axis else n for k, n in enumerate(volume.shape))
    assert linear_error(some) < 1e-3


def test_a_failure_of_the_map_keeps_the_volume(tmp_path, monkeypatch):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    folder = calibrated(tiny_model(), "mr").save(tmp_path / "model")

    def fail(*_):
        raise RuntimeError("broken")

    # The package's name translate_file is the function, not its module.
    module = importlib.import_module("medcyclegan.inference.translate_file")
    monkeypatch.setattr(module, "interval_half_width", fail)
    options = TranslationOptions(to="mr", uncertainty=tmp_path / "map.nii.gz")
    with pytest.raises(IncompleteError, match=r"map.nii.gz was not written \(RuntimeError: broken\)"):
        translate_file(source, tmp_path / "out.nii.gz", folder, options)
    assert (tmp_path / "out.nii.gz").exists()
