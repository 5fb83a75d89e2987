"""Translate a file or folder into an output with its sidecar, uncertainty map and preview."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medcyclegan.device import choose_device, log_fallback
from medcyclegan.errors import IncompleteError, MedCycleGANError, ReadError, UsageError, WriteError
from medcyclegan.inference.default_model import load_or_suggest
from medcyclegan.inference.quality import assess
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.sidecar import build_record
from medcyclegan.inference.translate import Model, Translation, translate
from medcyclegan.inference.uncertainty import uncertainty_map
from medcyclegan.io import (
    ReadOptions,
    check_output_format,
    check_writable,
    is_dicom_node,
    read_translation_record,
    read_with_options,
    sidecar_path,
    write_volume,
)
from medcyclegan.io.formats import VOLUME_ENDINGS
from medcyclegan.model.bundle import DomainModel, ModelBundle
from medcyclegan.model.domains import AIR, choose_direction, fits_domain, output_modality
from medcyclegan.pictures import png_bytes, preview
from medcyclegan.storage import atomic_write, check_output, remove_leftovers
from medcyclegan.volume import Volume

__all__ = ["TranslationOptions", "translate_file"]

log = logging.getLogger(__name__)

#: An upper bound for what quality, uncertainty and times add to a sidecar.
_ADDED_BYTES = 8192
#: Stages whose times are recorded, in this order; ``assess``: quality, uncertainty map and preview.
_STAGES = ("read", "translate", "write", "assess")


@dataclasses.dataclass(frozen=True)
class TranslationOptions:
    """Options of :func:`translate_file`; the command's help describes each.

    An input that is labeled as synthetic is refused unless both ``allow_synthetic`` and the option of that name in
    ``reading`` are set. ``sidecar_fields``: additional fields of the sidecar, such as BIDS's ``Sources``.
    """

    to: str | None = None
    computing: InferenceOptions = dataclasses.field(default_factory=InferenceOptions)
    force: bool = False
    uncertainty: str | Path | None = None
    preview: str | Path | None = None
    overwrite: bool = False
    template: str | Path | None = None
    deidentify: bool = False
    reading: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    allow_synthetic: bool = False
    sidecar_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def translate_file(
    source: str | Path,
    output: str | Path,
    model: Model | Sequence[Model],
    options: TranslationOptions | None = None,
) -> str | Path:
    """Read ``source``, translate it with the model folder ``model`` (or several) and write ``output``.

    A sidecar next to the output (:func:`~medcyclegan.io.sidecar.sidecar_path`) records versions, the model and its
    hash, device, times, clipped voxels and quality verdict. Returns the output. If the output is
    ``dicom://AET@host:port``, the result is sent there as a DICOM series
    (:class:`~medcyclegan.io.dicom.network.address.DicomNode`), and no local file is kept.

    Raises a :class:`~medcyclegan.errors.MedCycleGANError` before any work if an output cannot be
    written, and :class:`~medcyclegan.errors.IncompleteError` if the output was written (or sent) but its quality
    could not be measured, or its uncertainty map or preview could not be written.
    """
    options = options or TranslationOptions()
    if is_dicom_node(output):
        failures = _translate_and_send(source, str(output), model, options)
    else:
        output = Path(output)
        failures = _translate_and_write(Path(source), output, model, options)
    if failures:
        done = "sent" if is_dicom_node(output) else "written"
        raise IncompleteError(
            f"{output} is {done}, but {'; '.join(failures)}: use it without, or translate again with --overwrite "
            "(--debug shows where it failed)"
        )
    return output


def _translate_and_write(
    source: Path, out: Path, model: Model | Sequence[Model], options: TranslationOptions
) -> list[str]:
    """Write the translation ``out``, its sidecar, map and preview; return a phrase for each failure after ``out``."""
    _check_outputs(source, out, options)
    bundles = load_or_suggest(model, source, options.reading)
    if options.to is not None:
        bundles[0].direction(options.to)  # fails before the input is read
    computing = dataclasses.replace(options.computing, device=str(choose_device(options.computing.device)))
    clock = [time.monotonic()]
    volume = read_with_options(source, options.reading.for_acquired(allow_synthetic=options.allow_synthetic))
    clock.append(time.monotonic())
    direction = choose_direction(volume, bundles[0], options.to, name=source.name)
    expected = _expected(volume, direction.target)
    check_writable(expected, out, template=options.template, deidentify=options.deidentify)
    if options.uncertainty is not None:
        check_writable(expected.replace(modality=None), options.uncertainty)
    if options.computing.device == "auto" and computing.device == "cpu" and computing.backend == "torch":
        log_fallback()
    done = translate(volume, bundles, direction, computing, force=options.force, spread=options.uncertainty is not None)
    clock.append(time.monotonic())
    record = {**build_record(volume, done, bundles, computing, forced=options.force), **options.sidecar_fields}
    with atomic_write(sidecar_path(out)) as sidecar:
        # Disk space for the sidecar is reserved first: a full disk must not leave an output with an incomplete sidecar.
        sidecar.write(_text(record) + bytes(_ADDED_BYTES))
        sidecar.flush()
        with _announced(out, record):
            write_volume(done.volume, out, template=options.template, deidentify=options.deidentify)
        clock.append(time.monotonic())
        failures = _measure(volume, done, bundles, computing, record, options=options)
        clock.append(time.monotonic())
        record["seconds"] = dict(zip(_STAGES, np.diff(clock).round(3).tolist(), strict=True))
        sidecar.seek(0)
        sidecar.truncate()
        sidecar.write(_text(record))
    return failures


def _expected(volume: Volume, target: DomainModel) -> Volume:
    """Return ``volume`` with the metadata of its translation into ``target``, to check whether it can be written."""
    values = (target.scaling.lower, target.scaling.upper) if target.scaling.kind == "range" else None
    return volume.replace(modality=output_modality(volume, target), value_range=values)


@contextlib.contextmanager
def _announced(out: Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Put a preliminary sidecar of ``out``, without quality and times, in place while the output is written.

    A new output gets its sidecar first, so that no output is ever without one: a process that is killed in between
    leaves only the sidecar, and the same command can be repeated. If an output is replaced, its sidecar is replaced
    after it, so that a failure leaves both unchanged.
    """
    sidecar = sidecar_path(out)
    if os.path.lexists(out):
        with atomic_write(sidecar) as file:
            file.write(_text(record))
            file.flush()
            yield
        return
    fresh = not os.path.lexists(sidecar)
    with atomic_write(sidecar) as file:
        file.write(_text(record))
    try:
        yield
    except BaseException:
        if fresh and not os.path.lexists(out):
            sidecar.unlink(missing_ok=True)
        raise


def _translate_and_send(
    source: str | Path, address: str, model: Model | Sequence[Model], options: TranslationOptions
) -> list[str]:
    """Write the series into a temporary folder that only the user can read, and send it to ``address``."""
    from medcyclegan.io.dicom.network.address import DicomNode
    from medcyclegan.io.dicom.network.send import check_node, send_series

    node = DicomNode.parse(address)
    check_node(node)
    with tempfile.TemporaryDirectory(prefix="medcyclegan-") as folder:
        series = Path(folder) / "series"
        failures = _translate_and_write(Path(source), series, model, options)
        send_series(series, node, repeatable=not options.deidentify)
    return failures


def _measure(
    volume: Volume,
    done: Translation,
    bundles: Sequence[ModelBundle],
    computing: InferenceOptions,
    record: dict[str, Any],
    *,
    options: TranslationOptions,
) -> list[str]:
    """Add the quality to ``record``, write the uncertainty map and the preview; return a phrase for each failure.

    The translation is already on the disk, and a failure in a later stage must not remove it.
    """
    failures: dict[str, str] = {}
    uncertainty = None
    with _noted(failures, "quality", "its quality was not measured"):
        forced = options.force and not fits_domain(volume, done.direction.source)
        record["quality"] = assess(volume, done, bundles, computing, forced=forced).to_dict()
    if options.uncertainty is not None:
        with _noted(failures, "uncertainty", f"{options.uncertainty} was not written"):
            uncertainty = uncertainty_map(volume, done, bundles, computing)
            record["uncertainty"] = _summary(volume, done, uncertainty)
            write_volume(uncertainty, options.uncertainty)
    if options.preview is not None:
        with _noted(failures, "preview", f"{options.preview} was not written"):
            shown = {"input": volume, f"synthetic {done.direction.target.name}": done.volume}
            picture = png_bytes(preview(shown, uncertainty=uncertainty, unit=done.direction.target.scaling.unit))
            with atomic_write(Path(options.preview)) as file:
                file.write(picture)
    if failures:
        record["failed"] = list(failures)
    return list(failures.values())


@contextlib.contextmanager
def _noted(failures: dict[str, str], step: str, phrase: str) -> Iterator[None]:
    """Store the failure of a ``step`` in ``failures``, as ``phrase`` and the reason, instead of raising it."""
    try:
        yield
    except Exception as error:
        log.debug("%s", phrase, exc_info=True)
        reason = str(error) if isinstance(error, MedCycleGANError) else f"{type(error).__name__}: {error}"
        failures[step] = f"{phrase} ({reason})"


def _text(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2) + "\n").encode()


def _summary(volume: Volume, done: Translation, uncertainty: Volume) -> dict[str, Any]:
    """Return the uncertainty map's mean and 95th percentile over the foreground of the input."""
    values = uncertainty.array[done.scaling.normalize(volume.array) > AIR]
    values = values if values.size else uncertainty.array.ravel()
    mean, high = float(values.mean()), float(np.percentile(values, 95))
    return {"mean": round(mean, 4), "percentile_95": round(high, 4), "unit": done.direction.target.scaling.unit}


def _is_left_over(out: Path) -> bool:
    """Return whether ``out`` has a sidecar of this package but the volume is missing."""
    return not out.exists() and bool(_own_record(out))


def _is_unfinished(out: Path) -> bool:
    """Return whether ``out`` has a sidecar of this package that was never completed."""
    record = _own_record(out)
    return bool(record) and "seconds" not in record


def _own_record(out: Path) -> dict[str, Any]:
    try:
        return read_translation_record(out)
    except ReadError:
        return {}


def _check_outputs(source: Path, out: Path, options: TranslationOptions) -> None:
    """Check, before any work, that every output can be written and that none destroys an existing file."""
    check_output_format(out)
    sidecar = sidecar_path(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"{out} is the input: name another output")
    if not out.suffix and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{out} is inside the input folder and would be read as input: name another output")
    if options.template is not None and out.suffix:
        raise UsageError(f"--dicom-template is only for DICOM output, and {out} is a file: name a folder as OUT")
    if options.deidentify and out.suffix:
        raise UsageError(f"--deidentify is only for DICOM output, and {out} names no patient: leave it out")
    remove_leftovers(sidecar.parent, sidecar.name)
    if out.exists() and not options.overwrite and _is_unfinished(out):
        raise WriteError(
            f"{out} exists: outputs are not replaced unless you pass --overwrite (the command that wrote this one was "
            "ended before it had measured its quality)"
        )
    check_output(out, overwrite=options.overwrite)
    if sidecar.exists() and not options.overwrite and not _is_left_over(out):
        raise WriteError(f"{sidecar} exists: outputs are not replaced unless you pass --overwrite")
    _check_beside([source, out, sidecar], out, options)


def _check_beside(taken: list[Path], out: Path, options: TranslationOptions) -> None:
    """Check that the map and the preview can be written, and that their real paths are not ``taken``."""
    # not resolve(), which raises for circular links
    names = [Path(os.path.realpath(path)) for path in taken]
    for option, path, endings in (
        ("--uncertainty", options.uncertainty, VOLUME_ENDINGS),
        ("--preview", options.preview, (".png",)),
    ):
        if path is None:
            continue
        beside = Path(path)
        if not beside.name.lower().endswith(endings):
            raise UsageError(f"{option} {beside}: its name must end in {' or '.join(endings)}")
        if beside.resolve() in names:
            raise UsageError(f"{option} {beside} is the input or another output: name another file")
        if not out.suffix and beside.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{option} {beside} is inside {out}, which may hold only DICOM files: name another folder")
        check_output(beside, overwrite=options.overwrite)
        names.append(beside.resolve())
