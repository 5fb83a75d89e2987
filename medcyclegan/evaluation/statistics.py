"""Statistics over patients: means, ranges, confidence intervals, and the paired test of two models.

A patient counts once, regardless of the number of cases. Several sessions of one patient are similar, so if each of
them counted as a patient, intervals would be too narrow and p-values too small.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medcyclegan.errors import UsageError

__all__ = [
    "FEWEST_FOR_INTERVAL",
    "METRICS",
    "compare_models",
    "dose_metrics",
    "mean_interval",
    "metric_of",
    "shared_cases",
    "summarize",
]

#: The metrics of a table, in order.
METRICS = (
    "mae", "psnr", "ms_ssim", "mae_2023", "psnr_2023", "ssim_2023", "mean_error", "ncc",
    "mae_air", "mae_soft_tissue", "mae_bone",
)  # fmt: skip
#: With fewer patients than this, no interval is given, only their scores and the range.
FEWEST_FOR_INTERVAL = 10
_COMPARED = ("mae", "psnr", "ms_ssim", "ssim_2023")

Scores = Mapping[str, Mapping[str, Any]]


def summarize(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each metric's statistics over patients.

    ``rows``: one case each, with its metrics and its ``patient`` (a row without one counts as a separate patient). The
    value of a patient is the mean of the patient's cases. Statistics are ``mean``, ``sd`` (divided by n - 1; None for
    one patient), ``median``, ``min``, ``max``, and ``ci95`` from :func:`mean_interval`. ``patients`` and ``cases`` are
    their numbers; infinite values (PSNR of equal volumes) are left out and counted in ``infinite``. The scores in
    ``dose`` of the rows, if any, are further metrics.
    """
    summary = {}
    for name in (*METRICS, *dose_metrics(rows)):
        scores = [(row.get("patient"), metric_of(row, name)) for row in rows]
        given = [(patient, float(value)) for patient, value in scores if value is not None]
        finite = [(n if patient is None else patient, value)
                  for n, (patient, value) in enumerate(given) if math.isfinite(value)]  # fmt: skip
        if not finite:
            continue
        values = np.array(list(_patient_means(finite).values()))
        summary[name] = {
            "patients": int(values.size),
            "cases": len(finite),
            "mean": float(values.mean()),
            "sd": float(values.std(ddof=1)) if values.size > 1 else None,
            "median": float(np.median(values)),
            "min": float(values.min()),
            "max": float(values.max()),
            "ci95": mean_interval(values),
            "infinite": len(given) - len(finite),
        }
    return summary


def dose_metrics(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the scores of dose in ``rows``, in the order of their first occurrence."""
    return list(dict.fromkeys(name for row in rows for name in row.get("dose") or ()))


def metric_of(row: Mapping[str, Any], name: str) -> Any:
    """Return a metric or a score of dose of a row; None if the row has none."""
    value = row.get(name)
    return (row.get("dose") or {}).get(name) if value is None else value


def mean_interval(values: ArrayLike, *, fewest: int = FEWEST_FOR_INTERVAL) -> list[float] | None:
    """Return Student's 95 % confidence interval of the mean of independent ``values``; None for fewer than ``fewest``.

    ``tests/benchmarks/coverage.py`` compares how often this interval and two bootstrap intervals contain the true mean.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size < fewest:
        return None
    from scipy import special

    half = float(special.stdtrit(numbers.size - 1, 0.975) * numbers.std(ddof=1) / math.sqrt(numbers.size))
    return [float(numbers.mean()) - half, float(numbers.mean()) + half]


def shared_cases(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """Return the names in both, sorted; raise :class:`~medcyclegan.errors.UsageError` for fewer than two."""
    shared = sorted({*first} & {*second})
    if len(shared) < 2:
        raise UsageError(
            f"{len(shared)} case{'' if len(shared) == 1 else 's'} in common: a paired test needs two or more, "
            "and cases are matched by name"
        )
    return shared


def compare_models(first: Scores, second: Scores) -> dict[str, Any]:
    """Compare the scores of two models, ``{case: {metric: value}}``, over patients.

    The ``patient`` of a case is taken from ``first``, or is the case itself. For each of MAE, PSNR, MS-SSIM and SSIM:
    the mean over patients of the difference first - second, its range and its :func:`mean_interval`; the
    ``differences`` themselves if there are too few patients for an interval; and the two-sided p of Wilcoxon's
    signed-rank test (scipy), with Holm's correction for the number of metrics in ``p_holm``. Raises
    :class:`~medcyclegan.errors.UsageError` if they have fewer than two cases in common, or all are of one patient.
    """
    from scipy import stats  # a large import that a table without a comparison does not need

    shared = shared_cases(first, second)
    patients = {case: first[case].get("patient") or case for case in shared}
    count = len(set(patients.values()))
    if count < 2:
        raise UsageError(f"{len(shared)} cases of one patient: a paired test needs two or more patients")
    metrics: dict[str, dict[str, Any]] = {}
    for name in _COMPARED:
        pairs = np.array([[scores[case].get(name) for scores in (first, second)] for case in shared], dtype=np.float64)
        given = [(patients[case], a - b) for case, (a, b) in zip(shared, pairs, strict=True) if np.isfinite(a - b)]
        differences = np.array(list(_patient_means(given).values()))
        if differences.size < 2:
            continue
        metrics[name] = {
            "patients": int(differences.size),
            "cases": len(given),
            "mean_difference": float(differences.mean()),
            "min": float(differences.min()),
            "max": float(differences.max()),
            "ci95": mean_interval(differences),
            "differences": differences.tolist() if differences.size < FEWEST_FOR_INTERVAL else None,
            "p": float(stats.wilcoxon(differences).pvalue) if np.any(differences) else 1.0,
        }
    for name, p in zip(metrics, _holm([entry["p"] for entry in metrics.values()]), strict=True):
        metrics[name]["p_holm"] = p
    return {
        "test": "Wilcoxon signed-rank over patients, two-sided, Holm's correction; differences are first - second",
        "cases": len(shared),
        "patients": count,
        "smallest_possible_p": 2.0 ** (1 - count),
        "metrics": metrics,
    }


def _patient_means(values: Iterable[tuple[Any, float]]) -> dict[Any, float]:
    """Return the mean of each patient's values, in the order of their first occurrence."""
    of_patient = defaultdict(list)
    for patient, value in values:
        of_patient[patient].append(value)
    return {patient: float(np.mean(own)) for patient, own in of_patient.items()}


def _holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values (Scand. J. Statist. 6:65, 1979), in the given order."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, n in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[n]))
        adjusted[n] = highest
    return adjusted
