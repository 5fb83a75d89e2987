"""Translate a file or folder into an output with its sidecar, uncertainty map and preview."""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medcyclegan.device import choose_device
from medcyclegan.errors import IncompleteError, UsageError
from medcyclegan.inference.default_model import load_or_suggest
from medcyclegan.inference.quality import assess
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.sidecar import build_record, noted
from medcyclegan.inference.translate import Model, Translation, translate
from medcyclegan.inference.uncertainty import uncertainty_map
from medcyclegan.io import (
    FoundVolume,
    ReadOptions,
    SeriesOptions,
    announced,
    check_new_translation,
    check_output_format,
    check_writable,
    is_dicom_node,
    read_found_volume,
    read_with_options,
    record_bytes,
    sidecar_path,
    write_output,
)
from medcyclegan.io.formats import VOLUME_ENDINGS
from medcyclegan.model.bundle import DomainModel, ModelBundle
from medcyclegan.model.domains import AIR, choose_direction, fits_domain, output_modality
from medcyclegan.pictures import png_bytes, preview
from medcyclegan.storage import atomic_write, check_output
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
    pseudonyms: str | Path | None = None
    reading: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    allow_synthetic: bool = False
    sidecar_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.series_options()  # refuses options that contradict each other

    def series_options(self) -> SeriesOptions:
        """Return the options for writing a DICOM series."""
        return SeriesOptions(self.template, self.deidentify, self.pseudonyms)


def translate_file(
    source: str | Path | FoundVolume,
    output: str | Path,
    model: Model | Sequence[Model],
    options: TranslationOptions | None = None,
) -> str | Path:
    """Read ``source``, translate it with the model folder ``model`` (or several) and write ``output``.

    ``source``: a file, a folder, or a volume that :func:`~medcyclegan.io.find_volumes` found.
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
        failures = _translate_and_write(source, output, model, options)
    if failures:
        done = "sent" if is_dicom_node(output) else "written"
        raise IncompleteError(
            f"{output} is {done}, but {'; '.join(failures)}: use it without, or translate again with --overwrite "
            "(--debug shows where it failed)"
        )
    return output


def _translate_and_write(
    given: str | Path | FoundVolume, out: Path, model: Model | Sequence[Model], options: TranslationOptions
) -> list[str]:
    """Write the translation ``out``, its sidecar, map and preview; return a phrase for each failure after ``out``."""
    source = given.path if isinstance(given, FoundVolume) else Path(given)
    _check_outputs(source, out, options)
    bundles = load_or_suggest(model, source, options.reading)
    if options.to is not None:
        bundles[0].direction(options.to)  # fails before the input is read
    computing = dataclasses.replace(options.computing, device=str(choose_device(options.computing.device)))
    clock = [time.monotonic()]
    volume = _read(given, options.reading.for_acquired(allow_synthetic=options.allow_synthetic))
    clock.append(time.monotonic())
    direction = choose_direction(volume, bundles[0], options.to, name=source.name)
    expected = _expected(volume, direction.target)
    series = options.series_options()
    check_writable(expected, out, series)
    if options.uncertainty is not None:
        check_writable(expected.replace(modality=None), options.uncertainty)
    done = translate(volume, bundles, direction, computing, force=options.force, spread=options.uncertainty is not None)
    clock.append(time.monotonic())
    record = {**build_record(volume, done, bundles, computing, forced=options.force), **options.sidecar_fields}
    with atomic_write(sidecar_path(out)) as sidecar:
        # Disk space for the sidecar is reserved first: a full disk must not leave an output with an incomplete sidecar.
        sidecar.write(record_bytes(record) + bytes(_ADDED_BYTES))
        sidecar.flush()
        with announced(out, record):
            write_output(done.volume, out, series)
        clock.append(time.monotonic())
        failures = _measure(volume, done, bundles, computing, record, options=options)
        clock.append(time.monotonic())
        record["seconds"] = dict(zip(_STAGES, np.diff(clock).round(3).tolist(), strict=True))
        sidecar.seek(0)
        sidecar.truncate()
        sidecar.write(record_bytes(record))
    return failures


def _read(source: str | Path | FoundVolume, options: ReadOptions) -> Volume:
    if isinstance(source, FoundVolume):
        return read_found_volume(source, options)
    return read_with_options(Path(source), options)


def _expected(volume: Volume, target: DomainModel) -> Volume:
    """Return ``volume`` with the metadata of its translation into ``target``, to check whether it can be written."""
    values = (target.scaling.lower, target.scaling.upper) if target.scaling.kind == "range" else None
    return volume.replace(modality=output_modality(volume, target), value_range=values)


def _translate_and_send(
    source: str | Path | FoundVolume, address: str, model: Model | Sequence[Model], options: TranslationOptions
) -> list[str]:
    """Write the series into a temporary folder that only the user can read, and send it to ``address``."""
    from medcyclegan.io.dicom.network.address import DicomNode
    from medcyclegan.io.dicom.network.send import check_node, send_series

    node = DicomNode.parse(address)
    check_node(node)
    with tempfile.TemporaryDirectory(prefix="medcyclegan-") as folder:
        series = Path(folder) / "series"
        failures = _translate_and_write(source, series, model, options)
        send_series(series, node, repeatable=options.pseudonyms is not None or not options.deidentify)
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
    with noted(failures, "quality", "its quality was not measured"):
        forced = options.force and not fits_domain(volume, done.direction.source)
        record["quality"] = assess(volume, done, bundles, computing, forced=forced).to_dict()
    if options.uncertainty is not None:
        with noted(failures, "uncertainty", f"{options.uncertainty} was not written"):
            uncertainty = uncertainty_map(volume, done, bundles, computing)
            record["uncertainty"] = _summary(volume, done, uncertainty)
            write_output(uncertainty, Path(options.uncertainty))
    if options.preview is not None:
        with noted(failures, "preview", f"{options.preview} was not written"):
            shown = {"input": volume, f"synthetic {done.direction.target.name}": done.volume}
            picture = png_bytes(preview(shown, uncertainty=uncertainty, unit=done.direction.target.scaling.unit))
            with atomic_write(Path(options.preview)) as file:
                file.write(picture)
    if failures:
        record["failed"] = list(failures)
    return list(failures.values())


def _summary(volume: Volume, done: Translation, uncertainty: Volume) -> dict[str, Any]:
    """Return the uncertainty map's mean and 95th percentile over the foreground of the input."""
    values = uncertainty.array[done.scaling.normalize(volume.array) > AIR]
    values = values if values.size else uncertainty.array.ravel()
    mean, high = float(values.mean()), float(np.percentile(values, 95))
    return {"mean": round(mean, 4), "percentile_95": round(high, 4), "unit": done.direction.target.scaling.unit}


def _check_outputs(source: Path, out: Path, options: TranslationOptions) -> None:
    """Check, before any work, that every output can be written and that none destroys an existing file."""
    check_output_format(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"{out} is the input: name another output")
    if not out.suffix and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{out} is inside the input folder and would be read as input: name another output")
    if options.template is not None and out.suffix:
        raise UsageError(f"--dicom-template is only for DICOM output, and {out} is a file: name a folder as OUT")
    if options.pseudonyms is not None:
        _check_key_place(Path(options.pseudonyms), [source, out, sidecar_path(out)])
    if options.deidentify and out.suffix:
        raise UsageError(f"--deidentify is only for DICOM output, and {out} names no patient: leave it out")
    check_new_translation(out, overwrite=options.overwrite)
    _check_beside([source, out, sidecar_path(out)], out, options)


def _check_key_place(key_file: Path, taken: list[Path]) -> None:
    """Refuse a key file that is the input, an output or inside an output folder."""
    place = Path(os.path.realpath(key_file))
    source, *outputs = (Path(os.path.realpath(path)) for path in taken)
    if place == source or any(place.is_relative_to(output) for output in outputs):
        raise UsageError(
            f"--pseudonyms {key_file} is the input, an output or in the output folder: keep the key file elsewhere"
        )


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
