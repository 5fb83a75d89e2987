"""``medcyclegan slices``."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medcyclegan.cli.common import Command
from medcyclegan.errors import one_line
from medcyclegan.terminal import terminal_columns, wrapped

if TYPE_CHECKING:
    from medcyclegan.slicing.lookup import StoredVolume
    from medcyclegan.slicing.trained_on import RunUse

log = logging.getLogger(__name__)

_UNKNOWN = "not known: run slice-volumes again on the same volumes"


@click.command("slices", cls=Command)
@click.argument("store", default="slices", metavar="[STORE]")
@click.option("--find", multiple=True, metavar="NAME", help="Print the path of this volume; can be repeated.")
@click.option("--remove", multiple=True, metavar="NAME", help="Remove this volume from the store; can be repeated.")
@click.option(
    "--remove-patient",
    multiple=True,
    metavar="NAME",
    help="Remove all volumes of this patient, or of this volume's patient; can be repeated.",
)
@click.option("--runs", multiple=True, metavar="DIR", help="Also look for training runs in DIR; can be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with one object per volume.")
def command(store: str, **options: Any) -> None:
    """List the volumes of a slice store, find one, or remove a volume or a patient.

    STORE (default: slices) is a folder made by slice-volumes. NAME is the number of a volume, as on the contact sheets
    and in the check before training, or its hash; for --remove-patient also a PatientID or the hash of a patient. The
    numbers and paths are in the file .names.csv of the store, which only its owner can read.

    --find and --remove also report the training runs near the store that used the volume. The models are not changed,
    and neither are the volumes themselves: slice-volumes slices a volume again that is still among its inputs.
    """
    from medcyclegan.errors import UsageError
    from medcyclegan.slicing.lookup import find_volume, list_volumes, volumes_of_patient

    removes = bool(options["remove"] or options["remove_patient"])
    if options["find"] and removes:
        raise UsageError("--find and --remove: use one after the other")
    folder = Path(store)
    if removes:
        _finish(folder)
    volumes = list_volumes(folder)
    chosen = [find_volume(volumes, name, folder) for name in (*options["find"], *options["remove"])]
    for name in options["remove_patient"]:
        chosen += volumes_of_patient(volumes, name, folder)
    chosen = list({volume.key: volume for volume in chosen}.values())
    runs = [Path(path) for path in options["runs"]]
    if removes:
        _remove(folder, chosen, runs)
    if options["as_json"]:
        click.echo(json.dumps([_as_dict(volume) for volume in chosen or volumes], indent=1, allow_nan=False))
    elif options["find"] or removes:
        for volume in chosen:
            click.echo(one_line(volume.path) or _UNKNOWN)
    else:
        _print_list(volumes)
    if options["find"]:
        _report_runs(folder, chosen, runs)


def _finish(folder: Path) -> None:
    """Finish a removal that was interrupted, so that the list is that of a complete store."""
    from medcyclegan.slicing.lookup import list_volumes
    from medcyclegan.slicing.removal import remove_volumes
    from medcyclegan.slicing.store import SliceStore

    list_volumes(folder)  # refuses a folder that is no store, before a lock is created in it
    remove_volumes(SliceStore(folder, b""), [])


def _remove(folder: Path, chosen: Sequence[StoredVolume], searched: Sequence[Path]) -> None:
    from medcyclegan.errors import StoreError
    from medcyclegan.slicing.removal import remove_volumes
    from medcyclegan.slicing.store import SliceStore
    from medcyclegan.slicing.trained_on import find_runs, find_stores

    keys = [volume.key for volume in chosen]
    runs, stores = find_runs(folder, keys, searched), find_stores(folder, keys, searched)
    running = [use.run for use in runs if use.state == "running"]
    if running:
        raise StoreError(f"{running[0]} is being trained on these slices: stop it first, or wait for it")
    remove_volumes(SliceStore(folder, b""), keys)
    one = len(keys) == 1
    log.info(
        "removed %s from %s, but not the %s: slice-volumes slices %s again while %s among its inputs",
        "1 volume" if one else f"{len(keys)} volumes", folder, "original" if one else "originals",
        "it" if one else "them", "it is" if one else "they are",
    )  # fmt: skip
    _print_runs(runs)
    for store in stores:
        names = " ".join(f"--remove {case}" for _, case in keys)
        log.info("also in the store %s: medcyclegan slices %s %s", store, store, names)


def _report_runs(folder: Path, chosen: Sequence[StoredVolume], searched: Sequence[Path]) -> None:
    from medcyclegan.slicing.trained_on import find_runs

    _print_runs(find_runs(folder, [volume.key for volume in chosen], searched))


def _print_runs(runs: Sequence[RunUse]) -> None:
    what = {
        "trained": "was trained on this",
        "validated": "was not trained on this, but its best weights were chosen with it",
        "unknown": "may have been trained on this: the store has changed since",
    }
    for use in runs:
        models = ", ".join(str(path) for path in use.models) or "no model yet"
        log.info("the run %s %s (models: %s)", use.run, what[use.use], models)
    if not runs:
        log.info("no run near the store used this; copies of models elsewhere are not known")


def _as_dict(volume: StoredVolume) -> dict[str, Any]:
    row = volume.row
    return {
        "number": volume.number,
        "domain": volume.domain,
        "case": volume.case,
        "path": volume.path or None,
        "series_uid": volume.series_uid or None,
        "refused": volume.refused or None,
        "patient": row.patient if row else None,
        "patient_source": row.patient_source if row else None,
        "split": row.split if row else None,
        "slices": len(row.slices) if row else 0,
        "shape": row.shape if row else None,
        "modality": row.modality if row else None,
        "scaling": dict(row.scaling) if row else None,
    }


def _print_list(volumes: Sequence[StoredVolume]) -> None:
    """Print one line per volume; the path, which may be long, is last."""
    names = ("No.", "Domain", "Hash", "Patient", "Split", "Slices", "Modality", "Scaling", "Path")
    lines = [names, *(_cells(volume) for volume in volumes)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names) - 1)]
    start = sum(widths) + 2 * len(widths)
    narrow = start + max(len(line[-1]) for line in lines) > terminal_columns()
    reasons = ["", *(one_line(volume.refused) for volume in volumes)]
    for line, reason in zip(lines, reasons, strict=True):
        cells = [text.ljust(width) for text, width in zip(line[:-1], widths, strict=True)]
        click.echo("  ".join(cells if narrow else [*cells, line[-1]]).rstrip())
        if narrow and line is not names:
            click.echo(f"  {line[-1]}")
        for part in wrapped(reason, terminal_columns() - 2):
            click.echo(f"  {part}")
    if any(not volume.path for volume in volumes):
        log.info("some paths are %s", _UNKNOWN)


def _cells(volume: StoredVolume) -> tuple[str, ...]:
    row = volume.row
    number, path = "" if volume.number is None else str(volume.number), one_line(volume.path)
    if row is None:
        state = "refused" if volume.refused else "unfinished"
        return number, volume.domain, volume.case[:8], "", state, "", "", "", path
    low, high = row.scaling.get("lower"), row.scaling.get("upper")
    scaling = f"{low:.4g} to {high:.4g}" if isinstance(low, (int, float)) and isinstance(high, (int, float)) else ""
    return (
        number, volume.domain, volume.case[:8], row.patient[:8], row.split, str(len(row.slices)),
        row.modality or "image", scaling, path,
    )  # fmt: skip
