"""The page of an evaluation: the table, distributions, best and worst cases."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError
from medcyclegan.report.charts import Chart, strip_chart
from medcyclegan.report.page import picture_url, plain_rows, render

__all__ = ["build_table_page", "is_table"]

_MADE_BY = "medcyclegan evaluate"
_MEANINGS = {
    "mae": "mean absolute error in the mask (SynthRAD2025 and 2023); less is better",
    "psnr": "peak signal-to-noise ratio in dB (SynthRAD2025); more is better",
    "ms_ssim": "multi-scale structural similarity, at most 1 (SynthRAD2025); more is better",
    "psnr_2023": "peak signal-to-noise ratio in dB (SynthRAD2023); more is better",
    "ssim_2023": "structural similarity, at most 1 (SynthRAD2023); more is better",
    "mean_error": "mean of fake - reference; 0 is best",
    "ncc": "correlation, -1 to 1; more is better",
    "mae_air": "mean absolute error where the reference is below -200 HU",
    "mae_soft_tissue": "mean absolute error where the reference is from -200 to 200 HU",
    "mae_bone": "mean absolute error where the reference is 200 HU or more",
}
_DRAWN = ("mae", "psnr", "ms_ssim", "ssim_2023", "ncc", "mean_error")
_BASELINES = {"input": "the input taken as the output", "flat": "a flat image of the reference's median"}


def is_table(path: Path) -> bool:
    """Return whether ``path`` is a table that ``evaluate --out`` wrote, by its name's ending and its first bytes."""
    if path.suffix.lower() not in (".csv", ".json") or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4096).decode("utf-8", errors="replace")
    return start.startswith("case,mae,") if path.suffix.lower() == ".csv" else f'"{_MADE_BY}"' in start


def build_table_page(path: Path, *, names: bool = False) -> str:
    """Return the page of the table ``path``; cases are numbered by their rows unless ``names``.

    Case names are often patients' names or numbers, and pages travel. Raises
    :class:`~medcyclegan.errors.ReadError` for a file that is no such table.
    """
    table = _load_table(path)
    rows = table["cases"]
    shown = [str(row["case"]) if names else str(number) for number, row in enumerate(rows, start=1)]
    metrics = [name for name in _MEANINGS if any(row[name] is not None for row in rows)]
    headings = [{"name": "case", "meaning": "the row in the table"}]
    headings += [{"name": name, "meaning": _MEANINGS[name]} for name in metrics]
    headings += [{"name": f"base {name}", "meaning": f"{name} of the baseline"} for name in ("mae", "psnr", "ms_ssim")]
    return render(
        "table.html.j2",
        title="Evaluation",
        cards=_cards(rows, table["summary"]),
        warnings=_warnings(table, names=names),
        legend=_legend(rows),
        charts=_charts(rows),
        pictures=_pictures(path, rows, shown),
        headings=headings,
        rows=[{"case": name, "cells": _cells(row, metrics)} for name, row in zip(shown, rows, strict=True)],
        case_note="" if names else "Cases are numbered as in the table file; their names were left out of this page.",
        summary=_summary(table["summary"], metrics),
        comparison=_comparison(table["comparison"]),
        provenance=plain_rows({name: table[name] for name in ("made_by", "created", "versions") if name in table}),
    )


def _load_table(path: Path) -> dict[str, Any]:
    """Return a table with ``cases``, ``summary``, ``refused`` and ``comparison``, from JSON or CSV."""
    try:
        text = path.read_text("utf-8")
        if path.suffix.lower() == ".csv":
            cases = [_row_from_csv(row) for row in csv.DictReader(text.splitlines())]
            table = {"cases": cases, "summary": None, "refused": [], "comparison": None}
        else:
            table = json.loads(text)
        if not table["cases"]:
            raise ReadError(f"{path}: a table without cases: evaluate some first")
        for row in table["cases"]:
            for scores in (row, row["baseline"]):
                for name in _MEANINGS:
                    scores[name] = None if scores[name] is None else float(scores[name])
            str(row["case"]), str(row["unit"]), row["baseline"]["scored"], row["notes"], row["picture"]
        table["summary"], table["refused"], table["comparison"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(f"{path}: not a table that evaluate --out wrote ({error!r}): write one first") from None
    return dict(table)


def _row_from_csv(row: Mapping[str, str]) -> dict[str, Any]:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    baseline: dict[str, Any] = {name: number(f"baseline_{name}") for name in _MEANINGS}
    fields: dict[str, Any] = {name: number(name) for name in _MEANINGS}
    fields |= {"case": row["case"], "unit": row["unit"], "normalization": row["normalization"]}
    fields |= {"picture": row["picture"] or None, "notes": [row["notes"]] if row["notes"] else []}
    return {**fields, "baseline": {**baseline, "scored": row["baseline"]}}


def _cards(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    cards = [("cases", str(len(rows)))]
    if summary is not None:
        for name in ("mae", "psnr", "ms_ssim", "ssim_2023"):
            entry = summary["fake"].get(name)
            if entry:
                unit = f" {rows[0]['unit']}" if name == "mae" and rows[0]["unit"] == "HU" else ""
                cards.append((f"mean {name}", f"{_mean_and_sd(entry['mean'], entry['sd'])}{unit}"))
    return cards


def _warnings(table: Mapping[str, Any], *, names: bool) -> list[str]:
    rows, said = table["cases"], []
    worse = sum(1 for row in rows if row["mae"] >= row["baseline"]["mae"])
    if worse:
        said.append(f"In {worse} of {len(rows)} cases doing nothing gives an MAE that is as good as the translation's.")
    if any(row["baseline"]["scored"] == "flat" for row in rows):
        said.append("No input was given, so the baseline is a flat image: evaluate with --input for the honest one.")
    counted: dict[str, int] = {}
    for row in rows:
        for note in row["notes"]:
            # Notes hold numbers of their own case; what they are about is the same for all.
            about = note.partition(":")[0] if ":" in note else note
            about = "background in the mask lifts the score" if "lifts the score" in note else about
            counted[about] = counted.get(about, 0) + 1
    said += [f"{note} ({count} of {len(rows)} cases; the table file says more)." for note, count in counted.items()]
    for refusal in table["refused"]:
        said.append(f"{refusal['case']}: {refusal['reason']}" if names else "A case was refused: see the table file.")
    return said


def _legend(rows: Sequence[Mapping[str, Any]]) -> str:
    baseline = _BASELINES.get(rows[0]["baseline"]["scored"], "doing nothing")
    unit = f"Errors are in {rows[0]['unit']}" if rows[0]["unit"] == "HU" else f"Errors are a part {rows[0]['unit']}"
    normal = rows[0]["normalization"]
    said = "" if normal == "none" else f" Intensities were first brought to one range: {normal}."
    return f"{unit}. The baseline is {baseline}, scored in the same way.{said}"


def _charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    charts = []
    for name in _DRAWN:
        groups = {
            "fake": [row[name] for row in rows if row[name] is not None],
            "baseline": [row["baseline"][name] for row in rows if row["baseline"][name] is not None],
        }
        if groups["fake"]:
            charts.append(strip_chart(f"{name}: {_MEANINGS[name]}", groups))
    return charts


def _pictures(path: Path, rows: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> list[dict[str, str]]:
    """Return the pictures that lie beside the table, the worst case first."""
    pictures = []
    for row, name in sorted(zip(rows, shown, strict=True), key=lambda pair: -pair[0]["mae"]):
        parts = Path(str(row["picture"])).parts if row["picture"] else ()
        file = path.parent.joinpath(*parts)
        if len(parts) != 2 or parts[0] != f"{path.stem}-pictures" or not file.is_file():
            continue
        caption = f"Case {name}: MAE {_number(row['mae'])}, PSNR {_number(row['psnr'])} dB"
        pictures.append(
            {
                "source": picture_url(file),
                "caption": caption,
                "description": f"{caption}. Axial, coronal and sagittal planes through the largest error: "
                "the input where one was given, the fake, the reference, and the error between them.",
            }
        )
    return pictures


def _cells(row: Mapping[str, Any], metrics: Sequence[str]) -> list[dict[str, Any]]:
    values = [row[name] for name in metrics] + [row["baseline"][name] for name in ("mae", "psnr", "ms_ssim")]
    return [{"value": _sorted_by(value), "text": _number(value)} for value in values]


def _sorted_by(value: float | None) -> str:
    """Return a number as JavaScript reads it."""
    return "" if value is None else "Infinity" if math.isinf(value) else repr(value)


def _summary(summary: Mapping[str, Any] | None, metrics: Sequence[str]) -> list[dict[str, Any]]:
    if summary is None:
        return []
    entries = [summary["fake"].get(name, {}) for name in metrics]
    entries += [summary["baseline"].get(name, {}) for name in ("mae", "psnr", "ms_ssim")]
    rows = [{"name": key, "cells": [_number(e.get(key)) for e in entries]} for key in ("mean", "sd", "median")]
    for place, name in enumerate(("95 % interval from", "to")):
        rows.append({"name": name, "cells": [_number(e["ci95"][place] if e.get("ci95") else None) for e in entries]})
    return rows


def _comparison(comparison: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    rows = [
        [name, _number(e["mean_difference"]), " to ".join(_number(end) for end in e["ci95"]), _number(e["p"]),
         _number(e["p_holm"])]
        for name, e in comparison["metrics"].items()
    ]  # fmt: skip
    smallest = _number(comparison["smallest_possible_p"])
    return {"test": comparison["test"], "cases": comparison["cases"], "smallest": smallest, "rows": rows}


def _mean_and_sd(mean: float, sd: float | None) -> str:
    """Return ``10.57 ± 0.13``: the standard deviation with two figures, the mean with as many decimals."""
    if not sd:
        return _number(mean)
    decimals = max(0, 1 - math.floor(math.log10(sd)))
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return "∞" if math.isinf(value) else f"{value:.4g}"
