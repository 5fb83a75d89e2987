"""Tables of scores as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medcyclegan.evaluation.cases import CaseScores
from medcyclegan.evaluation.evaluate import BASELINES
from medcyclegan.evaluation.statistics import FEWEST_FOR_INTERVAL, METRICS, dose_metrics, metric_of, summarize
from medcyclegan.evaluation.tables import baseline_rows

__all__ = ["rows_to_text", "to_text"]

#: Columns of a table of several cases; the JSON and CSV tables contain all metrics.
_COLUMNS = ("mae", "psnr", "ms_ssim", "ssim_2023", "ncc", "mae_air", "mae_soft_tissue", "mae_bone")
#: Scores of dose -> heading in a table of several cases.
_DOSE_COLUMNS = {
    "photon_gamma": "photon gamma",
    "proton_gamma": "proton gamma",
    "photon_target_d95_difference": "photon D95",
    "proton_target_d95_difference": "proton D95",
}
_STATISTICS = {"mean": "mean", "sd": "sd", "median": "median", "min": "lowest", "max": "highest"}


def to_text(cases: Sequence[CaseScores], comparison: Mapping[str, Any] | None = None) -> str:
    """Return the scores of cases and their baselines as text, with a summary if there are several cases."""
    return rows_to_text([scores.to_dict() for scores in cases], comparison)


def rows_to_text(rows: Sequence[Mapping[str, Any]], comparison: Mapping[str, Any] | None = None) -> str:
    """Return the same text for rows of a table, such as :func:`~medcyclegan.evaluation.merge_tables` returns."""
    if len(rows) == 1:
        return _one_case(rows[0])
    names = [name for name in _COLUMNS if any(row[name] is not None for row in rows)]
    parts = [_several_cases(rows, names), *_footer(rows)]
    if dose_metrics(rows):
        parts += ["", _several_cases(rows, list(_DOSE_COLUMNS)), *_dose_footer(rows)]
    return "\n".join([*parts, *([] if comparison is None else ["", _comparison_text(comparison)])])


def _one_case(row: Mapping[str, Any]) -> str:
    lines = [["", "fake", *map(_title, row["baselines"])]]
    for name in METRICS:
        if row[name] is not None:
            lines.append([name, *(_number(scores[name]) for scores in (row, *row["baselines"].values()))])
    for name in dose_metrics([row]):
        if name.endswith(("_gamma", "_difference")):
            lines.append([name, *(_number(metric_of(each, name)) for each in (row, *row["baselines"].values()))])
    unit = f"unit of errors: {row['unit']}; normalization: {row['normalization']}"
    meanings = [f"{_title(name)}: {BASELINES[name]}" for name in row["baselines"]]
    meanings += _dose_footer([row]) if dose_metrics([row]) else []
    return "\n".join([_aligned(lines), unit, f"{row['voxels']} voxels in the mask", *meanings, *row["notes"]])


def _several_cases(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return one line for each case and each of its baselines that has scores, and the same for the summary."""
    lines = [["case", "scored", *(_DOSE_COLUMNS.get(name, name) for name in names)]]

    def has_scores(own: Sequence[Mapping[str, Any]]) -> bool:
        return any(metric_of(each, name) is not None for each in own for name in names)

    for row in rows:
        scored = {key: each for key, each in {"fake": row, **row["baselines"]}.items() if has_scores([each])}
        values = {key: [metric_of(each, name) for name in names] for key, each in scored.items()}
        lines += _block(str(row["case"]), values)
    found = {"fake": rows} | {name: own for name, own in baseline_rows(rows).items() if has_scores(own)}
    summaries = {name: summarize(own) for name, own in found.items()}
    for statistic, title in _STATISTICS.items():
        lines += _block(title, {key: _each(found, statistic, names) for key, found in summaries.items()})
    if any(entry["ci95"] for entry in summaries["fake"].values()):
        for place, title in enumerate(("95 % from", "to")):
            limits = {key: _each(found, "ci95", names) for key, found in summaries.items()}
            lines += _block(title, {key: [end and end[place] for end in ends] for key, ends in limits.items()})
    return _aligned(lines)


def _block(title: str, scored: Mapping[str, Sequence[float | None]]) -> list[list[str]]:
    """Return one line for the fake and for each baseline, with the title in the first line only."""
    titles = [title] + [""] * (len(scored) - 1)
    return [
        [first, _title(name), *map(_number, values)]
        for first, (name, values) in zip(titles, scored.items(), strict=True)
    ]


def _each(summary: Mapping[str, Mapping[str, Any]], statistic: str, names: Sequence[str]) -> list[Any]:
    return [summary.get(name, {}).get(statistic) for name in names]


def _footer(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    patients = len({row["patient"] for row in rows})
    summary = (
        f"{len(rows)} cases of {patients} patient{'' if patients == 1 else 's'}; unit of errors: {rows[0]['unit']}"
    )
    lines = [f"{summary}; statistics are over patients (the mean of each patient's cases)"]
    if patients < FEWEST_FOR_INTERVAL:
        lines.append(f"no intervals: they require {FEWEST_FOR_INTERVAL} patients or more")
    lines += [f"{_title(name)}: {BASELINES[name]}" for name in baseline_rows(rows)]
    beaten = sum(1 for row in rows if row["mae"] >= min(each["mae"] for each in row["baselines"].values()))
    if beaten:
        lines.append(
            f"in {beaten} of {len(rows)} cases, the MAE of a baseline is lower than that of the fake, or equal"
        )
    return lines


def _dose_footer(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the scores of dose are, and what was planned."""
    plans = [row["dose_plan"] for row in rows if row.get("dose_plan")]
    plan, given = plans[0], sum(each["target"].startswith("given") for each in plans)
    target = plan["target"] if len(plans) == 1 or given == len(plans) else "default sphere of each case"
    if 0 < given < len(plans):
        target = f"given mask in {given} of {len(plans)} cases, default sphere in the others"
    return [
        f"gamma: percentage of voxels that pass {plan['gamma']}",
        "D95: dose to 95 % of the target; differences are in Gy, image - reference",
        f"plan: {plan['prescription']}; target: {target}",
    ]


def _comparison_text(comparison: Mapping[str, Any]) -> str:
    lines = [["difference to the other", "mean", "lowest", "highest", "95 % interval", "p", "p (Holm)"]]
    for name, entry in comparison["metrics"].items():
        interval = " to ".join(map(_number, entry["ci95"])) if entry["ci95"] else "-"
        numbers = [_number(entry[key]) for key in ("mean_difference", "min", "max")]
        lines.append([name, *numbers, interval, _number(entry["p"]), _number(entry["p_holm"])])
    single = [
        f"{name} for each patient: {', '.join(map(_number, entry['differences']))}"
        for name, entry in comparison["metrics"].items()
        if entry["differences"]
    ]
    least = f"smallest possible p for {comparison['patients']} patients: {_number(comparison['smallest_possible_p'])}"
    return "\n".join([_aligned(lines), *single, comparison["test"], least])


def _title(name: str) -> str:
    return "input as output" if name == "input" else name.replace("_", " ")


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as aligned columns; the first column is left-aligned."""
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    aligned = []
    for line in lines:
        first, *others = line
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        aligned.append("  ".join(cells).rstrip())
    return "\n".join(aligned)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
