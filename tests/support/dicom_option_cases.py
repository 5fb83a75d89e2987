"""Folders of synthetic DICOM that hold several volumes or gaps, and the options with which they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid
from support import dicom_phantoms as made
from support import phantoms
from support.dicom_cases import Case, collector, saved, two

from medcyclegan.volume import Volume

OPTION_CASES: list[Case] = []
case = collector(OPTION_CASES)


@case("two trigger times", "refused", {"split_by": "TriggerTime", "volume": 1})
def _(folder: Path) -> Volume:
    def mark(dataset: Dataset, number: int, k: int) -> None:
        dataset.TriggerTime, dataset.InstanceNumber = 100 * number, 2 * k + number + 1

    return two(folder, mark)


@case("magnitude and phase", "refused", {"volume": 1})
def _(folder: Path) -> Volume:
    def mark(dataset: Dataset, number: int, k: int) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "MP"[number]]
        dataset.InstanceNumber = 10 * number + k + 1

    return two(folder, mark)


@case("two time points that only InstanceNumber tells apart", "refused", {"volume": 1})
def _(folder: Path) -> Volume:
    def mark(dataset: Dataset, number: int, k: int) -> None:
        dataset.InstanceNumber = 10 * number + k + 1

    return two(folder, mark)


@case("two volumes that nothing tells apart", "refused")
def _(folder: Path) -> Volume:
    def mark(dataset: Dataset, number: int, k: int) -> None:
        dataset.InstanceNumber = 1

    return two(folder, mark)


@case("two phases half a slice apart", "refused", {"split_by": "AcquisitionNumber", "volume": 1})
def _(folder: Path) -> Volume:
    return _half_a_slice_apart(folder, "CT", AcquisitionNumber=(1, 2))


@case("two echoes half a slice apart", "refused", {"split_by": "EchoTime", "volume": 1})
def _(folder: Path) -> Volume:
    return _half_a_slice_apart(folder, "MR", EchoTime=(15, 80))


def _half_a_slice_apart(folder: Path, modality: str, **marks: tuple[Any, Any]) -> Volume:
    slices, volumes = [], []
    for number in range(2):
        affine = phantoms.make_affine("LPS", (0.9, 1.1, 2.5), origin=(5.4, 7.7, -11.25 + 1.25 * number))
        volumes.append(made.placed_volume(affine=affine, modality=modality))
        for k, dataset in enumerate(made.slices_of(volumes[-1])):
            dataset.SOPInstanceUID = generate_uid(entropy_srcs=["half", str(number), str(k)])
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            for keyword, values in marks.items():
                setattr(dataset, keyword, values[number])
            slices.append(dataset)
    made.save(slices, folder)
    return volumes[1]


@case("every gap different", "refused", {"allow_gap": True}, resampled=True)
def _(folder: Path) -> Volume:
    def move(slices: list[Dataset]) -> None:
        volume = made.placed_volume()
        heights = np.array([0, 1.0, 2.3, 3.1, 4.7, 5.9, 6.4, 7.9, 8.3, 9.0])
        for dataset, height in zip(slices, heights, strict=True):
            place = volume.affine @ (0, 0, height, 1)
            values = phantoms.linear_values((12, 14, 1), volume.affine @ _shift(height), made.COEFFICIENTS)
            dataset.ImagePositionPatient = [f"{-place[0]:.8f}", f"{-place[1]:.8f}", f"{place[2]:.8f}"]
            dataset.PixelData = np.rint(values[:, :, 0].T + 2048).astype(np.uint16).tobytes()

    return saved(folder, made.placed_volume(), move)


def _shift(k: float) -> np.ndarray:
    shift = np.eye(4)
    shift[2, 3] = k
    return shift


@case("gap and tilt together", "refused", {"allow_gap": True, "resample_tilt": True}, resampled=True)
def _(folder: Path) -> Volume:
    affine = phantoms.make_affine("LPS", (0.9, 1.1, 2.5), origin=(5.0, 7.0, -11.0), rotation_degrees=(-10, 0, 0))
    affine[:3, 2] = (0, 0, 2.5)
    return saved(folder, made.placed_volume(affine=affine), lambda slices: slices[:3] + slices[4:])


@case("enhanced, two echoes", "refused", {"split_by": "EchoTime", "volume": 1})
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    second = volume.replace(array=(volume.array + 100).astype(np.int16))
    parts = []
    for part, echo in ((volume, 15.0), (second, 80.0)):
        dataset = made.enhanced_of(part)
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.MREchoSequence = Items([Dataset()])
            group.MREchoSequence[0].EffectiveEchoTime = echo
        parts.append(dataset)
    joined = made.join_enhanced(*parts)
    made.reorder_frames(joined, [index for pair in zip(range(10), range(10, 20), strict=True) for index in pair])
    made.save([joined], folder)
    return second


@case("enhanced, five time points by an unnamed dimension", "refused", {"volume": 4})
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    parts, truth = [], volume
    for time in range(5):
        truth = volume.replace(array=(volume.array + 50 * time).astype(np.int16))
        part = made.enhanced_of(truth)
        for k, group in enumerate(part.PerFrameFunctionalGroupsSequence):
            group.FrameContentSequence[0].DimensionIndexValues = [1, k + 1, time + 1]
        parts.append(part)
    joined = parts[0]
    for part in parts[1:]:
        joined = made.join_enhanced(joined, part)
    made.save([joined], folder)
    return truth


@case("enhanced, two stacks", "refused", {"volume": 1})
def _(folder: Path) -> Volume:
    first = made.placed_volume(modality="MR")
    second = made.placed_volume(
        affine=phantoms.make_affine("PIR", (0.9, 1.1, 2.5), origin=(-11.0, 5.0, 6.0)), modality="MR"
    )
    parts = []
    for number, volume in enumerate((first, second)):
        part = made.enhanced_of(volume)
        for group in part.PerFrameFunctionalGroupsSequence:
            group.FrameContentSequence[0].StackID = str(number + 1)
            group.PlaneOrientationSequence = part.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
        del part.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
        parts.append(part)
    made.save([made.join_enhanced(*parts)], folder)
    return second


@case("two sizes in one series", "refused", {"split_by": "Rows", "volume": 1})
def _(folder: Path) -> Volume:
    first, second = made.placed_volume(), made.placed_volume((12, 15, 10))
    larger = made.slices_of(second)
    for k, dataset in enumerate(larger):
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=["larger", str(k)])
        dataset.InstanceNumber = 20 + k
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    made.save([*made.slices_of(first), *larger], folder)
    return second
