"""``medcyclegan inspect``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from medcyclegan.cli.common import Command, read_options, reading_options, synthetic_option
from medcyclegan.errors import one_line

if TYPE_CHECKING:
    from medcyclegan.io.inspected import InspectedVolume

#: The width of the table if the output is not a terminal.
_PIPE_COLUMNS = 10_000
_STYLES = {"ok": "green", "ok with options": "yellow", "refused": "red", "left out": "dim"}


@click.command("inspect", cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with one object per row.")
@reading_options
@synthetic_option
def command(paths: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """List the volumes in files and folders, one row per DICOM series or file, and whether each can be read.

    Reads headers only. The verdict is the same as in training and translation: ok, ok with certain options, or refused
    with the reason and the remedy. Files are grouped into series by UID, regardless of their folder; scouts in the
    folder of a volume are left out. Size is columns x rows x slices (x volumes). Spacing and gap are in mm; the gap is
    measured along the normal of the slices.

    A PATH can also be the address of a DICOMweb service or study (extra dicomweb), whose series are listed:
    https://host/dicom-web?PatientID=42&Modality=CT. A series' own address is fetched and inspected.
    """
    from medcyclegan.io.dicom.network.web_address import is_dicomweb
    from medcyclegan.io.formats import READABLE
    from medcyclegan.io.inspect import inspect_all

    with _readers_silent():
        found = inspect_all(paths, read_options(options))
    if as_json:
        rows = [dataclasses.asdict(row) for row in found.volumes]
        click.echo(json.dumps(rows, indent=1, allow_nan=False))
    else:
        listed = [row for row in found.volumes if row.verdict == "listed"]
        _print_listed(listed)
        if len(found.volumes) > len(listed):
            _print_table(tuple(row for row in found.volumes if row.verdict != "listed"))
    if found.others:
        counts = ", ".join(f"{count} {reason}" for reason, count in found.others.items())
        click.echo(f"Skipped: {counts}", err=True)
    if not found.volumes and any(is_dicomweb(path) for path in paths):
        click.echo("No series matches", err=True)
    elif not found.volumes:
        click.echo(f"No volumes found ({READABLE})", err=True)


@contextlib.contextmanager
def _readers_silent() -> Iterator[None]:
    """Hide the readers' warnings, because the rows contain them."""
    logger = logging.getLogger("medcyclegan.io")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _print_listed(rows: list[InspectedVolume]) -> None:
    """Print the series of a server, each with its address on a line, so that it can be copied."""
    for row in rows:
        about = [part for part in (row.modality, row.series_number, row.description) if part]
        images = "1 image" if row.files == 1 else f"{row.files} images"
        click.echo(f"{one_line(' '.join(about)) or 'series'}, {images}\n  {one_line(row.path)}")


def _print_table(rows: tuple[InspectedVolume, ...]) -> None:
    """Print the table, and below it the sentences that its numbers refer to."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("Where", "Series", "Modality", "Size", "Spacing", "Gap", "Axes", "Coding", "Verdict"):
        table.add_column(name, overflow="fold")
    sentences: dict[str, int] = {}
    root = _common_root(rows)
    for row in rows:
        series = " ".join(part for part in (row.series_number, row.description) if part)
        notes = [sentences.setdefault(text, len(sentences) + 1) for text in (row.reason, *row.notes) if text]
        verdict = Text(" ".join(("ok with", *row.options)) if row.options else row.verdict, _STYLES[row.verdict])
        verdict.append("".join(f" [{number}]" for number in notes), "default")
        where = Path(row.path).relative_to(root).as_posix() if root else row.path
        if "://" in where:  # too long for a table
            where = urlsplit(where).netloc
        cells = (where, series, _modality(row), _size(row), _spacing(row), _gap(row), _axes(row), _coding(row))
        table.add_row(*(Text(one_line(cell)) for cell in cells), verdict)
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _PIPE_COLUMNS, no_color=not terminal or None, highlight=False)
    if root and rows:
        console.print(Text(f"In {root}"))
    console.print(table)
    for sentence, number in sentences.items():
        console.print(Padding(Text(f"[{number}] {sentence}"), (0, 0, 0, 1), expand=False))


def _common_root(rows: tuple[InspectedVolume, ...]) -> str:
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
