"""``medcyclegan inspect``."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medcyclegan.cli.common import Command, read_options, reading_options, synthetic_option
from medcyclegan.errors import one_line
from medcyclegan.logs import errors_only

if TYPE_CHECKING:
    from medcyclegan.io.inspect import Inspection
    from medcyclegan.io.inspected import InspectedVolume
    from medcyclegan.io.options import ReadOptions
    from medcyclegan.io.selection import Selection
    from medcyclegan.io.series_tree import SortedSeries

log = logging.getLogger(__name__)

#: Number of series whose reason for being left out is printed; the table next to the tree has all of them.
_LISTED = 12


@click.command("inspect", cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with one object per row.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a CSV table with one line per row.")
@click.option("--modality", multiple=True, metavar="NAME", help="List only this modality, e.g. CT; can be repeated.")
@click.option(
    "--description",
    multiple=True,
    metavar="PATTERN",
    help="List only series whose description contains this text or matches this pattern (* and ?); can be repeated.",
)
@click.option(
    "--patient",
    multiple=True,
    metavar="PATTERN",
    help="List only this PatientID (wildcards: * and ?); can be repeated.",
)
@click.option("--link-into", metavar="DIR", help="Sort the listed DICOM series into DIR, which slice-volumes reads.")
@click.option("--copy", is_flag=True, help="Copy the files into DIR instead of linking them.")
@click.option("--overwrite", is_flag=True, help="Replace folders in DIR that have other files.")
@reading_options
@synthetic_option
def command(paths: tuple[str, ...], **options: Any) -> None:
    """List the volumes in files and folders, one row per DICOM series or file, and whether each can be read.

    Reads headers only. The verdict is the same as in training and translation: ok, ok with certain options, or refused
    with the reason and the remedy. Files are grouped into series by UID, regardless of their folder; scouts in the
    folder of a volume are left out. UID is the end of SeriesInstanceUID; --series accepts it. Size is columns x rows x
    slices (x volumes). Spacing and gap are in mm; the gap is measured along the normal of the slices.

    A PATH can also be the address of a DICOMweb service or study (extra dicomweb), whose series are listed:
    https://host/dicom-web?PatientID=42&Modality=CT. If it is the address of one series, the series is fetched and
    inspected.

    --series, --modality, --description and --patient select rows. --link-into links the selected series that can be
    read into DIR, such as volumes/ct, one folder per patient and series. DIR.csv, which only its owner can read, lists
    the folder of each series, and what was left out and why.
    """
    from medcyclegan.io.dicom.network.web_address import is_dicomweb
    from medcyclegan.io.inspect import inspect_all
    from medcyclegan.io.selection import Selection, select_rows
    from medcyclegan.io.series_tree import check_tree

    searched, tree = [Path(path) for path in paths if not is_dicomweb(path)], options["link_into"]
    _check_options(options, tree, remote=len(searched) < len(paths))
    if tree is not None:
        check_tree(Path(tree), searched)
    selection = Selection(options["series"] or "", options["modality"], options["description"], options["patient"])
    reading = read_options(options)
    with errors_only("medcyclegan.io"):  # the rows contain the warnings of the readers
        found = inspect_all(paths, reading)
    rows = select_rows(found.volumes, selection)
    if options["as_json"]:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=1, allow_nan=False))
    elif options["as_csv"]:
        _print_csv(rows)
    elif tree is not None:
        _sort(found, rows, Path(tree), reading, options)
        return
    elif rows:
        from medcyclegan.cli.inspect_table import print_rows

        print_rows(rows)
    _report_others(found, rows, selection, remote=len(searched) < len(paths))


def _check_options(options: dict[str, Any], tree: str | None, *, remote: bool) -> None:
    """Refuse options that contradict each other; ``remote``: whether a PATH is on a server."""
    from medcyclegan.errors import UsageError

    if options["as_json"] + options["as_csv"] + (tree is not None) > 1:
        raise UsageError("--json, --csv and --link-into each have an output of their own: choose one")
    if tree is None and (options["copy"] or options["overwrite"]):
        raise UsageError("--copy and --overwrite belong to --link-into: add it, or leave them out")
    if tree is not None and remote:
        raise UsageError("--link-into sorts files, not series on a server: name files or folders only")


def _print_csv(rows: Sequence[InspectedVolume]) -> None:
    """Print one line per row; lists are joined, and the paths of the files are left out."""
    from medcyclegan.io.inspected import InspectedVolume

    names = [field.name for field in dataclasses.fields(InspectedVolume) if field.name != "file_paths"]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = [getattr(row, name) for name in names]
        writer.writerow(["; ".join(map(str, value)) if isinstance(value, tuple) else value for value in values])


def _report_others(found: Inspection, rows: Sequence[InspectedVolume], selection: Selection, *, remote: bool) -> None:
    """Print what the list leaves out."""
    from medcyclegan.io.formats import READABLE
    from medcyclegan.io.selection import describe_choice

    if found.others:
        counts = ", ".join(f"{reason}: {count}" for reason, count in found.others.items())
        click.echo(f"Skipped files: {counts}", err=True)
    if not found.volumes and remote:
        click.echo("No series matches", err=True)
    elif not found.volumes:
        click.echo(f"No volumes found ({READABLE})", err=True)
    elif not rows:
        click.echo(f"No volume matches {selection}; there are {describe_choice(found.volumes)}", err=True)
    elif selection:
        click.echo(f"{len(rows)} of {len(found.volumes)} volumes match {selection}", err=True)


def _sort(
    found: Inspection, rows: Sequence[InspectedVolume], tree: Path, reading: ReadOptions, options: dict[str, Any]
) -> None:
    """Sort the selected series into ``tree``, and print what was left out and how to continue."""
    from medcyclegan.io.series_tree import sort_series, table_path

    table = sort_series(found.volumes, rows, found.others, tree, copy=options["copy"], overwrite=options["overwrite"])
    click.echo(tree)
    _report_left_out(table, found.volumes)
    patients = len({row.folder.split("/")[0] for row in table if row.folder})
    linked = sum(bool(row.folder) for row in table)
    log.info(
        "%d series of %s in %s; the table of all series is %s",
        linked, "1 patient" if patients == 1 else f"{patients} patients", tree, table_path(tree),
    )  # fmt: skip
    given = {name: value for name, value in reading.given().items() if name not in ("series", "allow_synthetic")}
    if given:
        texts = " ".join(_option_text(name, value) for name, value in given.items())
        log.info("pass the same options to slice-volumes: %s", texts)


def _report_left_out(table: Sequence[SortedSeries], rows: Sequence[InspectedVolume]) -> None:
    """Log the selected series that were left out, and the number of the others."""
    from medcyclegan.cli.inspect_table import short_uids

    uids = short_uids(rows)
    left = [row for row in table if not row.folder and row.path]
    selected = [row for row in left if row.reason != "not selected"]
    for row in selected[:_LISTED]:
        number = f"series {row.series_number}" if row.series_number else ""
        about = ", ".join(part for part in (row.modality, number, row.description) if part) or "no modality"
        name = f"{uids[row.series_uid]} ({about}) in {os.path.relpath(row.path)}" if row.series_uid else row.path
        log.info("left out: %s: %s", one_line(name), row.reason)
    if len(selected) > _LISTED:
        log.info("left out: %d more", len(selected) - _LISTED)
    if len(left) > len(selected):
        log.info("left out: %d that the options do not select", len(left) - len(selected))


def _option_text(name: str, value: object) -> str:
    flag = f"--{name.replace('_', '-')}"
    return flag if value is True else f"{flag} {value:g}" if isinstance(value, float) else f"{flag} {value}"
