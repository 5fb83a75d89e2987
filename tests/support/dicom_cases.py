"""Folders of synthetic DICOM with one fault or peculiarity each, and the allowed results of reading them.

``CASES`` and the ``FILE_CASES`` of :mod:`support.dicom_file_cases`, 33 together, are those on which other readers were
compared (pydicom with MONAI, ITK, dicom2nifti, dcm2niix, highdicom). Each case may be ``right`` or ``refused`` without
options; with its own options it is right. ``judge`` decides by the values, which are functions of position.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    generate_uid,
)
from support import dicom_phantoms as made
from support import phantoms

from medcyclegan.errors import MedCycleGANError
from medcyclegan.io import read_volume
from medcyclegan.volume import Volume

Maker = Callable[[Path], Volume]


@dataclasses.dataclass(frozen=True)
class Case:
    """One synthetic folder: ``make`` writes it and returns the truth. ``options`` are those with which it is right."""

    name: str
    make: Maker
    right: bool
    refused: bool
    options: dict[str, Any] | None = None
    resampled: bool = False


def collector(cases: list[Case]) -> Callable[..., Callable[[Maker], Maker]]:
    """Return a decorator that appends a case to ``cases``."""

    def case(
        name: str, allowed: str, options: dict[str, Any] | None = None, *, resampled: bool = False
    ) -> Callable[[Maker], Maker]:
        """Append the folder that the decorated function writes; ``allowed`` is right, refused, or either."""

        def append(make: Maker) -> Maker:
            cases.append(Case(name, make, allowed != "refused", allowed != "right", options, resampled))
            return make

        return append

    return case


CASES: list[Case] = []
case = collector(CASES)


def judge(chosen: Case, folder: Path, options: dict[str, Any]) -> tuple[str, str]:
    """Write a case, read it, and return ``right``, ``refused``, ``wrong`` or ``traceback``, with details."""
    truth = chosen.make(folder)
    try:
        found = read_volume(folder, **options)
    except MedCycleGANError as error:
        return "refused", str(error)
    except Exception as error:
        return "traceback", repr(error)
    resampled = chosen.resampled and options == chosen.options
    wrong = _wrong_resampled(found, truth) if resampled else _wrong(found, truth)
    return ("wrong", wrong) if wrong else ("right", "; ".join(found.notes))


def _wrong(found: Volume, truth: Volume) -> str:
    """Describe how a volume differs from the truth, voxel for voxel; its axes may be flipped or swapped."""
    if found.modality != truth.modality:
        return f"modality {found.modality}"
    to_truth = np.linalg.inv(truth.affine) @ found.affine
    axes = np.rint(to_truth[:3, :3])
    if sorted(found.shape) != sorted(truth.shape) or not (np.abs(axes).sum(axis=0) == 1).all():
        return f"shape {found.shape}"
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*np.array(found.shape) - 1, 1]
    places = (to_truth @ corners.T)[:3].T
    if (np.rint(places.min(axis=0)) != 0).any() or (np.rint(places.max(axis=0)) != np.array(truth.shape) - 1).any():
        return "another extent"
    off = np.abs(places - np.rint(places)) * truth.spacing_mm
    if off.max() > 0.05:
        return f"{off.max():.3g} mm off"
    i, j, k = (np.rint(to_truth @ np.array([*np.indices(found.shape).reshape(3, -1), np.ones(found.array.size)])))[
        :3
    ].astype(int)
    difference = np.abs(truth.array[i, j, k] - found.array.ravel()).max()
    return f"values differ by {difference:g}" if difference > 1 else ""


def _wrong_resampled(found: Volume, truth: Volume) -> str:
    """Describe how a resampled volume differs from the values expected at its positions in the truth's stack."""
    to_truth = np.linalg.inv(truth.affine) @ found.affine
    last = np.array(truth.shape) - 1
    places = (to_truth @ np.array([*np.indices(found.shape).reshape(3, -1), np.ones(found.array.size)]))[:3].T
    inside = ((places >= -1e-4) & (places <= last + 1e-4)).all(axis=1)
    expected = phantoms.linear_values(found.shape, found.affine, made.COEFFICIENTS).ravel()
    difference = np.abs(found.array.ravel() - expected)[inside].max()
    covered = places.max(axis=0) - places.min(axis=0)
    if found.shear_degrees > 1e-3 and truth.shear_degrees > 0:
        return "still leans"
    if (covered < last - 1).any():
        return f"covers {covered} of {last} voxels"
    return f"values differ by {difference:g}" if difference > 1 else ""


def saved(folder: Path, volume: Volume, change: Callable[[list[Dataset]], Any] | None = None, **how: Any) -> Volume:
    slices = made.slices_of(volume, intercept=-4096.0 if volume.array.min() < -2048 else -2048.0)
    if change is not None:
        slices = change(slices) or slices
    made.save(slices, folder, **how)
    return volume


@case("instance numbers reversed", "right")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> None:
        for number, dataset in enumerate(reversed(slices), start=1):
            dataset.InstanceNumber = number

    return saved(folder, made.placed_volume(), change)


@case("instance numbers shuffled", "right")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> list[Dataset]:
        random.Random(1).shuffle(slices)
        for number, dataset in enumerate(slices, start=1):
            dataset.InstanceNumber = number
        random.Random(2).shuffle(slices)
        return slices

    return saved(folder, made.placed_volume(), change)


@case("instance numbers absent", "right")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> list[Dataset]:
        for dataset in slices:
            del dataset.InstanceNumber
        return random.Random(3).sample(slices, len(slices))

    return saved(folder, made.placed_volume(), change)


@case("oblique", "right")
def _(folder: Path) -> Volume:
    affine = phantoms.make_affine("LPS", (0.9, 1.1, 2.5), origin=(5.0, 4.0, -10.0), rotation_degrees=(12, -7, 21))
    return saved(folder, made.placed_volume(affine=affine))


@case("sagittal", "right")
def _(folder: Path) -> Volume:
    affine = phantoms.make_affine("PIR", (0.8, 0.7, 3.0), origin=(-12.0, 6.0, 5.0))
    return saved(folder, made.placed_volume((14, 10, 9), affine))


@case("slice missing in the middle", "refused", {"allow_gap": True}, resampled=True)
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume(), lambda slices: slices[:4] + slices[5:])


@case("slice missing near the end", "refused", {"allow_gap": True}, resampled=True)
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume(), lambda slices: slices[:8] + slices[9:])


@case("a slice twice", "either")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> list[Dataset]:
        again = made.slices_of(made.placed_volume())[3]
        again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["again"])
        again.InstanceNumber = 11
        return [*slices, again]

    return saved(folder, made.placed_volume(), change)


@case("localizer in the series", "either")
def _(folder: Path) -> Volume:
    volume = made.placed_volume()
    return saved(folder, volume, lambda slices: [made.localizer(volume, "series"), *slices])


@case("localizer in another series", "either")
def _(folder: Path) -> Volume:
    volume = made.placed_volume()
    return saved(folder, volume, lambda slices: [made.localizer(volume, "scout"), *slices])


@case("gantry tilt of 15 degrees", "either", {"resample_tilt": True}, resampled=True)
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume(affine=_tilted(15.0)))


@case("gantry tilt of 2 degrees", "either", {"resample_tilt": True}, resampled=True)
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume(affine=_tilted(2.0)))


def _tilted(degrees: float) -> np.ndarray:
    """A gantry tilted about x: slices lean, the table still moves along z."""
    affine = phantoms.make_affine("LPS", (0.9, 1.1, 2.5), origin=(5.0, 7.0, -11.0), rotation_degrees=(degrees, 0, 0))
    affine[:3, 2] = (0, 0, 2.5)
    return affine


@case("rescale per slice", "right")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> None:
        for k, dataset in enumerate(slices):
            made.rescaled(dataset, 0.5 + 0.05 * k, -1000.0 - 10 * k)

    return saved(folder, made.placed_volume(), change)


@case("MONOCHROME1", "right")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> None:
        for dataset in slices:
            dataset.PhotometricInterpretation = "MONOCHROME1"

    return saved(folder, made.placed_volume(), change)


@case("signed", "right")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> None:
        for dataset in slices:
            dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0
            dataset.PixelData = (made.stored_values(dataset).astype(np.int32) - 2048).astype(np.int16).tobytes()

    return saved(folder, made.placed_volume(), change)


def two(folder: Path, mark: Callable[[Dataset, int, int], None], modality: str = "MR") -> Volume:
    """Write two volumes at one position, the second with doubled values; ``mark`` distinguishes them."""
    volume = made.placed_volume(modality=modality)
    second = volume.replace(array=(volume.array + 100).astype(np.int16))
    slices = []
    for number, each in enumerate((volume, second)):
        for k, dataset in enumerate(made.slices_of(each)):
            dataset.SOPInstanceUID = generate_uid(entropy_srcs=["two", str(number), str(k)])
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            mark(dataset, number, k)
            slices.append(dataset)
    made.save(slices, folder)
    return second


@case("two echoes in one series", "refused", {"split_by": "EchoTime", "volume": 1})
def _(folder: Path) -> Volume:
    def mark(dataset: Dataset, number: int, k: int) -> None:
        dataset.EchoTime, dataset.InstanceNumber = (15, 80)[number], 2 * k + number + 1

    return two(folder, mark)


@case("two phases in one series", "refused", {"volume": 1})
def _(folder: Path) -> Volume:
    def mark(dataset: Dataset, number: int, k: int) -> None:
        dataset.AcquisitionNumber, dataset.InstanceNumber = number + 1, number * 10 + k + 1

    return two(folder, mark, "CT")


@case("variable spacing", "refused", {"allow_gap": True}, resampled=True)
def _(folder: Path) -> Volume:
    dense = made.placed_volume((12, 14, 19), phantoms.make_affine("LPS", (0.9, 1.1, 1.25), origin=(5.4, 7.7, -11.25)))
    return saved(folder, dense, lambda slices: slices[:8] + slices[8::2])


@case("two series in one folder", "refused", {"series": generate_uid(entropy_srcs=["series", "second"])})
def _(folder: Path) -> Volume:
    volume = made.placed_volume()
    second = volume.replace(array=(volume.array + 100).astype(np.int16))
    made.save([*made.slices_of(volume), *made.slices_of(second, seed="second")], folder)
    return second
