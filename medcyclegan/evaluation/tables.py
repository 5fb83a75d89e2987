"""Tables of scores: a row a case, their summary, the comparison of two models; as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from medcyclegan.errors import ReadError, UsageError
from medcyclegan.evaluation.cases import PICTURED_CASES, CaseScores, Refusal
from medcyclegan.provenance import now, versions
from medcyclegan.storage import atomic_write

__all__ = [
    "METRICS",
    "compare_models",
    "load_scores",
    "merge_tables",
    "shared_cases",
    "summarize",
    "to_json",
    "write_table",
]

#: The metrics of a table in their order, and whether more is better.
METRICS: Mapping[str, bool | None] = {
    "mae": False, "psnr": True, "ms_ssim": True, "mae_2023": False, "psnr_2023": True, "ssim_2023": True,
    "mean_error": None, "ncc": True, "mae_air": False, "mae_soft_tissue": False, "mae_bone": False,
}  # fmt: skip
_COMPARED = ("mae", "psnr", "ms_ssim", "ssim_2023")
_RESAMPLES, _RESAMPLES_AT_ONCE = 10_000, 100
_MADE_BY = "medcyclegan evaluate"

Scores = Mapping[str, Mapping[str, Any]]


def summarize(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each metric's n, mean, sd, median and bootstrap 95 % interval of the mean over cases.

    ``sd`` divides by n - 1; the interval is the percentile bootstrap's of 10,000 resamples from a fixed seed. Both are
    None for a single case. Infinite values (PSNR of equal volumes) are left out and counted in ``infinite``.
    """
    summary = {}
    for name in METRICS:
        given = [float(value) for value in (row.get(name) for row in rows) if value is not None]
        values = np.array([value for value in given if math.isfinite(value)])
        if values.size:
            summary[name] = {
                "n": int(values.size),
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)) if values.size > 1 else None,
                "median": float(np.median(values)),
                "ci95": _interval(values),
                "infinite": len(given) - int(values.size),
            }
    return summary


def shared_cases(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """Return the names that both have, sorted; raises :class:`~medcyclegan.errors.UsageError` for fewer than two."""
    shared = sorted({*first} & {*second})
    if len(shared) < 2:
        raise UsageError(
            f"{len(shared)} case{'' if len(shared) == 1 else 's'} in common: a paired test takes two or more, "
            "and cases are matched by name"
        )
    return shared


def compare_models(first: Scores, second: Scores) -> dict[str, Any]:
    """Compare two models' scores, case by case: ``{case: {metric: value}}`` each.

    For each of MAE, PSNR, MS-SSIM and SSIM: the mean difference first - second with its bootstrap 95 % interval,
    and the two-sided p of Wilcoxon's signed-rank test (scipy), with Holm's correction for the number of metrics in
    ``p_holm``. Raises :class:`~medcyclegan.errors.UsageError` where they share no case, or only one.
    """
    shared = shared_cases(first, second)
    metrics: dict[str, dict[str, Any]] = {}
    for name in _COMPARED:
        pairs = np.array([[scores[case].get(name) for scores in (first, second)] for case in shared], dtype=np.float64)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        differences = pairs[:, 0] - pairs[:, 1]
        if differences.size < 2:
            continue
        p = float(stats.wilcoxon(differences).pvalue) if np.any(differences) else 1.0
        metrics[name] = {
            "n": int(differences.size),
            "mean_difference": float(differences.mean()),
            "ci95": _interval(differences),
            "p": p,
        }
    for name, p in zip(metrics, _holm([entry["p"] for entry in metrics.values()]), strict=True):
        metrics[name]["p_holm"] = p
    return {
        "test": "Wilcoxon signed-rank, two-sided, Holm's correction; differences are first - second",
        "cases": len(shared),
        "smallest_possible_p": 2.0 ** (1 - len(shared)),
        "metrics": metrics,
    }


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON that every parser takes; infinity is written 1e999, which all read as infinity."""
    # json writes the word Infinity, which is no JSON; NaN cannot occur, all scores are checked to be numbers.
    return re.sub(r'(?<!\\)": Infinity', '": 1e999', json.dumps(value, indent=indent))


def write_table(
    path: Path,
    cases: Sequence[CaseScores],
    refused: Sequence[Refusal] = (),
    comparison: Mapping[str, Any] | None = None,
) -> None:
    """Write the table as CSV or JSON, as the name's ending says; the worst and best cases' pictures beside it.

    JSON holds the cases, what was refused, the summary of the fakes' and of the baselines' scores, and ``comparison``.
    CSV holds a row a case. Pictures go to ``<stem>-pictures/0001.png`` and so on, by the case's row. Raises
    :class:`~medcyclegan.errors.WriteError`.
    """
    rows = [{"case": scores.case, **scores.evaluation.to_dict(), "picture": None} for scores in cases]
    for number in _pictured(cases):
        picture = path.with_name(f"{path.stem}-pictures") / f"{number + 1:04d}.png"
        with atomic_write(picture) as file:
            file.write(cases[number].picture or b"")
        rows[number]["picture"] = f"{picture.parent.name}/{picture.name}"
    content = _csv(rows) if path.suffix.lower() == ".csv" else to_json(_record(rows, refused, comparison), indent=2)
    with atomic_write(path) as file:
        file.write(content.encode())


def load_scores(path: Path) -> dict[str, dict[str, Any]]:
    """Read the scores ``{case: {metric: value}}`` of a table that :func:`write_table` wrote.

    Raises :class:`~medcyclegan.errors.ReadError` for anything else.
    """
    try:
        text = path.read_text("utf-8")
        if path.suffix.lower() == ".csv":
            rows: list[dict[str, Any]] = list(csv.DictReader(text.splitlines()))
        else:
            rows = json.loads(text)["cases"]
        scores = {
            str(row["case"]): {name: float(row[name]) for name in METRICS if row.get(name) not in (None, "")}
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f"{path}: not a table that evaluate --out wrote ({error!r}): write one first") from None
    if not scores:
        raise ReadError(f"{path}: a table without cases: evaluate some first")
    return scores


def merge_tables(paths: Sequence[Path], out: Path) -> None:
    """Write the cases of several JSON tables, such as the folds of a cross-validation, as one table ``out``.

    The summary is that of all cases; pictures stay with the tables that they belong to. Raises
    :class:`~medcyclegan.errors.ReadError` for a file that is no such table, or a case that is in two of them.
    """
    rows: list[Mapping[str, Any]] = []
    refused: list[Refusal] = []
    for path in paths:
        load_scores(path)
        table = json.loads(path.read_text("utf-8"))
        rows += [{**row, "picture": None} for row in table["cases"]]
        refused += [Refusal(entry["case"], entry["reason"]) for entry in table.get("refused", ())]
    names = [str(row["case"]) for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ReadError(
            f"{len(twice)} cases are in two of the tables, such as {twice[0]!r}: merge tables of other cases"
        )
    with atomic_write(out) as file:
        file.write(to_json(_record(rows, refused, None), indent=2).encode())


def _record(
    rows: Sequence[Mapping[str, Any]], refused: Sequence[Refusal], comparison: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "made_by": _MADE_BY,
        "intended_use": "research only; not a medical device",
        "created": now(),
        "versions": versions(),
        "cases": list(rows),
        "refused": [{"case": refusal.case, "reason": refusal.reason} for refusal in refused],
        "summary": {"fake": summarize(rows), "baseline": summarize([row["baseline"] for row in rows])},
        "comparison": comparison,
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    names = ["case", *METRICS, *(f"baseline_{name}" for name in METRICS), "baseline", "unit", "normalization", "voxels"]
    writer = csv.DictWriter(text, [*names, "picture", "notes"], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        beside = {f"baseline_{name}": row["baseline"][name] for name in METRICS}
        writer.writerow({**row, **beside, "baseline": row["baseline"]["scored"], "notes": "; ".join(row["notes"])})
    return text.getvalue()


def _pictured(cases: Sequence[CaseScores]) -> list[int]:
    """Return the rows of the cases with the smallest and the largest MAE that have pictures."""
    order = sorted((n for n, c in enumerate(cases) if c.picture), key=lambda n: cases[n].evaluation.mae)
    return sorted({*order[:PICTURED_CASES], *order[-PICTURED_CASES:]})


def _interval(values: Any) -> list[float] | None:
    """Return the percentile bootstrap's 95 % interval of the mean, None for a single value."""
    if len(values) < 2:
        return None
    rng, means = np.random.default_rng(0), []
    # Some resamples at a time: all of them would take 8 GB for 100,000 cases.
    for _ in range(0, _RESAMPLES, _RESAMPLES_AT_ONCE):
        draws = rng.integers(0, len(values), (_RESAMPLES_AT_ONCE, len(values)))
        means.append(values[draws].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return [float(low), float(high)]


def _holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values (Scand. J. Statist. 6:65, 1979), in the given order."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, n in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[n]))
        adjusted[n] = highest
    return adjusted
