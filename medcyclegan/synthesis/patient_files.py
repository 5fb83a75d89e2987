"""Write the files of synthetic patients: the work of a worker of ``synthesize``."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medcyclegan.errors import WriteError
from medcyclegan.io import write_volume
from medcyclegan.io.dicom.write.synthetic import write_made_series
from medcyclegan.provenance import hash_json, now, versions
from medcyclegan.storage import atomic_write
from medcyclegan.synthesis.head import LabelledHead
from medcyclegan.synthesis.loading import load_head
from medcyclegan.synthesis.patient import Images, Patient, draw_patient, render_patient
from medcyclegan.synthesis.views import Variation
from medcyclegan.volume import Volume

__all__ = ["PatientJob", "PatientsJob", "grid_affine", "is_finished", "make_patients", "scan_volume"]

_MADE_BY = "medcyclegan synthesize"
#: The BIDS suffix of each contrast.
_SUFFIXES = {"t1": "T1w", "t2": "T2w", "pd": "PDw", "flair": "FLAIR", "ct": "ct"}
#: A version that must be increased if the same seed no longer gives the same patient.
_GENERATION = 2
#: Scanners store at most 16 bits.
_LARGEST_MR = 32767.0


@dataclasses.dataclass(frozen=True)
class PatientJob:
    """One patient to be generated: its ``number`` from 1, its ``seed``, and its folders.

    ``labels_sha256``: the hash of the label map's file and of the table of labels.
    """

    number: int
    seed: int
    contrasts: tuple[str, ...]
    variation: Variation
    labels: Path
    labels_sha256: str
    out: Path
    truth: Path
    file_format: str

    @property
    def name(self) -> str:
        """The patient's name, as in BIDS."""
        return f"sub-{self.number:04d}"

    @property
    def record(self) -> Path:
        """The file with all random parameters."""
        return self.truth / f"{self.name}.json"

    @property
    def recipe(self) -> str:
        """A hash of everything that determines the patient except its contrasts, which are independent."""
        return hash_json(
            {
                "generation": _GENERATION,
                "seed": self.seed,
                "labels": self.labels_sha256,
                "variation": dataclasses.asdict(self.variation),
                "format": self.file_format,
            }
        )

    def volume(self, contrast: str) -> Path:
        """Return the path of the patient's volume in ``contrast``."""
        name = f"{self.name}_{_SUFFIXES[contrast]}"
        return self.out / contrast / (f"{name}.nii.gz" if self.file_format == "nifti" else name)


@dataclasses.dataclass(frozen=True)
class PatientsJob:
    """Patients of one label map, which is prepared once for all of them."""

    labels: Path
    patients: tuple[PatientJob, ...]
    table: Mapping[int, str]
    device: str


def is_finished(job: PatientJob) -> bool:
    """Return whether the patient exists in all of the job's contrasts.

    Raises :class:`~medcyclegan.errors.WriteError` if a volume of that name exists that was not generated in the same
    way.
    """
    record = _read_record(job)
    if record is None:
        for contrast in job.contrasts:
            if job.volume(contrast).exists():
                raise WriteError(
                    f"{job.volume(contrast)} exists and was not written by synthesize, so it is not replaced: choose "
                    "another --out"
                )
        return False
    if record.get("recipe") != job.recipe:
        raise WriteError(
            f"{job.out} contains {job.name} from another seed, label map or setting: choose another --out, or remove "
            f"{job.out} and {job.truth}"
        )
    present = all(job.volume(contrast).exists() for contrast in record["contrasts"])
    return record["state"] == "finished" and present and set(job.contrasts) <= set(record["contrasts"])


def make_patients(job: PatientsJob) -> Iterator[PatientJob]:
    """Generate and write the patients of one label map; yield each when all of its files are complete."""
    on_cpu, head = (load_head(job.labels, job.table, torch.device(where)) for where in ("cpu", job.device))
    for one in job.patients:
        _make_patient(one, on_cpu, head)
        yield one


def _make_patient(job: PatientJob, on_cpu: LabelledHead, head: LabelledHead) -> None:
    earlier = _read_record(job)
    # Include the contrasts of earlier calls, so that one record describes all of them.
    contrasts = tuple(dict.fromkeys((*(earlier["contrasts"] if earlier else ()), *job.contrasts)))
    patient = draw_patient(job.seed, on_cpu, contrasts, job.variation)
    record = {
        "made_by": _MADE_BY,
        "state": "drawing",
        "recipe": job.recipe,
        "contrasts": contrasts,
        "labels_sha256": job.labels_sha256,
        "created": now(),
        "versions": versions(),
        "patient": dataclasses.asdict(patient),
    }
    # Written first, so that files left behind by a kill are recognized as ours.
    _save_record(job, record)
    images = render_patient(patient, head)
    for contrast in contrasts:
        _write(job, contrast, scan_volume(images, patient, contrast))
    assert images.truth is not None  # noqa: S101 (rendered by default)
    tissues = Volume(images.truth.cpu().numpy(), grid_affine(patient))
    write_volume(tissues, job.truth / f"{job.name}_tissues.nii.gz", overwrite=True)
    _save_record(job, record | {"state": "finished"})


def _write(job: PatientJob, contrast: str, volume: Volume) -> None:
    path = job.volume(contrast)
    if job.file_format == "nifti":
        write_volume(volume, path, overwrite=True)  # its record shows that the patient is unfinished
        return
    if path.exists():  # its record shows that the patient is unfinished
        shutil.rmtree(path)
    write_made_series(volume, path, number=job.number, description=f"{_SUFFIXES[contrast]} synthetic")


def scan_volume(images: Images, patient: Patient, contrast: str) -> Volume:
    """Return one scan as a volume: MR in whole arbitrary units, as scanners store it, CT in whole HU."""
    scan = images.scans[contrast].cpu().numpy()
    if contrast == "ct":
        return Volume(np.rint(scan).astype(np.int16), grid_affine(patient), modality="CT")
    return Volume(np.rint(np.minimum(scan, _LARGEST_MR)).astype(np.float32), grid_affine(patient), modality="MR")


def grid_affine(patient: Patient) -> NDArray[np.float64]:
    """Return the affine of a patient's volumes: voxel indices to RAS+ mm from the brain's centre."""
    affine = np.diag([*patient.grid.spacing_mm, 1.0])
    affine[:3, 3] = patient.grid.origin_mm
    return affine


def _read_record(job: PatientJob) -> dict[str, Any] | None:
    try:
        record = json.loads(job.record.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WriteError(f"{job.record} cannot be read ({error}): remove it and the volumes of {job.name}") from None
    if not isinstance(record, dict) or record.get("made_by") != _MADE_BY:
        raise WriteError(f"{job.record} was not written by synthesize: choose another --out")
    return record


def _save_record(job: PatientJob, record: Mapping[str, Any]) -> None:
    with atomic_write(job.record) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
