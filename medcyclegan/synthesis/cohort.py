"""``synthesize``: a cohort of synthetic patients as volumes that ``slice_volumes`` reads, with their truth."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from medcyclegan.errors import ReadError, UsageError, VolumeError
from medcyclegan.io import ReadOptions, find_volumes
from medcyclegan.progress import progress_bar
from medcyclegan.provenance import hash_file, hash_json
from medcyclegan.shards import share_of
from medcyclegan.storage import atomic_write, remove_leftovers
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.head import check_head
from medcyclegan.synthesis.labels import FREESURFER
from medcyclegan.synthesis.loading import read_label_map
from medcyclegan.synthesis.patient_files import PatientJob, PatientsJob, is_finished, make_patients
from medcyclegan.synthesis.sequences import CONTRASTS
from medcyclegan.synthesis.tissues import TISSUES
from medcyclegan.synthesis.views import Variation
from medcyclegan.workers import run_in_processes

__all__ = ["Cohort", "CohortResult", "draw_of", "find_label_maps", "synthesize"]

log = logging.getLogger(__name__)

#: Where the tissues' numbers are explained, next to the truth.
_TISSUES_FILE = "tissues.csv"


@dataclasses.dataclass(frozen=True)
class Cohort:
    """Who is drawn: ``patients`` synthetic patients in these ``contrasts``.

    Patient n of a ``seed`` is the same however many are drawn, in which contrasts, and by how many processes.
    ``format``: ``nifti`` or ``dicom``.
    """

    contrasts: tuple[str, ...] = ("t1", "t2")
    patients: int = 10
    seed: int = 0
    variation: Variation = dataclasses.field(default_factory=Variation)
    format: str = "nifti"

    def __post_init__(self) -> None:
        unknown = [name for name in self.contrasts if name not in CONTRASTS]
        if unknown or not self.contrasts:
            raise UsageError(f"contrasts {', '.join(unknown) or 'none'}: choose among {', '.join(CONTRASTS)}")
        if self.patients < 1 or self.seed < 0:
            raise UsageError(
                f"{self.patients} patients of seed {self.seed}: at least 1 patient and a seed of 0 or more"
            )
        if self.format not in ("nifti", "dicom"):
            raise UsageError(f"format {self.format!r}: choose nifti or dicom")


@dataclasses.dataclass(frozen=True)
class CohortResult:
    """What came of :func:`synthesize`: where the volumes and the truth are, and how many patients were drawn."""

    volumes: Path
    truth: Path
    drawn: int
    finished: int


def synthesize(
    labels: Sequence[str | Path],
    out: str | Path = "volumes",
    cohort: Cohort | None = None,
    *,
    table: Mapping[int, str] | None = None,
    workers: int = 1,
    device: torch.device | None = None,
    shard: tuple[int, int] = (0, 1),
) -> CohortResult:
    """Draw a cohort of synthetic patients from label maps.

    ``labels``: files, or folders that hold them. ``table``: label to tissue (default: FreeSurfer's and SynthSeg's).
    ``shard``: (this one, of how many), 0-based. Writes ``out/<contrast>/sub-0001_<suffix>.nii.gz`` (or a folder of
    DICOM), and next to ``out``, in ``<out>-truth``: the tissues on the same grid, ``sub-0001_tissues.nii.gz``, all that
    was drawn, ``sub-0001.json``, and what the numbers mean, ``tissues.csv``. Finished patients are left as they are.

    Every label map is checked before the first patient. Raises :class:`~medcyclegan.errors.ReadError` for labels that
    are not there, a subclass of :class:`~medcyclegan.errors.VolumeError` for a label map that is refused, with its
    name, and :class:`~medcyclegan.errors.WriteError` for patients of other settings in ``out``.
    """
    cohort, table = cohort or Cohort(), FREESURFER if table is None else table
    if workers < 1 or not 0 <= shard[0] < shard[1]:
        raise UsageError(f"{workers} workers, shard {shard[0]} of {shard[1]}: at least one worker, shards from 0")
    out = Path(out)
    _check_out(out, [Path(path) for path in labels])
    truth = out.with_name(f"{out.name}-truth")
    maps = find_label_maps([Path(path) for path in labels])
    jobs = share_of(_plan(maps, out, truth, cohort, table), shard)
    finished = [job for job in jobs if is_finished(job)]
    todo = [job for job in jobs if not is_finished(job)]
    if finished:
        log.info("%d of %d patients are drawn already", len(finished), len(jobs))
    if todo:
        _check_maps(maps, table)
        for folder in (truth, *(out / name for name in cohort.contrasts)):
            remove_leftovers(folder)
        _write_tissues(truth / _TISSUES_FILE)
        _run(_by_map(todo, table, device or torch.device("cpu")), workers)
    log.info("%d patients in %s, their truth in %s", len(jobs), out, truth)
    return CohortResult(out, truth, len(todo), len(finished))


def _check_out(out: Path, labels: Iterable[Path]) -> None:
    if out.name in ("", ".."):
        raise UsageError(f"--out {out}: give the folder a name: the truth is written to a second one, NAME-truth")
    for path in labels:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise UsageError(
                f"--out {out} is inside {path}, where the next call would take its volumes for label maps: choose "
                "another folder"
            )


def draw_of(cohort: Cohort, number: int, maps: int) -> tuple[int, int]:
    """Return which of ``maps`` label maps patient ``number`` of a cohort has, both counted from 0, and its own seed.

    They do not depend on the number of patients.
    """
    turn, place = divmod(number, maps)
    chosen = Draws(cohort.seed, "label maps", turn).permutation(maps)[place]
    return chosen, Draws(cohort.seed, "patient", number).integer(0, 2**31 - 1)


def find_label_maps(labels: Sequence[Path]) -> list[Path]:
    """Return the files of label maps, in the order of their folders and names.

    Raises :class:`~medcyclegan.errors.ReadError` for a path that is missing or holds none.
    """
    found: list[Path] = []
    for path in labels:
        own = [volume for volume in find_volumes(path, ReadOptions()) if volume.kind in ("nifti", "itk")]
        if not own:
            raise ReadError(f"{path}: no label map here: name NIfTI, .mha or .nrrd files, or a folder that holds them")
        found += [volume.path for volume in own]
    return list(dict.fromkeys(found))


def _check_maps(maps: Sequence[Path], table: Mapping[int, str]) -> None:
    """Read every label map and refuse what cannot be drawn from, before hours of work."""
    with progress_bar("checking label maps", len(maps)) as bar:
        for path in maps:
            try:
                check_head(read_label_map(path), table)
            except VolumeError as error:
                text = str(error)
                raise type(error)(text if text.startswith(str(path)) else f"{path}: {text}") from None
            bar.advance()


def _plan(maps: Sequence[Path], out: Path, truth: Path, cohort: Cohort, table: Mapping[int, str]) -> list[PatientJob]:
    """Return all patients: which label map each has does not depend on how many there are."""
    hashes = [hash_json([hash_file(path), sorted(table.items())]) for path in maps]
    jobs = []
    for number in range(cohort.patients):
        chosen, seed = draw_of(cohort, number, len(maps))
        jobs.append(
            PatientJob(
                number=number + 1,
                seed=seed,
                contrasts=cohort.contrasts,
                variation=cohort.variation,
                labels=maps[chosen],
                labels_sha256=hashes[chosen],
                out=out,
                truth=truth,
                file_format=cohort.format,
            )
        )
    return jobs


def _by_map(jobs: Iterable[PatientJob], table: Mapping[int, str], device: torch.device) -> list[PatientsJob]:
    """Return the jobs gathered by label map, which is prepared once for all of its patients."""
    groups: dict[Path, list[PatientJob]] = {}
    for job in jobs:
        groups.setdefault(job.labels, []).append(job)
    return [PatientsJob(path, tuple(own), dict(table), str(device)) for path, own in groups.items()]


def _run(jobs: Sequence[PatientsJob], workers: int) -> None:
    total = sum(len(job.patients) for job in jobs)
    with progress_bar("drawing patients", total) as bar:
        if workers == 1 or total == 1:
            for job in jobs:
                for _ in make_patients(job):
                    bar.advance()
            return
        parts = _parted(jobs, workers)
        for number, killed in run_in_processes(_work, parts, workers, _killed):
            if killed is not None:
                raise killed
            bar.advance(len(parts[number].patients))


def _parted(jobs: Sequence[PatientsJob], workers: int) -> list[PatientsJob]:
    """Return the jobs in parts small enough that no worker is left with a long one at the end."""
    total = sum(len(job.patients) for job in jobs)
    largest = max(1, -(-total // (4 * workers)))
    return [
        dataclasses.replace(job, patients=job.patients[first : first + largest])
        for job in jobs
        for first in range(0, len(job.patients), largest)
    ]


def _work(job: PatientsJob) -> ReadError | None:
    for _ in make_patients(job):
        pass
    return None


def _killed(job: PatientsJob) -> ReadError:
    return ReadError(
        f"{job.labels}: the process that drew patients of it was killed, most often because memory ran out: use fewer "
        "--workers"
    )


def _write_tissues(path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("number", "tissue"))
    writer.writerows(enumerate(tissue.name for tissue in TISSUES))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
