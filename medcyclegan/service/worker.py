"""Translate the series of one study; this runs in another process, so that a crash does not end the service."""

from __future__ import annotations

import dataclasses
import functools
import logging
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from medcyclegan.errors import IncompleteError, MedCycleGANError, ReadError, WriteError
from medcyclegan.inference import InferenceOptions, TranslationOptions, translate_file
from medcyclegan.inference.translate import load_models
from medcyclegan.io import FoundVolume, ReadOptions, anonymous_reason, read_translation_record
from medcyclegan.io.dicom.write.note import write_note
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.service.durable import make_private_folder
from medcyclegan.storage import exclusive_lock

__all__ = ["SeriesJob", "SeriesResult", "StudyJob", "translate_study"]

_UID = re.compile(r"\d+(\.\d+){4,}")


@dataclasses.dataclass(frozen=True)
class SeriesJob:
    """One series to translate: its UID, its files, the folder of the result, and the domain."""

    uid: str
    files: tuple[Path, ...]
    out: Path
    to: str | None
    allow_gap: bool


@dataclasses.dataclass(frozen=True)
class StudyJob:
    """The series of one study, whose images are in ``images``. ``lock``: held while translating.

    ``notes``: write a text note for each series that is refused.
    """

    images: Path
    out: Path
    series: tuple[SeriesJob, ...]
    models: tuple[str, ...]
    computing: InferenceOptions
    notes: bool
    lock: Path


@dataclasses.dataclass(frozen=True)
class SeriesResult:
    """What became of a series: ``verdict`` of a translation, ``refused`` with a reason that names no patient.

    ``note``: the folder of the text note about the refusal, if it was written.
    """

    seconds: float
    verdict: str = ""
    refused: str = ""
    note: Path | None = None


def translate_study(job: StudyJob) -> list[SeriesResult]:
    """Translate each series into its folder; what a killed process left there is replaced.

    Files get mode 0600. Two processes never translate at the same time, also if the service was killed and started
    again while its former process still computes.
    """
    os.umask(0o077)
    _silence()
    with exclusive_lock(job.lock, mode=0o600):
        bundles = _load(job.models)
        _end_without_service()
        shutil.rmtree(job.out, ignore_errors=True)
        make_private_folder(job.out)
        return [_translate_series(series, job, bundles) for series in job.series]


def _end_without_service() -> None:
    """End this process if the service was killed: its next start translates the study."""
    service = multiprocessing.parent_process()
    if service is not None and not service.is_alive():
        sys.exit(0)


def _translate_series(series: SeriesJob, job: StudyJob, bundles: Sequence[ModelBundle]) -> SeriesResult:
    _end_without_service()
    begun = time.monotonic()
    reading = ReadOptions(series=series.uid, allow_gap=series.allow_gap)
    options = TranslationOptions(to=series.to, computing=job.computing, reading=reading)
    try:
        translate_file(job.images, series.out, bundles, options)
    except IncompleteError as error:
        return SeriesResult(time.monotonic() - begun, verdict=_anonymous(str(error), series, job))
    except MedCycleGANError as error:
        if isinstance(error, WriteError) and isinstance(error.__cause__, OSError):
            raise  # the disk is full, which is not a property of the series
        reason = _reason(error)
        note = _write_note(series, job, reason) if job.notes else None
        return SeriesResult(time.monotonic() - begun, refused=_anonymous(reason, series, job), note=note)
    return SeriesResult(time.monotonic() - begun, verdict=_verdict(series.out))


def _write_note(series: SeriesJob, job: StudyJob, reason: str) -> Path | None:
    """Write a note about a refusal; return None if its study cannot hold one, which may be why it was refused."""
    note = series.out.with_name(f"{series.out.name}-note")
    try:
        write_note(note, series.files[0], reason.replace(f"{job.images}/", "").replace(str(job.images), "the study"))
    except MedCycleGANError as error:
        if isinstance(error, WriteError) and isinstance(error.__cause__, OSError):
            raise
        return None
    return note


def _reason(error: MedCycleGANError) -> str:
    """Return the text of a refusal without its remedy, which names options of another command."""
    return f"{error.problem}; a rule with allow_gap accepts it" if "allow_gap" in error.options else error.problem


def _verdict(out: Path) -> str:
    try:
        quality = read_translation_record(out).get("quality") or {}
    except ReadError:
        return "unknown"
    return str(quality.get("verdict", "unknown"))


def _anonymous(reason: str, series: SeriesJob, job: StudyJob) -> str:
    found = FoundVolume(job.images, "dicom", "in", Path("in"), series_uid=series.uid, files=series.files)
    return _UID.sub("…", anonymous_reason(reason, found))


@functools.lru_cache(maxsize=1)
def _load(models: tuple[str, ...]) -> list[ModelBundle]:
    return load_models(list(models))


@functools.cache
def _silence() -> None:
    """Drop the messages of this process, which may name header texts; results are reported by the service."""
    logging.disable(logging.CRITICAL)
