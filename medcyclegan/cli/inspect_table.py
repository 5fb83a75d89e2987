"""The table of ``medcyclegan inspect``: one line per volume where they fit the terminal, else two or three."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from medcyclegan.errors import one_line
from medcyclegan.terminal import terminal_columns, wrapped

if TYPE_CHECKING:
    from rich.console import Console

    from medcyclegan.io.inspected import InspectedVolume

__all__ = ["print_rows", "print_table", "short_uids"]

_STYLES = {"ok": "green", "ok with options": "yellow", "refused": "red", "left out": "dim"}
_NAMES = ("UID", "Modality", "Size", "Verdict", "Series", "Patient", "Where", "Spacing", "Gap", "Axes", "Coding")
#: Number of columns of the first line of a volume on a narrow terminal; the others are in the next lines.
_FIRST = 4
_SHORTEST_ENDING = 8
#: Number of series that a sentence below the table names.
_NAMED = 3


def print_rows(rows: Sequence[InspectedVolume]) -> None:
    """Print the series that are only listed by a server, and the table of all others."""
    listed = [row for row in rows if row.verdict == "listed"]
    _print_listed(listed)
    if len(listed) < len(rows):
        print_table([row for row in rows if row.verdict != "listed"])


def _print_listed(rows: Sequence[InspectedVolume]) -> None:
    """Print the series of a server, each with its address on a line, so that it can be copied."""
    for row in rows:
        about = [part for part in (row.modality, row.series_number, row.description) if part]
        images = "1 image" if row.files == 1 else f"{row.files} images"
        click.echo(f"{one_line(' '.join(about)) or 'series'}, {images}\n  {one_line(row.path)}")


def print_table(rows: Sequence[InspectedVolume]) -> None:
    """Print the table, and below it the sentences that its numbers refer to, with the series that they are about."""
    from rich.console import Console
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(width=terminal_columns(), no_color=not terminal or None, highlight=False, soft_wrap=True)
    root, uids = _common_root(rows), short_uids(rows)
    sentences: dict[str, list[InspectedVolume]] = {}
    for row in rows:
        for text in _sentences(row):
            sentences.setdefault(text, []).append(row)
    numbers = {text: number for number, text in enumerate(sentences, start=1)}
    cells = [_cells(row, root, uids, numbers) for row in rows]
    if root and rows:
        console.print(Text(f"In {root}"))
    if not _print_wide(console, rows, cells):
        _print_narrow(console, rows, cells)
    for text, about in sentences.items():
        line = f"[{numbers[text]}] {_named(about, root, uids)}: {text}"
        for part in wrapped(line, console.width, "    "):
            console.print(Text(part))


def short_uids(rows: Sequence[InspectedVolume]) -> dict[str, str]:
    """Return for each SeriesInstanceUID an ending that no other has, after an ellipsis; ``--series`` accepts it."""
    uids = {row.series_uid for row in rows if row.series_uid}
    length = _SHORTEST_ENDING
    while len({uid[-length:] for uid in uids}) < len(uids):
        length += 1
    return {uid: f"…{uid[-length:]}" if len(uid) > length else uid for uid in uids}


def _print_wide(console: Console, rows: Sequence[InspectedVolume], cells: Sequence[Sequence[str]]) -> bool:
    """Print one row per volume; return False if a word or a cell would have to be broken."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    widths = [max(len(cell) for cell in column) for column in zip(_NAMES, *cells, strict=True)]
    if sum(widths) + 3 * len(widths) > console.width:
        return False
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in _NAMES:
        table.add_column(name, no_wrap=True)
    for row, texts in zip(rows, cells, strict=True):
        styles = ["" if number != _FIRST - 1 else _STYLES[row.verdict] for number in range(len(texts))]
        table.add_row(*(Text(text, style) for text, style in zip(texts, styles, strict=True)))
    console.print(table)
    return True


def _print_narrow(console: Console, rows: Sequence[InspectedVolume], cells: Sequence[Sequence[str]]) -> None:
    """Print for each volume a line with UID, modality, size and verdict, and the other cells indented below it."""
    from rich.text import Text

    firsts = [texts[: _FIRST - 1] for texts in cells]
    widths = [max(map(len, column)) for column in zip(_NAMES[: _FIRST - 1], *firsts, strict=True)]

    def first_line(texts: Sequence[str]) -> str:
        return "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)) + "  "

    console.print(Text(first_line(_NAMES[: _FIRST - 1]) + _NAMES[_FIRST - 1], "bold"))
    for row, texts in zip(rows, cells, strict=True):
        start = first_line(texts[: _FIRST - 1])
        verdict = wrapped(texts[_FIRST - 1], max(24, console.width - len(start)))
        for number, part in enumerate(verdict or [""]):
            line = Text(start if number == 0 else " " * len(start))
            console.print(line.append(part, _STYLES[row.verdict]))
        for part in wrapped(_details(texts), console.width - 2):
            console.print(Text(f"  {part}"))


def _details(texts: Sequence[str]) -> str:
    """Return the cells after the first line's as one text."""
    series, patient, where, spacing, gap, axes, coding = texts[_FIRST:]
    parts = (
        series,
        patient and f"patient {patient}",
        where,
        spacing and f"spacing {spacing} mm",
        gap and f"gap {gap} mm",
        axes,
        coding,
    )
    return ", ".join(part for part in parts if part)


def _cells(row: InspectedVolume, root: str, uids: Mapping[str, str], numbers: Mapping[str, int]) -> tuple[str, ...]:
    verdict = " ".join(("ok with", *row.options)) if row.options else row.verdict
    verdict += "".join(f" [{numbers[text]}]" for text in _sentences(row))
    series = " ".join(part for part in (row.series_number, row.description) if part)
    cells = (
        uids.get(row.series_uid or "", ""), _modality(row), _size(row), verdict, series, row.patient or "",
        _where(row, root), _spacing(row), _gap(row), _axes(row), _coding(row),
    )  # fmt: skip
    return tuple(one_line(cell) for cell in cells)


def _sentences(row: InspectedVolume) -> list[str]:
    return [text for text in (row.reason, *row.notes) if text]


def _named(rows: Sequence[InspectedVolume], root: str, uids: Mapping[str, str]) -> str:
    """Return the series or files that a sentence is about, with the folder of each."""
    names = []
    for row in rows[:_NAMED]:
        uid = uids.get(row.series_uid or "")
        names.append(one_line(f"{uid} in {_where(row, root)}" if uid else _where(row, root)))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return ", ".join(names) + more


def _where(row: InspectedVolume, root: str) -> str:
    where = Path(row.path).relative_to(root).as_posix() if root else row.path
    if "://" in where:  # too long for a table
        where = urlsplit(where).netloc
    return f"{where} ({row.folders} folders)" if row.folders > 1 else where


def _common_root(rows: Sequence[InspectedVolume]) -> str:
    """Return the common parent folder of all rows, or ``""``; paths in the table are relative to it."""
    parents = [os.path.dirname(row.path) for row in rows]
    if any("://" in parent for parent in parents):
        return ""
    try:
        return os.path.commonpath(parents) if len(parents) > 1 else ""
    except ValueError:  # a mixture of absolute and relative paths
        return ""


def _modality(row: InspectedVolume) -> str:
    return " ".join(part for part in (row.modality, "synthetic" if row.synthetic else "") if part)


def _coding(row: InspectedVolume) -> str:
    """Return the transfer syntax, abbreviated, or the type of the file."""
    name = (row.transfer_syntax or row.kind).split(",")[0].split("(")[0]
    for long, short in ((" VR Little Endian", " LE"), (" VR Big Endian", " BE"), (" Image Compression", "")):
        name = name.replace(long, short)
    return name.strip()


def _size(row: InspectedVolume) -> str:
    if row.columns is None:
        return f"{row.files} file(s)"
    size = f"{row.columns} x {row.rows} x {row.slices}"
    return size + (f" x {row.volumes}" if row.volumes and row.volumes > 1 else "")


def _spacing(row: InspectedVolume) -> str:
    return " ".join(f"{value:.3g}" for value in row.spacing_mm or ())


def _gap(row: InspectedVolume) -> str:
    smallest, largest = row.gap_mm or (None, None)
    if smallest is None or largest is None:
        return ""
    same = f"{smallest:.3g}" == f"{largest:.3g}"
    return f"{smallest:.3g}" if same else f"{smallest:.3g} to {largest:.3g}"


def _axes(row: InspectedVolume) -> str:
    oblique = f" {row.oblique_degrees:.0f}°" if row.oblique_degrees and row.oblique_degrees >= 1 else ""
    return (row.orientation or "") + oblique
