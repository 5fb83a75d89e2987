import csv
import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner
from support.models import CT_DOMAIN, MR_DOMAIN, identity_model, identity_models_are_read, tiny_model
from support.phantoms import head_mr, make_affine, write_nifti

from medcyclegan.cli.main import main
from medcyclegan.errors import ReadError, UsageError, WriteError
from medcyclegan.evaluation import CalibrationOptions, calibrate_model
from medcyclegan.evaluation.calibration.measure import measure_case
from medcyclegan.inference import InferenceOptions, interval_half_width, translate
from medcyclegan.model import DomainModel, ModelBundle

T2_DOMAIN = DomainModel("t2", "MR", MR_DOMAIN.scaling)
SHAPE, PLACE = (40, 48, 12), make_affine("LPS", (5.0, 5.0, 16.0))
SHORT = CalibrationOptions(to="t2", steps=80)


def patient(seed):
    """Return an input and its truth, whose differences are ten times as large in bright tissue as in dark tissue."""
    volume = head_mr(SHAPE, PLACE, seed=seed)
    random = np.random.default_rng(1000 + seed)
    scale = np.where(volume.array > 250, 60.0, 6.0) * random.lognormal(0, 0.2)
    noise = random.laplace(0, 1, SHAPE) * scale
    return volume, volume.replace(array=np.abs(volume.array + noise).astype(np.float32))


def write_cases(folder, count=20, *, same_patient=False):
    rows = []
    for n in range(count):
        volume, truth = patient(n)
        write_nifti(volume, folder / "mr" / f"p{n:02d}.nii.gz")
        write_nifti(truth, folder / "t2" / f"p{n:02d}.nii.gz")
        rows.append((f"p{n:02d}", "one" if same_patient else f"p{n:02d}", f"mr/p{n:02d}.nii.gz", f"t2/p{n:02d}.nii.gz"))
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("case", "patient", "input", "reference"), *rows])
    return folder


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_cases(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def model(tmp_path_factory, cases):
    """Return the folder of a calibrated identity model."""
    folder = identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0, size=64).save(tmp_path_factory.mktemp("m") / "model")
    with identity_models_are_read():
        (file,) = calibrate_model(folder, cases / "cases.csv", SHORT)
    assert file == folder / "calibration_AB.safetensors"
    return folder


def test_intervals_cover_new_patients_and_are_wide_where_errors_are_large(model):
    covered, ratios = [], []
    with identity_models_are_read():
        bundle = ModelBundle.load(model)
        direction = bundle.direction("t2")
        calibration = bundle.calibration(direction)
        assert (calibration.fitted_on, calibration.patients) == (6, 14)
        for seed in range(100, 108):
            volume, truth = patient(seed)
            case = measure_case(volume, truth, direction, InferenceOptions(device="cpu"))
            width = interval_half_width(volume, translate(volume, direction, InferenceOptions()), calibration)
            scaled = width.array / 500
            covered.append((case.error <= scaled)[case.inside].mean())
            bright = volume.array > 250
            ratios.append(scaled[bright & case.inside].mean() / scaled[~bright & case.inside].mean())
    assert 0.88 <= np.mean(covered) <= 0.9 + 2 / 15 + 0.01
    assert np.mean(ratios) > 1.5
    assert 0.8 < calibration.reliability.width_share < 0.95
    assert calibration.reliability.found["patient"][4] == pytest.approx(np.mean(covered), abs=0.06)


def test_the_same_seed_gives_the_same_calibration(model, cases, tmp_path):
    other = tmp_path / "model"
    with identity_models_are_read():
        dataclasses.replace(ModelBundle.load(model), calibrations={}).save(other)
        (file,) = calibrate_model(other, cases / "cases.csv", SHORT)
    assert file.read_bytes() == (model / file.name).read_bytes()


def test_a_calibration_is_replaced_only_with_overwrite(model, cases):
    before = (model / "calibration_AB.safetensors").read_bytes()
    with identity_models_are_read(), pytest.raises(WriteError, match="--overwrite"):
        calibrate_model(model, cases / "cases.csv", SHORT)
    assert (model / "calibration_AB.safetensors").read_bytes() == before


def test_too_few_patients_are_refused_before_any_work(tmp_path):
    folder = write_cases(tmp_path, 13)
    model = identity_model(MR_DOMAIN, T2_DOMAIN).save(tmp_path / "model")
    with identity_models_are_read(), pytest.raises(UsageError, match=r"13 patients: .* give at least 14"):
        calibrate_model(model, folder, SHORT)
    with identity_models_are_read(), pytest.raises(UsageError, match="1 patients"):
        calibrate_model(model, write_cases(tmp_path / "one", 20, same_patient=True) / "cases.csv", SHORT)
    assert not list((tmp_path / "model").glob("calibration*"))


def test_a_folder_needs_both_domains(tmp_path):
    model = tiny_model(CT_DOMAIN, MR_DOMAIN).save(tmp_path / "model")
    (tmp_path / "cases" / "mr").mkdir(parents=True)
    with pytest.raises(ReadError, match="has no subfolder ct: name a folder with the subfolders"):
        calibrate_model(model, tmp_path / "cases", CalibrationOptions(to="ct"))


def test_the_command_prints_the_file_and_the_map_is_then_an_interval(cases, tmp_path):
    model = tiny_model(MR_DOMAIN, T2_DOMAIN).save(tmp_path / "model")
    words = ["calibrate", str(model), "--cases", str(cases), "--to", "t2", "--steps", "10", "--device", "cpu"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(model / "calibration_AB.safetensors")
    words = ["translate-volume", str(cases / "mr" / "p00.nii.gz"), str(tmp_path / "out.nii.gz"), "--model", str(model)]
    words += ["--to", "t2", "--uncertainty", str(tmp_path / "map.nii.gz"), "--coverage"]
    assert CliRunner().invoke(main, [*words, "0.99"]).exit_code == 2, "14 patients do not support it"
    assert CliRunner().invoke(main, [*words, "0.8"]).exit_code == 0


def test_a_table_without_inputs_is_refused(cases, tmp_path):
    model = tiny_model(MR_DOMAIN, T2_DOMAIN).save(tmp_path / "model")
    (tmp_path / "t.csv").write_text("fake,reference\na.nii.gz,b.nii.gz\n")
    with pytest.raises(ReadError, match="must contain input, reference"):
        calibrate_model(model, tmp_path / "t.csv", SHORT)
