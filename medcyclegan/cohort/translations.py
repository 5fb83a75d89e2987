"""Translate many volumes, one by one: into a folder of results, or into a BIDS derivative dataset."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from medcyclegan.cohort.bids import RAW, generated_by, open_derivative
from medcyclegan.cohort.ledger import update_ledger
from medcyclegan.cohort.markers import MARKERS, claim_output, finish_output, marker_of, release_output
from medcyclegan.cohort.naming import assign_names, derivative_names
from medcyclegan.device import choose_device
from medcyclegan.errors import MedCycleGANError, ModalityError, ReadError, UsageError, one_line
from medcyclegan.inference import Model, TranslationOptions, load_models, translate_file
from medcyclegan.inference.quality import assess
from medcyclegan.io import FoundVolume, anonymous_reason, read_translation_record
from medcyclegan.model import Direction, ModelBundle, choose_target, unfit_reason
from medcyclegan.shards import share_of

__all__ = ["Job", "TranslatedCohort", "TranslatedVolume", "sort_out", "translate_cohort", "translate_jobs"]

log = logging.getLogger(__name__)

STAGE = "translate"
State = Literal["translated", "unchanged", "skipped", "failed"]


@dataclasses.dataclass(frozen=True)
class Job:
    """A volume to translate: its name in messages and in the ledger, its output and the marker of its output.

    ``fields``: additional fields of its sidecar. ``uncertainty``, ``preview``: where to write its map and picture.
    """

    found: FoundVolume
    case: str
    recorded: str
    output: Path
    marker: Path
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    uncertainty: Path | None = None
    preview: Path | None = None


@dataclasses.dataclass(frozen=True)
class TranslatedVolume:
    """The result for one volume: what was done, the output if there is one, its quality verdict, and a reason.

    ``reason``: why the volume was skipped, why it failed, or the findings of the verdict.
    """

    case: str
    state: State
    output: Path | None = None
    verdict: str | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class TranslatedCohort:
    """The results for all volumes of a call, in the order of their names."""

    volumes: tuple[TranslatedVolume, ...]

    @property
    def translated(self) -> tuple[Path, ...]:
        """The outputs that this call wrote."""
        return self._outputs("translated")

    @property
    def unchanged(self) -> tuple[Path, ...]:
        """The outputs that an earlier call wrote and that are up to date."""
        return self._outputs("unchanged")

    @property
    def skipped(self) -> dict[str, str]:
        """The volumes that the model does not translate, and why: those of another modality."""
        return {volume.case: volume.reason for volume in self.volumes if volume.state == "skipped"}

    @property
    def failed(self) -> dict[str, str]:
        """The volumes that could not be translated, and why."""
        return {volume.case: volume.reason for volume in self.volumes if volume.state == "failed"}

    @property
    def summary(self) -> str:
        """The numbers of volumes in one line."""
        skipped = [f"{len(self.skipped)} skipped"] if self.skipped else []
        done = [f"{len(self.translated)} translated", f"{len(self.unchanged)} unchanged"]
        return ", ".join([*done, *skipped, f"{len(self.failed)} failed"])

    def _outputs(self, state: State) -> tuple[Path, ...]:
        return tuple(v.output for v in self.volumes if v.state == state and v.output is not None)


def translate_cohort(
    source: Path,
    volumes: Sequence[FoundVolume],
    out: Path,
    model: Model | Sequence[Model],
    options: TranslationOptions | None = None,
    *,
    shard: tuple[int, int] = (0, 1),
) -> TranslatedCohort:
    """Translate the ``volumes`` of the dataset ``source`` into the BIDS derivative dataset ``out``.

    Every volume gets an output, a sidecar (with ``GeneratedBy`` and ``Sources``) and a marker; see
    :func:`translate_jobs`. ``shard``: its number and the number of shards. Raises
    a :class:`~medcyclegan.errors.MedCycleGANError` if no volume can be translated at all.
    """
    options = options or TranslationOptions()
    if options.uncertainty is not None or options.preview is not None:
        raise UsageError("maps and previews are not part of a derivative dataset: leave uncertainty and preview out")
    bundles = load_models(model)
    direction = choose_target(bundles, options.to, {volume.modality for volume in volumes})
    target = direction.target.name
    options = dataclasses.replace(options, to=target)
    fitting, skipped = sort_out(volumes, direction, options, lambda found: found.name)
    choose = functools.partial(derivative_names, fitting, target)
    choose({})  # refuses names that two volumes share before anything is written
    open_derivative(out, source, target)
    named = zip(fitting, assign_names(out, choose, fitting), strict=True)
    jobs = [_bids_job(found, out, output, _bids_fields(found, direction)) for found, output in named]
    return translate_jobs(share_of(jobs, shard), share_of(skipped, shard), out, bundles, options)


def sort_out(
    volumes: Sequence[FoundVolume],
    direction: Direction,
    options: TranslationOptions,
    name: Callable[[FoundVolume], str],
) -> tuple[list[FoundVolume], list[TranslatedVolume]]:
    """Return the volumes to translate, and those that are skipped because they are not of the source domain.

    ``name`` returns the name of a volume in messages. With ``options.force`` no volume is skipped.
    """
    fitting, skipped = [], []
    for found in volumes:
        names = (found.base.name, *found.relative_path.parts)
        reason = unfit_reason(found.modality, names, direction, is_picture=found.kind == "image")
        if reason and not options.force:
            skipped.append(TranslatedVolume(name(found), "skipped", reason=reason))
            log.info("%s is skipped: %s", skipped[-1].case, reason)
        else:
            fitting.append(found)
    return fitting, skipped


def translate_jobs(
    jobs: Sequence[Job],
    skipped: Sequence[TranslatedVolume],
    folder: Path,
    bundles: Sequence[ModelBundle],
    options: TranslationOptions,
) -> TranslatedCohort:
    """Translate the volumes of ``jobs``, one after the other, and record failures in the ledger of ``folder``.

    Each output gets a marker at the end, so that after a crash another call translates only the missing ones. A file
    without a modality in its header that turns out to be of another one is skipped too. If a volume fails, it is
    recorded in the ledger, and the others are still translated. A volume whose output was made from another input, by
    another model or with other settings fails, unless ``options.overwrite`` is set.
    """
    device = str(choose_device(options.computing.device))
    options = dataclasses.replace(options, computing=dataclasses.replace(options.computing, device=device))
    results = []
    with _each_remark_once():
        for number, job in enumerate(jobs, start=1):
            log.info("%d of %d: %s", number, len(jobs), job.case)
            results.append(_translate(job, folder, bundles, options))
            if results[-1].state == "failed":
                log.error("%s: %s", job.case, results[-1].reason)
            elif results[-1].state == "skipped":
                log.info("%s is skipped: %s", job.case, results[-1].reason)
    done = TranslatedCohort(tuple(sorted([*results, *skipped], key=lambda volume: volume.case)))
    failed = {
        job.recorded: anonymous_reason(result.reason, job.found) if options.deidentify else result.reason
        for job, result in zip(jobs, results, strict=True)
        if result.state == "failed"
    }
    update_ledger(folder, STAGE, [job.recorded for job in jobs], failed)
    return done


@contextlib.contextmanager
def _each_remark_once() -> Iterator[None]:
    """Log each remark on quality once: most are about the model, and the same for all volumes; the table has all."""
    logger, known = logging.getLogger(assess.__module__), set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in known
        known.add(text)
        return new

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


def _translate(job: Job, folder: Path, bundles: Sequence[ModelBundle], options: TranslationOptions) -> TranslatedVolume:
    wanted = marker_of(job.found, bundles, options)
    try:
        if job.found.refused is not None:
            raise ReadError(job.found.refused)
        files = _companion_files(job, bundles, options)
        if not claim_output(folder, job.output, job.marker, wanted, files=files, overwrite=options.overwrite):
            return _finished(job, "unchanged")
        try:
            own = dataclasses.replace(
                options,
                overwrite=True,
                sidecar_fields=job.fields,
                uncertainty=job.uncertainty,
                preview=job.preview,
            )
            translate_file(job.found, job.output, bundles, own)
        finally:
            release_output(job.output, job.marker)
        finish_output(job.marker)
    except ModalityError as error:
        return TranslatedVolume(job.case, "skipped", reason=str(error))
    except MedCycleGANError as error:
        return TranslatedVolume(job.case, "failed", reason=str(error))
    except MemoryError:
        return TranslatedVolume(
            job.case, "failed", reason="not enough memory to translate it: give the job more memory"
        )
    except OSError as error:
        reason = f"{error.filename or 'input or output'}: {error.strerror or error}"
        return TranslatedVolume(job.case, "failed", reason=one_line(reason))
    return _finished(job, "translated")


def _companion_files(job: Job, bundles: Sequence[ModelBundle], options: TranslationOptions) -> dict[Path, Any]:
    """Return the map and the preview of a job, if there are any, and what only they depend on.

    A calibration is not part of a model's fingerprint, and models are calibrated after their first maps.
    """
    files: dict[Path, Any] = {}
    if job.uncertainty is not None and options.to is not None:
        found = [bundle.calibrations.get(bundle.direction(options.to).generator, b"") for bundle in bundles]
        files[job.uncertainty] = [options.coverage, [hashlib.sha256(content).hexdigest() for content in found]]
    if job.preview is not None:
        files[job.preview] = None
    return files


def _finished(job: Job, state: State) -> TranslatedVolume:
    """Return the result of a volume whose output exists, with the verdict in its sidecar."""
    try:
        quality = read_translation_record(job.output).get("quality") or {}
    except ReadError:
        quality = {}
    return TranslatedVolume(job.case, state, job.output, quality.get("verdict"), "; ".join(quality.get("reasons", ())))


def _bids_job(found: FoundVolume, out: Path, output: str, fields: dict[str, Any]) -> Job:
    marker = out / MARKERS / f"{Path(output).name.split('.')[0]}.json"
    return Job(found, one_line(found.name), found.name, out / output, marker, fields)


def _bids_fields(found: FoundVolume, direction: Direction) -> dict[str, Any]:
    """Return the additional fields of a sidecar in a BIDS derivative dataset."""
    return {
        "Description": (
            f"Synthetic {direction.target.name} image, translated by a CycleGAN; research only, not a medical device"
        ),
        "GeneratedBy": generated_by(direction.model.fingerprint),
        "Sources": [f"bids:{RAW}:{found.relative_path.as_posix()}"],
        "SkullStripped": _is_skull_stripped(found),
    }


def _is_skull_stripped(found: FoundVolume) -> bool:
    """Return ``SkullStripped`` of the source's sidecar; False without it, because raw images are not skull-stripped."""
    name = found.path.name.split(".")[0]
    try:
        return bool(json.loads(found.path.with_name(f"{name}.json").read_text("utf-8")).get("SkullStripped", False))
    except (OSError, ValueError, AttributeError):
        return False
