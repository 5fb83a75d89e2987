"""Tables of scores as lines of text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medcyclegan.evaluation.cases import CaseScores
from medcyclegan.evaluation.tables import METRICS, summarize

__all__ = ["to_text"]

#: Columns of a table of several cases; the JSON and CSV tables hold all metrics.
_COLUMNS = ("mae", "psnr", "ms_ssim", "ssim_2023", "ncc", "mae_air", "mae_soft_tissue", "mae_bone")
_BESIDE = ("mae", "psnr", "ms_ssim")


def to_text(cases: Sequence[CaseScores], comparison: Mapping[str, Any] | None = None) -> str:
    """Return the scores as lines of text: a case with its baseline, or a row a case and their summary."""
    rows = [{"case": scores.case, **scores.evaluation.to_dict()} for scores in cases]
    if len(rows) == 1:
        return _one_case(rows[0])
    names = [name for name in _COLUMNS if any(row[name] is not None for row in rows)]
    lines = [["case", *names, *(f"base {name}" for name in _BESIDE)]]
    for row in rows:
        beside = [row["baseline"][name] for name in _BESIDE]
        lines.append([str(row["case"]), *(_number(value) for value in [*(row[name] for name in names), *beside])])
    fakes, bases = summarize(rows), summarize([row["baseline"] for row in rows])
    for key, title in (("mean", "mean"), ("sd", "sd"), ("median", "median")):
        values = [fakes.get(name, {}).get(key) for name in names] + [bases.get(name, {}).get(key) for name in _BESIDE]
        lines.append([title, *(_number(value) for value in values)])
    for place, title in enumerate(("95 % interval from", "to")):
        ends = [fakes.get(name, {}).get("ci95") for name in names] + [bases.get(n, {}).get("ci95") for n in _BESIDE]
        lines.append([title, *(_number(end[place] if end else None) for end in ends)])
    footer = f"{len(rows)} cases; unit of errors: {rows[0]['unit']}; base: {_baseline_name(rows[0])}"
    parts = [_aligned(lines), footer, *([] if comparison is None else ["", _comparison_text(comparison)])]
    return "\n".join(parts)


def _one_case(row: Mapping[str, Any]) -> str:
    lines = [["", "fake", _baseline_name(row)]]
    for name in METRICS:
        if row[name] is not None:
            lines.append([name, _number(row[name]), _number(row["baseline"][name])])
    unit = f"unit of errors: {row['unit']}; normalisation: {row['normalization']}"
    return "\n".join([_aligned(lines), unit, f"{row['voxels']} voxels in the mask", *row["notes"]])


def _baseline_name(row: Mapping[str, Any]) -> str:
    return "input as output" if row["baseline"]["scored"] == "input" else "flat image (no --input)"


def _comparison_text(comparison: Mapping[str, Any]) -> str:
    lines = [["difference to the other", "mean", "95 % interval", "p", "p (Holm)"]]
    for name, entry in comparison["metrics"].items():
        interval = " to ".join(_number(end) for end in entry["ci95"])
        lines.append([name, _number(entry["mean_difference"]), interval, _number(entry["p"]), _number(entry["p_holm"])])
    least = f"smallest p that {comparison['cases']} cases can give: {_number(comparison['smallest_possible_p'])}"
    return "\n".join([_aligned(lines), comparison["test"], least])


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells in columns, the first one flush left."""
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    aligned = []
    for line in lines:
        first, *others = line
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        aligned.append("  ".join(cells).rstrip())
    return "\n".join(aligned)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
