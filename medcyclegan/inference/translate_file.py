"""Translate a file or folder into an output with its sidecar, uncertainty map and preview."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medcyclegan.device import choose_device, log_fallback
from medcyclegan.errors import IncompleteError, ModelError
from medcyclegan.inference.default_model import load_or_suggest
from medcyclegan.inference.intervals.half_width import (
    DEFAULT_COVERAGE,
    calibration_for,
    describe_calibration,
    interval_half_width,
)
from medcyclegan.inference.quality import assess
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.sidecar import build_record, noted
from medcyclegan.inference.translate import Model, Translation, translate
from medcyclegan.inference.translation_options import TranslationOptions, check_outputs
from medcyclegan.inference.uncertainty import uncertainty_map
from medcyclegan.intensity import AIR
from medcyclegan.io import (
    FoundVolume,
    announced,
    check_writable,
    read_found_volume,
    read_with_options,
    record_bytes,
    sidecar_path,
    write_output,
)
from medcyclegan.io.dicom.network.remote import (
    Destination,
    check_one_server,
    fetched,
    is_destination,
    open_destination,
    send_series,
)
from medcyclegan.io.dicom.network.web_address import is_dicomweb
from medcyclegan.model.bundle import Direction, DomainModel, direction_to
from medcyclegan.model.calibration import Calibration
from medcyclegan.model.domains import choose_direction, fits_domain, output_modality
from medcyclegan.pictures import png_bytes, preview
from medcyclegan.storage import atomic_write
from medcyclegan.volume import Volume

__all__ = ["translate_file"]

log = logging.getLogger(__name__)

#: An upper bound for what quality, uncertainty and times add to a sidecar.
_ADDED_BYTES = 8192
#: Stages whose times are recorded, in this order; ``assess``: quality, uncertainty map and preview.
_STAGES = ("read", "translate", "write", "assess")


def translate_file(
    source: str | Path | FoundVolume,
    output: str | Path,
    model: Model | Sequence[Model],
    options: TranslationOptions | None = None,
    *,
    read: Callable[[], Volume] | None = None,
) -> str | Path:
    """Read ``source``, translate it with the model folder ``model`` (or several) and write ``output``.

    ``source``: a file, a folder, or a volume that :func:`~medcyclegan.io.find_volumes` found.
    A sidecar next to the output (:func:`~medcyclegan.io.sidecar.sidecar_path`) records versions, the model and its
    hash, device, times, clipped voxels and quality verdict. Returns the output. If the output is
    ``dicom://AET@host:port`` or ``https://host/dicom-web``, the result is sent there as a DICOM series
    (:mod:`medcyclegan.io.dicom.network.remote`), and no local file is kept. ``source`` and ``options.template`` can be
    series of a DICOMweb service. ``read`` returns the volume of ``source``, if the caller already reads it with
    the same options (:func:`~medcyclegan.io.read_ahead`).

    Raises a :class:`~medcyclegan.errors.MedCycleGANError` before any work if an output cannot be
    written, and :class:`~medcyclegan.errors.IncompleteError` if the output was written (or sent) but its quality
    could not be measured, or its uncertainty map or preview could not be written.
    """
    options = options or TranslationOptions()
    sent = is_destination(output)
    if not sent:
        output = Path(output)
    address = source.path if isinstance(source, FoundVolume) else source
    check_one_server(address, str(output), options.template)
    destination = open_destination(str(output)) if sent else None
    if is_dicomweb(address) and not sent:  # fetching it can take long
        check_outputs(Path(os.devnull), Path(output), options)
    with _local(source) as local, _template_fetched(options) as options:
        if destination is not None:
            failures = _translate_and_send(local, destination, model, options, read)
        else:
            failures = _translate_and_write(local, Path(output), model, options, read)
    if failures:
        done = "sent" if sent else "written"
        raise IncompleteError(
            f"{output} is {done}, but {'; '.join(failures)}: use it without, or translate again with --overwrite "
            "(--debug shows where it failed)"
        )
    return output


def _translate_and_write(
    given: str | Path | FoundVolume,
    out: Path,
    model: Model | Sequence[Model],
    options: TranslationOptions,
    read: Callable[[], Volume] | None = None,
) -> list[str]:
    """Write the translation ``out``, its sidecar, map and preview; return a phrase for each failure after ``out``."""
    source = given.path if isinstance(given, FoundVolume) else Path(given)
    check_outputs(source, out, options)
    models = load_or_suggest(model, source, options.reading)
    if options.to is not None:
        direction_to(models, options.to)  # fails before the input is read
    computing = dataclasses.replace(options.computing, device=str(choose_device(options.computing.device)))
    clock = [time.monotonic()]
    volume = _read(given, options) if read is None else read()
    clock.append(time.monotonic())
    direction = choose_direction(volume, models, options.to, name=source.name)
    expected = _expected(volume, direction.target)
    series = options.series_options()
    check_writable(expected, out, series)
    if options.uncertainty is not None:
        check_writable(expected.replace(modality=None), options.uncertainty)
    calibration = _find_calibration(direction, computing, options)
    spread = options.uncertainty is not None and calibration is None
    if options.computing.device == "auto" and computing.device == "cpu" and computing.backend == "torch":
        log_fallback()
    done = translate(volume, direction, computing, force=options.force, spread=spread)
    clock.append(time.monotonic())
    record = {**build_record(volume, done, computing, forced=options.force), **options.sidecar_fields}
    with atomic_write(sidecar_path(out)) as sidecar:
        # Disk space for the sidecar is reserved first: a full disk must not leave an output with an incomplete sidecar.
        sidecar.write(record_bytes(record) + bytes(_ADDED_BYTES))
        sidecar.flush()
        with announced(out, record):
            write_output(done.volume, out, series)
        clock.append(time.monotonic())
        failures = _measure(volume, done, computing, record, calibration=calibration, options=options)
        clock.append(time.monotonic())
        record["seconds"] = dict(zip(_STAGES, np.diff(clock).round(3).tolist(), strict=True))
        sidecar.seek(0)
        sidecar.truncate()
        sidecar.write(record_bytes(record))
    return failures


def _read(source: str | Path | FoundVolume, chosen: TranslationOptions) -> Volume:
    options = chosen.reading.for_acquired(allow_synthetic=chosen.allow_synthetic)
    if isinstance(source, FoundVolume):
        return read_found_volume(source, options)
    return read_with_options(Path(source), options)


def _expected(volume: Volume, target: DomainModel) -> Volume:
    """Return ``volume`` with the metadata of its translation into ``target``, to check whether it can be written."""
    values = (target.scaling.lower, target.scaling.upper) if target.scaling.kind == "range" else None
    return volume.replace(modality=output_modality(volume, target), value_range=values)


def _find_calibration(
    direction: Direction, computing: InferenceOptions, options: TranslationOptions
) -> Calibration | None:
    """Return the calibration of this translation; without one, say that the uncertainty map is not calibrated.

    A calibration of other weights is an error only if the map was requested, because a translation does not need it.
    """
    try:
        calibration, reason = calibration_for(direction, computing, options.coverage)
    except ModelError as error:
        if options.uncertainty is not None:
            raise
        log.warning("the expected error is not reported: %s", error)
        return None
    if calibration is None and options.uncertainty is not None:
        log.warning(
            "%s: %s is not an interval, only a hint where to look (medcyclegan calibrate)", reason, options.uncertainty
        )
    return calibration


def _translate_and_send(
    source: str | Path | FoundVolume,
    destination: Destination,
    model: Model | Sequence[Model],
    options: TranslationOptions,
    read: Callable[[], Volume] | None = None,
) -> list[str]:
    """Write the series into a temporary folder that only the user can read, and send it to ``destination``."""
    with tempfile.TemporaryDirectory(prefix="medcyclegan-") as folder:
        series = Path(folder) / "series"
        failures = _translate_and_write(source, series, model, options, read)
        send_series(series, destination, repeatable=options.pseudonyms is not None or not options.deidentify)
    return failures


def _local(source: str | Path | FoundVolume) -> contextlib.AbstractContextManager[str | Path | FoundVolume]:
    """Return a context that gives ``source``, or its files' folder if it is a series of a DICOMweb service."""
    return contextlib.nullcontext(source) if isinstance(source, FoundVolume) else fetched(source)


@contextlib.contextmanager
def _template_fetched(options: TranslationOptions) -> Iterator[TranslationOptions]:
    """Yield the options with the template's folder if it is a series of a DICOMweb service."""
    if not is_dicomweb(options.template):
        yield options
        return
    with fetched(str(options.template)) as folder:
        yield dataclasses.replace(options, template=folder)


def _measure(
    volume: Volume,
    done: Translation,
    computing: InferenceOptions,
    record: dict[str, Any],
    *,
    calibration: Calibration | None,
    options: TranslationOptions,
) -> list[str]:
    """Add the quality to ``record``, write the uncertainty map and the preview; return a phrase for each failure.

    The translation is already on the disk, and a failure in a later stage must not remove it.
    """
    failures: dict[str, str] = {}
    uncertainty, coverage = None, options.coverage or DEFAULT_COVERAGE
    with noted(failures, "quality", "its quality was not measured"):
        forced = options.force and not fits_domain(volume, done.direction.source)
        quality = assess(volume, done, computing, forced=forced, calibration=calibration)
        record["quality"] = quality.to_dict()
    if options.uncertainty is not None:
        with noted(failures, "uncertainty", f"{options.uncertainty} was not written"):
            if calibration is None:
                uncertainty = uncertainty_map(volume, done, computing)
                kind: dict[str, Any] = {"calibrated": False}
            else:
                uncertainty = interval_half_width(volume, done, calibration, coverage)
                kind = {"calibrated": True, "coverage": coverage, **describe_calibration(calibration)}
            record["uncertainty"] = {**kind, **_summary(volume, done, uncertainty)}
            write_output(uncertainty, Path(options.uncertainty))
    if options.preview is not None:
        with noted(failures, "preview", f"{options.preview} was not written"):
            shown = {"input": volume, f"synthetic {done.direction.target.name}": done.volume}
            heading = None if calibration is None else f"half-width, {coverage:.0%} interval"
            unit = done.direction.target.scaling.unit
            picture = png_bytes(preview(shown, uncertainty=uncertainty, unit=unit, heading=heading))
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
