import dataclasses

import numpy as np
import pytest
from support.calibrations import calibrated, make_calibration
from support.models import tiny_model

from medcyclegan.errors import ModelError, UsageError
from medcyclegan.model import ModelBundle
from medcyclegan.model.calibration import HEAD, calibration_file, load_calibration

FILE = "calibration_AB.safetensors"


def test_a_model_folder_keeps_its_calibration(tmp_path):
    model = calibrated(tiny_model(), "mr")
    folder = model.save(tmp_path / "model")
    assert {FILE} == {path.name for path in folder.glob("calibration*")}
    loaded = ModelBundle.load(folder)
    there, back = loaded.directions
    assert loaded.calibration(back) is None
    found, made = loaded.calibration(there), make_calibration(tiny_model(), "mr")
    for name in ("fingerprint", "settings", "classes", "levels", "counts", "ratios", "mae", "reliability", "patients"):
        assert getattr(found, name) == getattr(made, name), name
    assert np.array_equal(found.factors(0.9), made.factors(0.9))
    assert np.array_equal(found.familiarity.whitening, made.familiarity.whitening)
    assert loaded.save(tmp_path / "again").joinpath(FILE).read_bytes() == folder.joinpath(FILE).read_bytes()


def test_the_calibration_of_other_weights_is_refused(tmp_path):
    calibrated(tiny_model(), "mr").save(tmp_path / "model")
    other = dataclasses.replace(tiny_model(), weights={name: tiny_model().weights["G_AB"] for name in ("G_AB", "G_BA")})
    assert other.fingerprint != tiny_model().fingerprint
    other.save(tmp_path / "other")
    (tmp_path / "other" / FILE).write_bytes((tmp_path / "model" / FILE).read_bytes())
    loaded = ModelBundle.load(tmp_path / "other")
    with pytest.raises(ModelError, match="belongs to other weights than the model's: calibrate again"):
        loaded.calibration(loaded.direction("mr"))


def test_the_calibration_of_the_other_direction_is_refused():
    model = tiny_model()
    with pytest.raises(ModelError, match="belongs to other weights"):
        load_calibration(make_calibration(model, "mr").to_bytes(), "G_BA", model.fingerprint)


@pytest.mark.parametrize("change", ["cut", "flipped", "text", "empty record"])
def test_a_damaged_calibration_is_refused(change):
    model = tiny_model()
    data = make_calibration(model, "mr").to_bytes()
    flipped = data[:-2000] + bytes([data[-2000] ^ 1]) + data[-1999:]
    text = {
        "cut": data[:-100],
        "flipped": flipped,
        "text": b"not a calibration",
        "empty record": data.replace(b'"', b"'", 40),
    }
    with pytest.raises(ModelError, match="damaged"):
        load_calibration(text[change], "G_AB", model.fingerprint)


def test_halved_weights_lose_their_calibration():
    assert calibrated(tiny_model(), "mr").halved().calibrations == {}


def test_factors_are_corrected_for_the_number_of_patients_of_each_class():
    model = tiny_model()
    found = make_calibration(model, "mr", counts={"outside": 30, "dark": 30, "medium": 12, "bright": 0})
    outside, dark, medium, bright = found.factors(0.9)
    assert outside == pytest.approx(-np.log(1 - 0.9 * 31 / 30), rel=0.02)
    assert dark == outside < medium
    assert bright == medium, "the largest of the others"


def test_a_coverage_that_the_patients_do_not_support_is_refused():
    found = make_calibration(tiny_model(), "mr", patients=12)
    found.check_coverage(0.9)
    with pytest.raises(UsageError, match=r"--coverage 0.95 needs .* this model has 12"):
        found.check_coverage(0.95)
    with pytest.raises(UsageError, match="share between 0 and 1"):
        found.check_coverage(95)


def test_the_expected_mae_has_an_interval_if_the_patients_suffice():
    many = make_calibration(tiny_model(), "mr", patients=39)
    mae, low, high = many.expected_mae(100.0, HEAD)
    assert mae == pytest.approx(100.0)
    assert 80 <= low < 90 < 110 < high <= 120
    few = make_calibration(tiny_model(), "mr", patients=15)
    assert np.isnan(few.expected_mae(100.0)[1])


def test_names_of_files_follow_the_generators():
    assert [calibration_file(name) for name in ("G_AB", "G_BA")] == [FILE, "calibration_BA.safetensors"]
