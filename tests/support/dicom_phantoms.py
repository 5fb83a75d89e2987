"""Synthetic DICOM series whose voxels encode their position, written with pydicom alone.

A fault is a change of the data sets between :func:`slices_of` (or :func:`enhanced_of`) and :func:`save`:

    slices = slices_of(volume)
    del slices[4]
    save(slices, folder)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from support import phantoms

from medcyclegan.volume import Volume

#: Large enough that a shift of a hundredth of a millimeter changes rounded values.
COEFFICIENTS = (20.0, 30.0, 50.0)
_CLASSES = {
    ("CT", False): CTImageStorage,
    ("MR", False): MRImageStorage,
    ("CT", True): EnhancedCTImageStorage,
    ("MR", True): EnhancedMRImageStorage,
}


def placed_volume(
    shape: tuple[int, int, int] = (12, 14, 10),
    affine: NDArray[np.float64] | None = None,
    modality: str = "CT",
) -> Volume:
    """Return an int16 volume, axial (LPS) by default; each voxel is 20 x + 30 y + 50 z of its position in mm."""
    if affine is None:
        affine = phantoms.make_affine("LPS", (0.9, 1.1, 2.5), origin=(5.4, 7.7, -11.25))
    values = np.rint(phantoms.linear_values(shape, affine, COEFFICIENTS)).astype(np.int16)
    return Volume(values, affine, modality=modality)


def slices_of(volume: Volume, *, intercept: float = -2048.0, seed: str = "series") -> list[Dataset]:
    """Return one classic data set per slice, in the order of ``k``; UIDs follow from ``seed``."""
    return [_slice(volume, k, intercept, seed) for k in range(volume.shape[2])]


def enhanced_of(volume: Volume, *, intercept: float = -2048.0, seed: str = "enhanced") -> Dataset:
    """Return one enhanced data set with a frame per slice, its geometry per frame."""
    dataset = _common(volume, seed, enhanced=True)
    dataset.NumberOfFrames = volume.shape[2]
    dataset.SharedFunctionalGroupsSequence = Items([Dataset()])
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = _decimals(volume.spacing_mm[1], volume.spacing_mm[0])
    measures.SliceThickness = _decimals(volume.spacing_mm[2])[0]
    orientation.ImageOrientationPatient = _orientation(volume)
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = Items([measures])
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = Items([orientation])
    dataset.PerFrameFunctionalGroupsSequence = Items()
    for k in range(volume.shape[2]):
        group, content, position, rescale = Dataset(), Dataset(), Dataset(), Dataset()
        content.StackID, content.InStackPositionNumber = "1", k + 1
        content.DimensionIndexValues = [1, k + 1]
        position.ImagePositionPatient = _position(volume, k)
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, intercept, "US"
        group.FrameContentSequence, group.PlanePositionSequence = Items([content]), Items([position])
        group.PixelValueTransformationSequence = Items([rescale])
        dataset.PerFrameFunctionalGroupsSequence.append(group)
    stored = volume.array.astype(np.float64) - intercept
    dataset.PixelData = _coded(stored.transpose(2, 1, 0))
    return dataset


def frame_bytes(dataset: Dataset) -> list[bytes]:
    """Return the pixel data of each frame of an uncompressed 16-bit data set."""
    size = dataset.Rows * dataset.Columns * 2
    return [dataset.PixelData[start : start + size] for start in range(0, size * dataset.NumberOfFrames, size)]


def reorder_frames(dataset: Dataset, order: Sequence[int]) -> None:
    """Put the frames of an enhanced data set into another order, or leave some out."""
    frames = frame_bytes(dataset)
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    dataset.PerFrameFunctionalGroupsSequence = Items([groups[index] for index in order])
    dataset.PixelData = b"".join(frames[index] for index in order)
    dataset.NumberOfFrames = len(order)


def join_enhanced(first: Dataset, second: Dataset) -> Dataset:
    """Return ``first`` with the frames of ``second`` appended."""
    first.PerFrameFunctionalGroupsSequence.extend(second.PerFrameFunctionalGroupsSequence)
    first.PixelData = first.PixelData + second.PixelData
    first.NumberOfFrames += second.NumberOfFrames
    return first


def stored_values(dataset: Dataset) -> NDArray[Any]:
    """Return the 16-bit stored values of a classic data set, ``(rows, columns)``, as a copy."""
    kind = np.int16 if dataset.PixelRepresentation else np.uint16
    return np.frombuffer(dataset.PixelData, kind).reshape(dataset.Rows, dataset.Columns).copy()


def rescaled(dataset: Dataset, slope: float, intercept: float) -> None:
    """Change the rescale of a classic data set, and its stored values so that the real values stay the same."""
    values = stored_values(dataset) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.PixelData = np.rint((values - intercept) / slope).astype(np.uint16).tobytes()


def localizer(volume: Volume, seed: str) -> Dataset:
    """Return a coronal localizer of another size, identified by its ImageType."""
    affine = phantoms.make_affine("LIP", (1.5, 1.5, 5.0), origin=(20.0, 0.0, 30.0))
    scout = slices_of(placed_volume((20, 18, 1), affine, volume.modality or "CT"), seed=seed)[0]
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["scout", seed])
    scout.InstanceNumber = 99
    return scout


def save(
    datasets: Iterable[Dataset],
    folder: Path,
    *,
    name: Callable[[int], str] = lambda number: f"IM{number:04d}.dcm",
    syntax: UID = ExplicitVRLittleEndian,
) -> list[Path]:
    """Write data sets as files, in the transfer syntax; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(datasets, start=1):
        path = folder / name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(
            path, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
        )
        paths.append(path)
    return paths


def _common(volume: Volume, seed: str, *, enhanced: bool) -> Dataset:
    modality = volume.modality or "MR"
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = _CLASSES[modality, enhanced]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
    dataset.StudyDate, dataset.StudyTime = "20240101", "120000"
    dataset.Modality, dataset.Manufacturer = modality, "Made"
    dataset.SeriesDescription = f"made {modality}"
    dataset.PatientName, dataset.PatientID = "Made^Phantom", f"P-{seed}"
    dataset.PatientBirthDate, dataset.PatientSex = "", ""
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study", seed])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series", seed])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", seed])
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["instance", seed, "0"])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SeriesNumber, dataset.InstanceNumber = 3, 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Columns, dataset.Rows = volume.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    return dataset


def _slice(volume: Volume, k: int, intercept: float, seed: str) -> Dataset:
    dataset = _common(volume, seed, enhanced=False)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=["instance", seed, str(k)]
    )
    dataset.InstanceNumber = k + 1
    dataset.AcquisitionNumber = 1
    dataset.SliceThickness = _decimals(volume.spacing_mm[2])[0]
    dataset.ImagePositionPatient = _position(volume, k)
    dataset.ImageOrientationPatient = _orientation(volume)
    dataset.PixelSpacing = _decimals(volume.spacing_mm[1], volume.spacing_mm[0])
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, intercept
    if volume.modality == "CT":
        dataset.RescaleType = "HU"
    else:
        dataset.EchoTime, dataset.RepetitionTime = 15, 600
    dataset.PixelData = _coded(volume.array[:, :, k].T.astype(np.float64) - intercept)
    return dataset


def _coded(stored: NDArray[np.float64]) -> bytes:
    assert stored.min() >= 0, "the intercept does not make the values positive"
    return np.rint(stored).astype("<u2").tobytes()


def _position(volume: Volume, k: int) -> list[str]:
    x, y, z = volume.affine[:3] @ (0, 0, k, 1)
    return _decimals(-x, -y, z)


def _orientation(volume: Volume) -> list[str]:
    columns, rows = (volume.affine[:3, axis] / np.linalg.norm(volume.affine[:3, axis]) for axis in (0, 1))
    return _decimals(*(columns * (-1, -1, 1)), *(rows * (-1, -1, 1)))


def _decimals(*values: float) -> list[str]:
    """Return decimal strings of at most 16 characters."""
    return [f"{value + 0.0:.10f}"[:16] for value in values]
