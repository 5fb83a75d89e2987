"""Write the page of a run, a table or a translated volume to disk."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError, UsageError, VolumeError
from medcyclegan.evaluation import Evaluation, evaluate_volumes
from medcyclegan.intensity import looks_like_hu
from medcyclegan.io import ReadOptions, read_translation_record, read_with_options
from medcyclegan.report.run_page import build_run_page, is_run
from medcyclegan.report.table_page import build_table_page, is_table
from medcyclegan.report.translation_page import build_translation_page
from medcyclegan.storage import atomic_write, check_output
from medcyclegan.volume import Volume

__all__ = ["ReportOptions", "write_report"]

log = logging.getLogger(__name__)

#: Voxels of at most this size are put into the page itself.
_EMBEDDED_MB = 60.0


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """The content of a page, and where to write it.

    ``source``, ``reference``, ``uncertainty``: volumes to show with a translation. ``names``: show the case names of
    an evaluation. ``exact``: for a translation, store voxels exactly instead of rounded to steps hidden by their noise.
    ``embedded_mb``: for a translation, voxels that take more than this (default: 60) are put into
    files next to the page. ``reading``: options of :func:`~medcyclegan.io.read_volume`; those that select one of
    several volumes apply to ``source``, or to the translated volume if ``source`` is not given. ``out``: the page; by
    default, ``report.html`` in the folder of a run, or a file next to the table or volume.
    """

    out: Path | None = None
    source: Path | None = None
    reference: Path | None = None
    uncertainty: Path | None = None
    names: bool = False
    exact: bool = False
    embedded_mb: float | None = None
    overwrite: bool = False
    reading: ReadOptions = dataclasses.field(default_factory=ReadOptions)


def write_report(target: Path, options: ReportOptions | None = None) -> Path:
    """Write a self-contained HTML page about ``target`` and return its path.

    ``target``: the folder of a training run, a table that ``evaluate --out`` wrote, or a translated volume. The page
    works without a server and without a network. Raises :class:`~medcyclegan.errors.ReadError` for anything
    else, :class:`~medcyclegan.errors.UsageError` for options that do not belong to the target.
    """
    options = options or ReportOptions()
    if not target.exists():
        raise ReadError(f"{target}: no such run, table or volume: check the name")
    if is_run(target):
        _refuse(options, target, "a training run", translation=True, table=True)
        out = _output(options, target / "report.html")
        pages = {out: build_run_page(target).encode()}
    elif is_table(target):
        _refuse(options, target, "a table", translation=True, table=False)
        out = _output(options, target.with_suffix(".html"))
        pages = {out: build_table_page(target, names=options.names).encode()}
    else:
        _refuse(options, target, "a volume", translation=False, table=True)
        out = _output(options, target.with_name(f"{_stem(target)}.html"))
        pages = _translation_files(target, options, out)
    for path, content in pages.items():
        with atomic_write(path) as file:
            file.write(content)
    return out


def _translation_files(target: Path, options: ReportOptions, out: Path) -> dict[Path, bytes]:
    """Return the page and the files next to it; the page is last, so that it is written after the files it needs."""
    sidecar = read_translation_record(target)
    made = sidecar.get("to")
    modality = made.get("modality") if isinstance(made, Mapping) else None
    paths = {
        "input": options.source,
        "fake": target,
        "reference": options.reference,
        "uncertainty": options.uncertainty,
    }
    chosen = options.source or target
    # Which of several volumes is chosen applies to one file alone.
    shared = dataclasses.replace(options.reading, series=None, split_by=None, volume=None)
    volumes = {}
    for name, path in paths.items():
        if path is not None:
            volume = read_with_options(path, options.reading if path == chosen else shared)
            volumes[name] = _with_modality(volume, modality if name in ("fake", "reference") else None)
    folder = out.parent / f"{out.stem}-volumes"
    most_mb = _EMBEDDED_MB if options.embedded_mb is None else options.embedded_mb
    page = build_translation_page(
        volumes,
        sidecar,
        scores=_score(volumes, sidecar),
        folder=folder.name,
        most_bytes=int(most_mb * 1_000_000),
        exact=options.exact,
    )
    files = {out.parent / name: content for name, content in page.files.items()}
    if files:
        check_output(folder, overwrite=options.overwrite)
    return {**files, out: page.html.encode()}


def _score(volumes: Mapping[str, Volume], sidecar: Mapping[str, Any]) -> Evaluation | str | None:
    """Return the scores of the fake, or the reason why it cannot be scored; None without a reference."""
    if "reference" not in volumes:
        return None
    try:
        return evaluate_volumes(volumes["fake"], volumes["reference"], baseline=volumes.get("input"), record=sidecar)
    except VolumeError as error:
        log.warning("the translation cannot be scored: %s", error)
        return str(error)


def _with_modality(volume: Volume, modality: str | None) -> Volume:
    """Return a volume without a modality as a CT if ``modality`` or its values indicate one."""
    if volume.modality is not None or volume.value_range is not None:
        return volume
    if modality is None and not looks_like_hu(volume.array):
        return volume
    return volume.replace(modality=modality or "CT")


def _refuse(options: ReportOptions, target: Path, what: str, *, translation: bool, table: bool) -> None:
    """Refuse options that do not apply to this target."""
    given: dict[str, Any] = {
        "--input": options.source,
        "--reference": options.reference,
        "--uncertainty": options.uncertainty,
    }
    given |= {"--embed-mb": options.embedded_mb, "--exact": options.exact or None}
    for name, value in given.items():
        if translation and value is not None:
            raise UsageError(f"{name}: {target} is {what}, and {name} is only for a translated volume: leave it out")
    if translation and options.reading.given():
        named = ", ".join(f"--{name.replace('_', '-')}" for name in options.reading.given())
        raise UsageError(f"{named}: {target} is {what}, for which no volume is read: leave it out")
    if table and options.names:
        raise UsageError(f"--names: {target} is {what} and has no cases: leave it out")


def _output(options: ReportOptions, default: Path) -> Path:
    out = options.out or default
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: the report is a web page: choose a name that ends in .html")
    check_output(out, overwrite=options.overwrite)
    return out


def _stem(path: Path) -> str:
    name = path.name
    return name[:-7] if name.lower().endswith(".nii.gz") else path.stem if path.is_file() else name
