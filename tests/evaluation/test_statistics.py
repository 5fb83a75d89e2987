"""Statistics over patients: by hand, against scipy, and how often an interval holds the true mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medcyclegan.errors import UsageError
from medcyclegan.evaluation import compare_models, mean_interval, summarize


def test_statistics_by_hand():
    summary = summarize([{"mae": value, "psnr": math.inf} for value in (1.0, 2.0, 6.0)])
    assert summary["mae"] == {
        "patients": 3, "cases": 3, "mean": 3, "sd": pytest.approx(np.sqrt(7)), "median": 2, "min": 1, "max": 6,
        "ci95": None, "infinite": 0,
    }  # fmt: skip
    assert "psnr" not in summary
    assert summarize([{"psnr": math.inf}, {"psnr": 5.0}])["psnr"]["infinite"] == 1
    assert summarize([{"mae": 4.0}])["mae"]["sd"] is None


def test_a_patient_counts_once_regardless_of_the_number_of_sessions():
    rows = [{"patient": "a", "mae": value} for value in (10.0, 20.0, 30.0)] + [{"patient": "b", "mae": 40.0}]
    summary = summarize(rows)["mae"]
    assert (summary["patients"], summary["cases"]) == (2, 4)
    assert (summary["mean"], summary["median"], summary["min"], summary["max"]) == (30, 30, 20, 40)
    assert summary["sd"] == pytest.approx(np.std([20, 40], ddof=1))


def test_an_infinite_score_costs_its_case_and_not_its_patient():
    summary = summarize(
        [{"patient": "a", "psnr": math.inf}, {"patient": "a", "psnr": 20.0}, {"patient": "b", "psnr": 9.0}]
    )
    assert (summary["psnr"]["patients"], summary["psnr"]["cases"], summary["psnr"]["mean"]) == (2, 2, 14.5)


def test_sessions_do_not_narrow_the_interval():
    """Ten patients with four equal sessions each give the same result as ten patients with one session."""
    values = np.random.default_rng(1).normal(60, 10, 10)
    once = summarize([{"patient": str(n), "mae": value} for n, value in enumerate(values)])
    often = summarize([{"patient": str(n), "mae": value} for n, value in enumerate(values) for _ in range(4)])
    assert often["mae"]["ci95"] == pytest.approx(once["mae"]["ci95"])
    nine = [{"patient": str(n % 9), "mae": value} for n, value in enumerate(np.tile(values, 4))]
    assert summarize(nine)["mae"]["ci95"] is None


def test_the_interval_is_students_and_needs_ten_patients():
    values = np.random.default_rng(3).gamma(2.0, 20.0, 30)
    for count in (10, 30):
        own = values[:count]
        expected = stats.t.interval(0.95, count - 1, own.mean(), stats.sem(own))
        assert mean_interval(own) == pytest.approx(expected)
        assert summarize([{"mae": value} for value in own])["mae"]["ci95"] == mean_interval(own)
    assert mean_interval(values[:9]) is None


@pytest.mark.parametrize(
    ("draw", "mean", "least"),
    [
        (lambda rng, shape: rng.normal(60, 15, shape), 60, 0.94),
        (lambda rng, shape: rng.gamma(2.0, 30.0, shape), 60, 0.91),
    ],
    ids=["normal", "skewed"],
)
@pytest.mark.parametrize("patients", [10, 20])
def test_the_interval_has_its_nominal_coverage(draw, mean, least, patients):
    """The percentile bootstrap covers 0.90 of the normal samples of ten; see tests/benchmarks/coverage.py."""
    samples = draw(np.random.default_rng(patients), (4000, patients))
    intervals = np.array([mean_interval(sample) for sample in samples])
    covered = np.mean((intervals[:, 0] <= mean) & (mean <= intervals[:, 1]))
    assert least <= covered <= 0.96


def models(count, patients=None, seed=0):
    """Two models' scores of ``count`` cases, the first 4 better in MAE; patients in turn where a number is given."""
    generator = np.random.default_rng(seed)
    first = {
        f"c{n:02d}": {"mae": v, "psnr": 20.0, "ms_ssim": 0.5} for n, v in enumerate(generator.normal(60, 5, count))
    }
    if patients is not None:
        first = {name: {**row, "patient": f"p{n % patients}"} for n, (name, row) in enumerate(first.items())}
    second = {name: {**row, "mae": row["mae"] + 4 + generator.normal()} for name, row in first.items()}
    return first, second


def test_two_models_are_compared_case_by_case():
    first, second = models(12)
    second["only here"] = {"mae": 0.0}
    result = compare_models(first, second)
    differences = [first[name]["mae"] - second[name]["mae"] for name in sorted(first)]
    assert (result["cases"], result["patients"]) == (12, 12)
    mae = result["metrics"]["mae"]
    assert mae["mean_difference"] == pytest.approx(np.mean(differences))
    assert (mae["min"], mae["max"]) == (min(differences), max(differences))
    assert mae["ci95"] == mean_interval(differences)
    assert mae["differences"] is None
    assert mae["p"] == stats.wilcoxon(differences).pvalue
    assert mae["p_holm"] == pytest.approx(3 * mae["p"])
    assert result["metrics"]["psnr"]["p"] == 1
    assert result["smallest_possible_p"] == pytest.approx(mae["p"])
    assert "ssim_2023" not in result["metrics"]


def test_the_smallest_p_follows_from_patients_and_not_from_their_sessions():
    first, second = models(24, patients=4)
    result = compare_models(first, second)
    mae = result["metrics"]["mae"]
    differences = [first[name]["mae"] - second[name]["mae"] for name in first]
    of_patients = np.mean(np.reshape(differences, (6, 4)), axis=0)
    assert (result["cases"], result["patients"], mae["cases"], mae["patients"]) == (24, 4, 24, 4)
    assert result["smallest_possible_p"] == mae["p"] == 0.125
    assert mae["differences"] == pytest.approx(of_patients)
    assert mae["mean_difference"] == pytest.approx(of_patients.mean())
    assert mae["ci95"] is None


def test_adjusted_p_values_are_holms_and_at_most_1():
    """Four metrics: the smallest p is multiplied by four, the next by three, and none falls below the one before."""
    generator = np.random.default_rng(4)
    shifts = {"mae": 9.0, "psnr": 0.5, "ms_ssim": 0.4, "ssim_2023": 0.0}
    first = {f"c{n:02d}": {name: generator.normal(shift) for name, shift in shifts.items()} for n in range(14)}
    second = {case: dict.fromkeys(shifts, 0.0) for case in first}
    metrics = compare_models(first, second)["metrics"]
    plain = sorted((entry["p"], name) for name, entry in metrics.items())
    highest = 0.0
    for factor, (p, name) in zip((4, 3, 2, 1), plain, strict=True):
        highest = max(highest, min(1.0, factor * p))
        assert metrics[name]["p_holm"] == pytest.approx(highest)
    equal = compare_models(second, second)["metrics"]
    assert [entry["p_holm"] for entry in equal.values()] == [1.0] * 4


def test_a_difference_of_nothing_for_one_patient_is_still_a_test():
    differences = (0.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0)
    first = {f"c{n}": {"mae": 50 + value} for n, value in enumerate(differences)}
    entry = compare_models(first, {case: {"mae": 50.0} for case in first})["metrics"]["mae"]
    assert entry["p"] == stats.wilcoxon(differences).pvalue < 0.1


def test_two_patients_are_compared_as_the_first_model_identifies_them():
    first = {case: {"mae": value, "patient": patient} for case, value, patient in (("a", 1, "p"), ("b", 5, "q"))}
    second = {case: {"mae": 2.0, "patient": "other"} for case in "ab"}
    result = compare_models(first, second)
    assert (result["patients"], result["smallest_possible_p"], result["metrics"]["mae"]["p"]) == (2, 0.5, 1.0)
    assert result["metrics"]["mae"]["differences"] == [-1, 3]


def test_a_metric_that_one_model_lacks_for_a_case_leaves_that_case_out():
    first = {
        case: {"mae": 1.0, "psnr": value} for case, value in (("a", 20.0), ("b", math.inf), ("c", 24.0), ("d", 9.0))
    }
    second = {case: {"mae": 2.0, **({"psnr": 20.0} if case != "d" else {})} for case in first}
    entry = compare_models(first, second)["metrics"]["psnr"]
    assert (entry["cases"], entry["differences"]) == (2, [0.0, 4.0])


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="1 case in common"):
        compare_models({"a": {"mae": 1}}, {"a": {"mae": 1}, "b": {"mae": 2}})
    with pytest.raises(UsageError, match="1 case in common"):
        compare_models({"a": {"mae": 1}, "b": {"mae": 2}}, {"a": {"mae": 1}, "c": {"mae": 2}})
    one = {name: {"mae": 1, "patient": "p"} for name in "ab"}
    with pytest.raises(UsageError, match="2 cases of one patient"):
        compare_models(one, one)
