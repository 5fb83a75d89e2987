"""The page of an evaluation: the table, distributions, and the best and worst cases."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError
from medcyclegan.evaluation.evaluate import BASELINES
from medcyclegan.report.charts import FEWEST_FOR_MEDIAN, Chart, strip_chart
from medcyclegan.report.page import number, picture_url, plain_rows, render

__all__ = ["MEANINGS", "build_table_page", "is_table"]

_MADE_BY = "medcyclegan evaluate"
MEANINGS = {
    "mae": "mean absolute error in the mask (SynthRAD2025 and 2023); lower is better",
    "psnr": "peak signal-to-noise ratio in dB (SynthRAD2025); higher is better",
    "ms_ssim": "multi-scale structural similarity, at most 1 (SynthRAD2025); higher is better",
    "psnr_2023": "peak signal-to-noise ratio in dB (SynthRAD2023); higher is better",
    "ssim_2023": "structural similarity, at most 1 (SynthRAD2023); higher is better",
    "mean_error": "mean of fake - reference; 0 is best",
    "ncc": "correlation, -1 to 1; higher is better",
    "mae_air": "mean absolute error where the reference is below -200 HU",
    "mae_soft_tissue": "mean absolute error where the reference is from -200 to 200 HU",
    "mae_bone": "mean absolute error where the reference is 200 HU or more",
}
_DRAWN = ("mae", "psnr", "ms_ssim", "ssim_2023", "ncc", "mean_error")
_BASELINE_METRICS = ("mae", "psnr", "ms_ssim")
_STATISTICS = {"mean": "mean", "sd": "sd", "median": "median", "min": "lowest", "max": "highest"}


def is_table(path: Path) -> bool:
    """Return whether ``path`` is a table that ``evaluate --out`` wrote, from its file extension and first bytes."""
    if path.suffix.lower() not in (".csv", ".json") or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4096).decode("utf-8", errors="replace")
    return start.startswith("case,mae,") if path.suffix.lower() == ".csv" else f'"{_MADE_BY}"' in start


def build_table_page(path: Path, *, names: bool = False) -> str:
    """Return the page of the table ``path``; it shows row numbers instead of case names unless ``names`` is set.

    Case names often identify patients, and pages are passed on. Raises
    :class:`~medcyclegan.errors.ReadError` for a file that is not such a table.
    """
    table = _load_table(path)
    rows = table["cases"]
    shown = [str(row["case"]) if names else str(number) for number, row in enumerate(rows, start=1)]
    metrics = [name for name in MEANINGS if any(row[name] is not None for row in rows)]
    columns = [(baseline, name) for baseline in _baselines(rows) for name in _BASELINE_METRICS]
    headings = [{"name": "case", "meaning": "the row in the table"}]
    headings += [{"name": name, "meaning": MEANINGS[name]} for name in metrics]
    headings += [
        {"name": f"{_title(baseline)} {name}", "meaning": f"{name} of the baseline: {BASELINES[baseline]}"}
        for baseline, name in columns
    ]
    return render(
        "table.html.j2",
        title="Evaluation",
        cards=_cards(rows, table["summary"]),
        warnings=_warnings(table, shown, names=names),
        legend=_legend(rows),
        charts=_charts(rows),
        median_line=len(rows) >= FEWEST_FOR_MEDIAN,
        pictures=_pictures(path, rows, shown),
        headings=headings,
        rows=[{"case": name, "cells": _cells(row, metrics, columns)} for name, row in zip(shown, rows, strict=True)],
        case_note=""
        if names
        else "Cases are numbered by their row in the table file; this page does not contain their names.",
        summary=_summary(table["summary"], metrics, columns),
        comparison=_comparison(table["comparison"]),
        provenance=plain_rows({name: table[name] for name in ("made_by", "created", "versions") if name in table}),
    )


def _load_table(path: Path) -> dict[str, Any]:
    """Read a table with ``cases``, ``summary``, ``refused`` and ``comparison`` from JSON or CSV."""
    try:
        text = path.read_text("utf-8")
        if path.suffix.lower() == ".csv":
            cases = [_row_from_csv(row) for row in csv.DictReader(text.splitlines())]
            table = {"cases": cases, "summary": None, "refused": [], "comparison": None}
        else:
            table = json.loads(text)
        if not table["cases"]:
            raise ReadError(f"{path}: the table has no cases: evaluate some first")
        for row in table["cases"]:
            if not row["baselines"].keys() <= BASELINES.keys() or not row["baselines"]:
                raise ReadError(f"{path}: unknown baselines {list(row['baselines'])!r:.80}: write the table again")
            for scores in (row, *row["baselines"].values()):
                for name in MEANINGS:
                    scores[name] = None if scores[name] is None else float(scores[name])
            str(row["case"]), str(row["patient"]), str(row["unit"]), row["notes"], row["picture"]
        table["summary"], table["refused"], table["comparison"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f"{path}: not a table that evaluate --out wrote ({error!r}): write one first") from None
    return dict(table)


def _row_from_csv(row: Mapping[str, str]) -> dict[str, Any]:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    fields: dict[str, Any] = {name: number(name) for name in MEANINGS}
    fields |= {name: row[name] for name in ("case", "patient", "unit", "normalization")}
    fields |= {"picture": row["picture"] or None, "notes": [row["notes"]] if row["notes"] else []}
    baselines = {
        name: {metric: number(f"{name}_{metric}") for metric in MEANINGS}
        for name in BASELINES
        if row.get(f"{name}_mae")
    }
    return {**fields, "baselines": baselines}


def _baselines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the baselines that at least one case has, in the order of ``BASELINES``."""
    return [name for name in BASELINES if any(name in row["baselines"] for row in rows)]


def _title(baseline: str) -> str:
    return baseline.replace("_", " ")


def _cards(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    cards = [("cases", str(len(rows))), ("patients", str(len({row["patient"] for row in rows})))]
    if summary is None:
        return cards
    for name in ("mae", "psnr", "ms_ssim", "ssim_2023"):
        entry = summary["fake"].get(name)
        if entry:
            unit = f" {rows[0]['unit']}" if name == "mae" and rows[0]["unit"] == "HU" else ""
            cards.append((f"mean {name}", f"{_spread(entry)}{unit}"))
    cards += [
        (f"mean mae, {_title(name)}", number(entries["mae"]["mean"]))
        for name, entries in summary["baselines"].items()
        if "mae" in entries
    ]
    return cards


def _warnings(table: Mapping[str, Any], shown: Sequence[str], *, names: bool) -> list[str]:
    """Return the warnings about a table; ``shown``: how the page names its cases."""
    rows, warnings = table["cases"], []
    warnings += _beaten(rows, shown)
    if rows[0]["unit"] == "HU" and "tissue_means" not in _baselines(rows):
        warnings.append(
            "The baseline from the training set is missing: evaluate with --input, and with the sidecars of the "
            "translations or --model."
        )
    elif rows[0]["unit"] != "HU" and any("input" not in row["baselines"] for row in rows):
        warnings.append("No input was given, so the baseline is a flat image: evaluate with --input.")
    warnings += _notes(rows, shown)
    for refusal in table["refused"]:
        warnings.append(
            f"{refusal['case']}: {refusal['reason']}" if names else "A case was refused: see the table file."
        )
    return warnings


def _beaten(rows: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> list[str]:
    """Return a sentence about the cases in which a baseline has at most the MAE of the translation."""
    best = [min(row["baselines"].items(), key=lambda item: float(item[1]["mae"])) for row in rows]
    excess = [row["mae"] - baseline["mae"] for row, (_, baseline) in zip(rows, best, strict=True)]
    beaten = sum(1 for value in excess if value >= 0)
    if not beaten:
        return []
    worst = max(range(len(rows)), key=lambda n: excess[n])
    name, baseline = best[worst]
    compared = "lower than" if excess[worst] > 0 else "equal to"
    return [
        f"In {beaten} of {len(rows)} cases, the MAE of a baseline is lower than that of the translation, or equal. "
        f"In case {shown[worst]}, that of the baseline {_title(name)} is {number(baseline['mae'])}, {compared} that "
        f"of the translation, {number(rows[worst]['mae'])}."
    ]


def _notes(rows: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> list[str]:
    """Return the notes of all cases; notes that differ only in their numbers are counted as one."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for row, name in zip(rows, shown, strict=True):
        for note in row["notes"]:
            alike.setdefault(re.sub(r"[\d.]+", "#", note), []).append((name, note))
    sentences = []
    for found in alike.values():
        name, note = found[0]
        count = f"{len(found)} of {len(rows)} cases"
        if len({text for _, text in found}) == 1:
            sentences.append(f"{note[:1].upper()}{note[1:]} ({count}).")
        else:
            sentences.append(f"Case {name}: {note} (similar in {count}; see the table file).")
    return sentences


def _legend(rows: Sequence[Mapping[str, Any]]) -> str:
    baselines = "; ".join(f"{_title(name)}: {BASELINES[name]}" for name in _baselines(rows))
    unit = f"Errors are in {rows[0]['unit']}" if rows[0]["unit"] == "HU" else f"Errors are a fraction {rows[0]['unit']}"
    normal = rows[0]["normalization"]
    scaled = "" if normal == "none" else f" Intensities were first scaled to a common range: {normal}."
    patients = " Statistics are over patients: each patient counts once, with the mean of their cases."
    return f"{unit}. Baselines, scored in the same way: {baselines}.{scaled}{patients}"


def _charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    charts = []
    for name in _DRAWN:
        scored = {"fake": rows} | {
            _title(key): [row["baselines"][key] for row in rows if key in row["baselines"]] for key in _baselines(rows)
        }
        groups = {key: [each[name] for each in own if each[name] is not None] for key, own in scored.items()}
        if groups["fake"]:
            charts.append(strip_chart(f"{name}: {MEANINGS[name]}", groups))
    return charts


def _pictures(path: Path, rows: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> list[dict[str, str]]:
    """Return the pictures in the folder next to the table, starting with the worst case."""
    pictures = []
    for row, name in sorted(zip(rows, shown, strict=True), key=lambda pair: -pair[0]["mae"]):
        parts = Path(str(row["picture"])).parts if row["picture"] else ()
        file = path.parent.joinpath(*parts)
        if len(parts) != 2 or parts[0] != f"{path.stem}-pictures" or not file.is_file():
            continue
        caption = f"Case {name}: MAE {number(row['mae'])}, PSNR {number(row['psnr'])} dB"
        pictures.append(
            {
                "source": picture_url(file),
                "caption": caption,
                "description": f"{caption}. Axial, coronal and sagittal planes through the largest error: "
                "the input if one was given, the fake, the reference, and the error between the last two.",
            }
        )
    return pictures


def _cells(row: Mapping[str, Any], metrics: Sequence[str], columns: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    values = [row[name] for name in metrics]
    values += [row["baselines"].get(baseline, {}).get(name) for baseline, name in columns]
    return [{"value": _sorted_by(value), "text": number(value)} for value in values]


def _sorted_by(value: float | None) -> str:
    """Return a number in the syntax of JavaScript."""
    return "" if value is None else "Infinity" if math.isinf(value) else repr(value)


def _summary(
    summary: Mapping[str, Any] | None, metrics: Sequence[str], columns: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    if summary is None:
        return []
    entries = [summary["fake"].get(name, {}) for name in metrics]
    entries += [summary["baselines"].get(baseline, {}).get(name, {}) for baseline, name in columns]
    rows = [{"name": title, "cells": [number(e.get(key)) for e in entries]} for key, title in _STATISTICS.items()]
    if any(entry.get("ci95") for entry in entries):
        for place, name in enumerate(("95 % interval from", "to")):
            ends = [number(e["ci95"][place] if e.get("ci95") else None) for e in entries]
            rows.append({"name": name, "cells": ends})
    return rows


def _comparison(comparison: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    rows = []
    for name, entry in comparison["metrics"].items():
        interval = " to ".join(map(number, entry["ci95"])) if entry["ci95"] else "-"
        single = ", ".join(map(number, entry["differences"] or ()))
        numbers = [number(entry[key]) for key in ("mean_difference", "min", "max")]
        rows.append([name, *numbers, interval, number(entry["p"]), number(entry["p_holm"]), single or "-"])
    smallest = number(comparison["smallest_possible_p"])
    return {"test": comparison["test"], "patients": comparison["patients"], "smallest": smallest, "rows": rows}


def _spread(entry: Mapping[str, Any]) -> str:
    """Return mean and standard deviation, ``10.57 ± 0.13``, or the range if too few patients have an interval."""
    if not entry["ci95"]:
        return f"{number(entry['mean'])} ({number(entry['min'])} to {number(entry['max'])})"
    if not entry["sd"]:
        return number(entry["mean"])
    decimals = max(0, 1 - math.floor(math.log10(entry["sd"])))
    return f"{entry['mean']:.{decimals}f} ± {entry['sd']:.{decimals}f}"
