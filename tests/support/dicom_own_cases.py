"""Folders of synthetic DICOM that other readers were not compared on; ``ALL_CASES`` are those of all modules."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from support import dicom_phantoms as made
from support import phantoms
from support.dicom_cases import CASES, Case, collector, saved
from support.dicom_changes import Change, delete, each, set_values
from support.dicom_file_cases import FILE_CASES, recoded
from support.dicom_option_cases import OPTION_CASES
from support.dicom_refused_cases import REFUSED_CASES

from medcyclegan.volume import Volume

OWN_CASES: list[Case] = []
case = collector(OWN_CASES)


def _simple(called: str, allowed: str, change: Change, options: dict[str, Any] | None = None, **how: Any) -> None:
    """Register a case that is one change to the slices of the ordinary volume."""

    @case(called, allowed, options)
    def _(folder: Path) -> Volume:
        return saved(folder, made.placed_volume(), change, **how)


_simple("implicit VR", "right", lambda slices: None, syntax=ImplicitVRLittleEndian)
_simple("deflated", "right", lambda slices: None, syntax=DeflatedExplicitVRLittleEndian)
_simple("no suffix, names of many kinds", "right", lambda slices: None, name=lambda number: f"{number * 7919 % 97}")
_simple("files spread over folders", "right", lambda slices: None, name=lambda number: f"D{number % 3}/IM{number}")
_simple("no modality, the SOP class says it", "right", delete(None, "Modality"))
_simple("one SOPInstanceUID for all", "right", set_values(SOPInstanceUID="1.2.3"))
_simple("no patient, no study", "right", each(lambda dataset: [dataset.pop(k) for k in ("PatientID", "PatientName")]))
_simple("padding value", "right", set_values(PixelPaddingValue=0))
_simple("presentation LUT shape INVERSE", "right", set_values(PresentationLUTShape="INVERSE"))
_simple("window and real-world map are not applied", "right", set_values(WindowCenter=40, WindowWidth=400))
_simple(
    "text that is no text",
    "right",
    each(lambda dataset: dataset.add_new("SeriesDescription", "LO", "\x1b[31m\r\nred")),
)
_simple("a private element of 100 kB", "right", each(lambda dataset: dataset.add_new(0x00091001, "OB", bytes(100_000))))
_simple("a longer ImageType in some slices", "right", set_values(2, ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "ADD"]))
_simple("varying slice thickness", "right", set_values(2, SliceThickness="7.0"))


@case("left and right, top and bottom turned", "right")
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume(affine=phantoms.make_affine("RPI", (0.9, 1.1, 2.5), origin=(-5, 7, 11))))


@case("coronal, feet first", "right")
def _(folder: Path) -> Volume:
    affine = phantoms.make_affine("RIP", (0.8, 0.7, 3.0), origin=(-6.0, 8.0, 5.0))
    return saved(folder, made.placed_volume((14, 10, 9), affine), set_values(PatientPosition="FFP"))


@case("decubitus, oblique", "right")
def _(folder: Path) -> Volume:
    affine = phantoms.make_affine("PRS", (0.8, 0.7, 3.0), origin=(-6.0, 8.0, -9.0), rotation_degrees=(5, 8, -3))
    return saved(folder, made.placed_volume((14, 10, 9), affine), set_values(PatientPosition="HFDR"))


@case("one slice", "right")
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume((12, 14, 1)))


@case("big endian", "right")
def _(folder: Path) -> Volume:
    def swap(dataset: Dataset) -> None:
        dataset.PixelData = made.stored_values(dataset).byteswap().tobytes()
        dataset["PixelData"].VR = "OW"

    return saved(folder, made.placed_volume(), each(swap), syntax=ExplicitVRBigEndian)


@case("8 bits", "right")
def _(folder: Path) -> Volume:
    def narrow(dataset: Dataset) -> None:
        values = made.stored_values(dataset) - 2048.0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.RescaleSlope, dataset.RescaleIntercept = "8", "-1000"
        dataset.PixelData = np.rint((values + 1000) / 8).astype(np.uint8).tobytes()
        dataset["PixelData"].VR = "OB"

    volume = made.placed_volume()
    coarse = np.rint((volume.array.astype(float) + 1000) / 8) * 8 - 1000
    saved(folder, volume, each(narrow))
    return volume.replace(array=coarse.astype(np.int16))


@case("32 bits", "right")
def _(folder: Path) -> Volume:
    def widen(dataset: Dataset) -> None:
        dataset.PixelData = (made.stored_values(dataset).astype(np.uint32) + 100_000).tobytes()
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 32, 31
        dataset.RescaleIntercept = -102_048

    return saved(folder, made.placed_volume(), each(widen))


@case("12 signed bits in the upper part of the word", "right")
def _(folder: Path) -> Volume:
    def shift(dataset: Dataset) -> None:
        values = made.stored_values(dataset).astype(np.int32) - 2048
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation, dataset.RescaleIntercept = 12, 13, 1, 0
        dataset.PixelData = ((values & 0xFFF) << 2 | 3 | 0x8000).astype(np.uint16).tobytes()

    return saved(folder, made.placed_volume(), each(shift))


@case("fractional slope", "right")
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume(), each(lambda dataset: made.rescaled(dataset, 0.0625, -1500.0)))


@case("values beyond int16", "right")
def _(folder: Path) -> Volume:
    volume = made.placed_volume()
    saved(folder, volume, set_values(RescaleSlope=50, RescaleIntercept=-102_400))
    return volume.replace(array=volume.array.astype(np.int32) * 50)


@case("a copy of every file in a folder below", "right")
def _(folder: Path) -> Volume:
    volume = saved(folder, made.placed_volume())
    shutil.copytree(folder, folder.parent / "copy")
    shutil.move(folder.parent / "copy", folder / "copy")
    return volume


@case("a report, a state and a colour page beside", "right")
def _(folder: Path) -> Volume:
    volume = saved(folder, made.placed_volume())
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["report"])
    report.Modality, report.SeriesInstanceUID = "SR", generate_uid(entropy_srcs=["reports"])
    page = made.slices_of(volume, seed="page")[0]
    page.SOPClassUID = page.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    page.SamplesPerPixel, page.PhotometricInterpretation, page.PlanarConfiguration = 3, "RGB", 0
    page.PixelData = page.PixelData[: page.Rows * page.Columns] * 3
    page.BitsAllocated, page.BitsStored, page.HighBit = 8, 8, 7
    grey = made.slices_of(volume, seed="grey")[0]
    grey.SOPClassUID = grey.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    del grey.ImagePositionPatient, grey.ImageOrientationPatient
    made.save([report, page, grey], folder / "extra")
    return volume


@case("a vendor's private object beside", "right")
def _(folder: Path) -> Volume:
    volume = saved(folder, made.placed_volume())
    private = Dataset()
    private.file_meta = FileMetaDataset()
    # Siemens' CSA Non-Image Storage
    private.SOPClassUID = private.file_meta.MediaStorageSOPClassUID = "1.3.12.2.1107.5.9.1"
    private.SOPInstanceUID = private.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["private"])
    private.SeriesInstanceUID = made.slices_of(volume)[0].SeriesInstanceUID
    made.save([private], folder / "extra")
    return volume


@case("enhanced, rescale per frame", "right")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    dataset = made.enhanced_of(volume)
    coded = []
    for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        slope, intercept = 0.25 + 0.125 * k, -1000.0 - k
        rescale = group.PixelValueTransformationSequence[0]
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, intercept
        coded.append(np.rint((volume.array[:, :, k].T - intercept) / slope).astype("<u2").tobytes())
    dataset.PixelData = b"".join(coded)
    made.save([dataset], folder)
    return volume


@case("enhanced, all geometry per frame", "right")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="CT")
    dataset = made.enhanced_of(volume)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence = shared.PixelMeasuresSequence
        group.PlaneOrientationSequence = shared.PlaneOrientationSequence
    del dataset.SharedFunctionalGroupsSequence
    made.save([dataset], folder)
    return volume


@case("enhanced, RLE", "right")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    dataset = made.enhanced_of(volume)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.compress(RLELossless)
    made.save([dataset], folder, syntax=RLELossless)
    return volume


@case("enhanced, JPEG 2000", "right")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    made.save([made.enhanced_of(volume)], folder)
    recoded(folder, "JPEG2000Lossless")
    return volume


@case("legacy converted, one file a half", "right")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    halves = []
    for number, order in enumerate((range(5), range(5, 10))):
        dataset = made.enhanced_of(volume)
        made.reorder_frames(dataset, order)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = LegacyConvertedEnhancedMRImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        halves.append(dataset)
    made.save(halves, folder)
    return volume


ALL_CASES = (*CASES, *FILE_CASES, *OWN_CASES, *OPTION_CASES, *REFUSED_CASES)
