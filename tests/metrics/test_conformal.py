import numpy as np
import pytest

from medcyclegan.metrics.conformal import (
    LEVELS,
    corrected,
    coverage_without_each,
    fewest_patients,
    mean_quantiles,
    patient_quantiles,
    ratio_interval,
    share_below,
)


def draw_patient(random):
    """Return scores of one patient; patients differ more than their voxels do."""
    return (random.lognormal(0.0, 0.8) * random.exponential(1.0, random.integers(100, 400))).astype(np.float32)


@pytest.mark.parametrize("patients", [10, 25])
def test_the_coverage_of_a_new_patient_does_not_depend_on_its_number_of_voxels(patients):
    random = np.random.default_rng(0)
    covered, without_correction = [], []
    for _ in range(400):
        known = np.stack([patient_quantiles(draw_patient(random)) for _ in range(patients)])
        quantiles, new = mean_quantiles(known), draw_patient(random)
        covered.append((new <= np.interp(corrected(0.9, patients), LEVELS, quantiles)).mean())
        without_correction.append((new <= np.interp(0.9, LEVELS, quantiles)).mean())
    assert 0.9 <= np.mean(covered) <= 0.9 + 2 / (patients + 1) + 0.01
    assert np.mean(without_correction) < np.mean(covered) - 0.01


def test_patients_count_equally_however_many_voxels_they_have():
    few, many = np.full(50, 1.0, np.float32), np.linspace(2.0, 3.0, 50_000, dtype=np.float32)
    quantiles = mean_quantiles(np.stack([patient_quantiles(few), patient_quantiles(many)]))
    assert np.interp(0.45, LEVELS, quantiles) == pytest.approx(1.0, abs=0.01)
    assert np.interp(0.75, LEVELS, quantiles) == pytest.approx(2.5, abs=0.02)


@pytest.mark.parametrize(("coverage", "patients"), [(0.5, 2), (0.9, 10), (0.95, 20)])
def test_the_fewest_patients_are_those_from_which_the_interval_is_finite(coverage, patients):
    assert fewest_patients(coverage) == patients
    assert corrected(coverage, patients) < 1 <= corrected(coverage, patients - 1) + 1e-9


def test_the_coverage_of_a_patient_is_that_of_intervals_from_the_others():
    random = np.random.default_rng(1)
    each = np.stack([patient_quantiles(random.exponential(1.0, 3000).astype(np.float32)) for _ in range(30)])
    each[0] *= 100  # an outlier, which must not cover itself
    found = coverage_without_each(each, (0.5, 0.9, 0.99))
    assert found.shape == (3, 30)
    assert found[1, 0] < 0.1
    assert found[1, 1:].mean() == pytest.approx(corrected(0.9, 29), abs=0.04)
    assert np.isnan(found[2]).all(), "29 patients do not support 0.99"


def test_a_share_is_that_of_the_scores():
    quantiles = patient_quantiles(np.linspace(0, 10, 10_001, dtype=np.float32))
    assert share_below(quantiles, np.array([2.5, 9.0, 11.0, -1.0])) == pytest.approx([0.25, 0.9, 1.0, 0.0], abs=1e-3)


def test_an_interval_of_ratios_leaves_out_whole_ranks():
    ratios = [n / 10 for n in range(1, 40)]
    assert ratio_interval(ratios, 0.9) == (0.2, 3.8)
    assert ratio_interval(ratios[:18], 0.9) is None
    assert ratio_interval(ratios[:19], 0.9) == (0.1, 1.9)
