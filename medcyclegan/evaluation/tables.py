"""Tables of scores as CSV and JSON: one row per case, a summary, and the comparison of two models."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError
from medcyclegan.evaluation.cases import PICTURED_CASES, CaseScores, Refusal
from medcyclegan.evaluation.evaluate import BASELINES
from medcyclegan.evaluation.statistics import METRICS, dose_metrics, summarize
from medcyclegan.provenance import now, versions
from medcyclegan.storage import atomic_write

__all__ = ["baseline_rows", "load_scores", "merge_tables", "to_json", "write_table"]

_MADE_BY = "medcyclegan evaluate"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as valid JSON; infinity is written as 1e999, which parsers read as infinity."""
    # json writes Infinity, which is not valid JSON. NaN cannot occur, because all scores are checked to be numbers.
    return re.sub(r'(?<!\\)": Infinity', '": 1e999', json.dumps(value, indent=indent))


def write_table(
    path: Path,
    cases: Sequence[CaseScores],
    refused: Sequence[Refusal] = (),
    comparison: Mapping[str, Any] | None = None,
) -> None:
    """Write the table as CSV or JSON, depending on the file extension, and pictures of the worst and best cases.

    JSON contains the cases, the refused cases, the summary of the scores of the fakes and of each baseline, and
    ``comparison``. CSV contains one row per case, with scores of baselines in columns such as ``water_mae``; scores of
    dose, if any, are in the last columns, such as ``photon_gamma`` and ``water_photon_gamma``. Pictures
    are written next to the table as ``<stem>-pictures/0001.png`` etc., numbered by row. Raises
    :class:`~medcyclegan.errors.WriteError`.
    """
    rows = [{**scores.to_dict(), "picture": None} for scores in cases]
    for number in _pictured(cases):
        picture = path.with_name(f"{path.stem}-pictures") / f"{number + 1:04d}.png"
        with atomic_write(picture) as file:
            file.write(cases[number].picture or b"")
        rows[number]["picture"] = f"{picture.parent.name}/{picture.name}"
    content = _csv(rows) if path.suffix.lower() == ".csv" else to_json(_record(rows, refused, comparison), indent=2)
    with atomic_write(path) as file:
        file.write(content.encode())


def load_scores(path: Path) -> dict[str, dict[str, Any]]:
    """Read the scores ``{case: {metric: value}}``, with ``patient``, of a table that :func:`write_table` wrote.

    Raises :class:`~medcyclegan.errors.ReadError` for any other file.
    """
    try:
        text = path.read_text("utf-8")
        if path.suffix.lower() == ".csv":
            rows: list[dict[str, Any]] = list(csv.DictReader(text.splitlines()))
        else:
            rows = json.loads(text)["cases"]
        scores = {
            str(row["case"]): {
                **{name: float(row[name]) for name in METRICS if row.get(name) not in (None, "")},
                "patient": str(row["patient"]),
            }
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f"{path}: not a table that evaluate --out wrote ({error!r}): write one first") from None
    if not scores:
        raise ReadError(f"{path}: the table has no cases: evaluate some first")
    return scores


def merge_tables(paths: Sequence[Path], out: Path) -> list[Mapping[str, Any]]:
    """Merge several JSON tables, such as those of the folds of a cross-validation, into one table ``out``.

    Returns its rows. The summary is computed from all cases; pictures remain with their tables. Raises
    :class:`~medcyclegan.errors.ReadError` for a file that is not such a table, or a case that is in two tables.
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
            f"{len(twice)} cases are in more than one table, such as {twice[0]!r}: merge tables of different cases"
        )
    with atomic_write(out) as file:
        file.write(to_json(_record(rows, refused, None), indent=2).encode())
    return rows


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
        "summary": {
            "fake": summarize(rows),
            "baselines": {name: summarize(found) for name, found in baseline_rows(rows).items()},
        },
        "comparison": comparison,
    }


def baseline_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the scores of each baseline, with one row, including the patient, for each case that has it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in BASELINES:
        own = [{**row["baselines"][name], "patient": row["patient"]} for row in rows if name in row["baselines"]]
        if own:
            found[name] = own
    return found


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    columns = [f"{baseline}_{name}" for baseline in baseline_rows(rows) for name in METRICS]
    names = ["case", *METRICS, "patient", *columns, "unit", "normalization", "voxels", "picture", "notes"]
    names += dose_metrics(rows)
    names += [f"{baseline}_{name}" for baseline, own in baseline_rows(rows).items() for name in dose_metrics(own)]
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        scores = {f"{baseline}_{name}": own[name] for baseline, own in row["baselines"].items() for name in METRICS}
        scores |= row.get("dose") or {}
        for baseline, own in row["baselines"].items():
            scores |= {f"{baseline}_{name}": value for name, value in (own.get("dose") or {}).items()}
        writer.writerow({**row, **scores, "notes": "; ".join(row["notes"])})
    return text.getvalue()


def _pictured(cases: Sequence[CaseScores]) -> list[int]:
    """Return the row numbers of the cases with pictures that have the smallest and the largest MAE."""
    order = sorted((n for n, c in enumerate(cases) if c.picture), key=lambda n: cases[n].evaluation.mae)
    return sorted({*order[:PICTURED_CASES], *order[-PICTURED_CASES:]})
