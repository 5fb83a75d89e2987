"""Tables of scores: a row a case, their summary, the comparison of two models; as CSV and JSON."""

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
from medcyclegan.evaluation.statistics import METRICS, summarize
from medcyclegan.provenance import now, versions
from medcyclegan.storage import atomic_write

__all__ = ["baseline_rows", "load_scores", "merge_tables", "to_json", "write_table"]

_MADE_BY = "medcyclegan evaluate"


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

    JSON holds the cases, what was refused, the summary of the fakes' and of each baseline's scores, and ``comparison``.
    CSV holds a row a case, with the baselines' scores as ``water_mae`` and so on. Pictures go to
    ``<stem>-pictures/0001.png`` and so on, by the case's row. Raises :class:`~medcyclegan.errors.WriteError`.
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
    """Read the scores ``{case: {metric: value}}`` of a table that :func:`write_table` wrote, with each ``patient``.

    Raises :class:`~medcyclegan.errors.ReadError` for anything else.
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
        raise ReadError(f"{path}: a table without cases: evaluate some first")
    return scores


def merge_tables(paths: Sequence[Path], out: Path) -> list[Mapping[str, Any]]:
    """Write the cases of several JSON tables, such as the folds of a cross-validation, as one table ``out``.

    Returns its rows. The summary is that of all cases; pictures stay with the tables that they belong to. Raises
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
    """Return each baseline's scores, a row for each case that has it, with the case's patient."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in BASELINES:
        own = [{**row["baselines"][name], "patient": row["patient"]} for row in rows if name in row["baselines"]]
        if own:
            found[name] = own
    return found


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    beside = [f"{baseline}_{name}" for baseline in baseline_rows(rows) for name in METRICS]
    names = ["case", *METRICS, "patient", *beside, "unit", "normalization", "voxels", "picture", "notes"]
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        scores = {f"{baseline}_{name}": own[name] for baseline, own in row["baselines"].items() for name in METRICS}
        writer.writerow({**row, **scores, "notes": "; ".join(row["notes"])})
    return text.getvalue()


def _pictured(cases: Sequence[CaseScores]) -> list[int]:
    """Return the rows of the cases with the smallest and the largest MAE that have pictures."""
    order = sorted((n for n, c in enumerate(cases) if c.picture), key=lambda n: cases[n].evaluation.mae)
    return sorted({*order[:PICTURED_CASES], *order[-PICTURED_CASES:]})
