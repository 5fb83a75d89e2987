"""More synthetic folders, in addition to the 33 of :mod:`support.dicom_cases`; ``ALL_CASES`` are both."""

from __future__ import annotations

import itertools
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)
from support import dicom_phantoms as made
from support import phantoms
from support.dicom_cases import CASES, Case, collector, recoded, saved, two

from medcyclegan.volume import Volume

Change = Callable[[list[Dataset]], Any]

OWN_CASES: list[Case] = []
case = collector(OWN_CASES)


def _each(change: Callable[[Dataset], Any]) -> Change:
    def all_of_them(slices: list[Dataset]) -> None:
        for dataset in slices:
            change(dataset)

    return all_of_them


def _set(number: int | None = None, /, **values: Any) -> Change:
    """Set elements in one slice, or in all."""

    def change(slices: list[Dataset]) -> None:
        for dataset in slices if number is None else [slices[number]]:
            for keyword, value in values.items():
                setattr(dataset, keyword, value)

    return change


def _simple(called: str, allowed: str, change: Change, options: dict[str, Any] | None = None, **how: Any) -> None:
    """Register a case that is one change to the slices of the ordinary volume."""

    @case(called, allowed, options)
    def _(folder: Path) -> Volume:
        return saved(folder, made.placed_volume(), change, **how)


def _delete(number: int | None, keyword: str) -> Change:
    def change(slices: list[Dataset]) -> None:
        for dataset in slices if number is None else [slices[number]]:
            del dataset[keyword]

    return change


# -- what must be right -----------------------------------------------------------------------------------------------

_simple("implicit VR", "right", lambda slices: None, syntax=ImplicitVRLittleEndian)
_simple("deflated", "right", lambda slices: None, syntax=DeflatedExplicitVRLittleEndian)
_simple("no suffix, names of many kinds", "right", lambda slices: None, name=lambda number: f"{number * 7919 % 97}")
_simple("files spread over folders", "right", lambda slices: None, name=lambda number: f"D{number % 3}/IM{number}")
_simple("no modality, the SOP class says it", "right", _delete(None, "Modality"))
_simple("one SOPInstanceUID for all", "right", _set(SOPInstanceUID="1.2.3"))
_simple("no patient, no study", "right", _each(lambda dataset: [dataset.pop(k) for k in ("PatientID", "PatientName")]))
_simple("padding value", "right", _set(PixelPaddingValue=0))
_simple("presentation LUT shape INVERSE", "right", _set(PresentationLUTShape="INVERSE"))
_simple("window and real-world map are not applied", "right", _set(WindowCenter=40, WindowWidth=400))
_simple(
    "text that is no text",
    "right",
    _each(lambda dataset: dataset.add_new("SeriesDescription", "LO", "\x1b[31m\r\nred")),
)
_simple(
    "a private element of 100 kB", "right", _each(lambda dataset: dataset.add_new(0x00091001, "OB", bytes(100_000)))
)
_simple("a longer ImageType in some slices", "right", _set(2, ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "ADD"]))
_simple("varying slice thickness", "right", _set(2, SliceThickness="7.0"))


@case("left and right, top and bottom turned", "right")
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume(affine=phantoms.make_affine("RPI", (0.9, 1.1, 2.5), origin=(-5, 7, 11))))


@case("coronal, feet first", "right")
def _(folder: Path) -> Volume:
    affine = phantoms.make_affine("RIP", (0.8, 0.7, 3.0), origin=(-6.0, 8.0, 5.0))
    return saved(folder, made.placed_volume((14, 10, 9), affine), _set(PatientPosition="FFP"))


@case("decubitus, oblique", "right")
def _(folder: Path) -> Volume:
    affine = phantoms.make_affine("PRS", (0.8, 0.7, 3.0), origin=(-6.0, 8.0, -9.0), rotation_degrees=(5, 8, -3))
    return saved(folder, made.placed_volume((14, 10, 9), affine), _set(PatientPosition="HFDR"))


@case("one slice", "right")
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume((12, 14, 1)))


@case("big endian", "right")
def _(folder: Path) -> Volume:
    def swap(dataset: Dataset) -> None:
        dataset.PixelData = made.stored_values(dataset).byteswap().tobytes()
        dataset["PixelData"].VR = "OW"

    return saved(folder, made.placed_volume(), _each(swap), syntax=ExplicitVRBigEndian)


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
    saved(folder, volume, _each(narrow))
    return volume.replace(array=coarse.astype(np.int16))


@case("32 bits", "right")
def _(folder: Path) -> Volume:
    def widen(dataset: Dataset) -> None:
        dataset.PixelData = (made.stored_values(dataset).astype(np.uint32) + 100_000).tobytes()
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 32, 31
        dataset.RescaleIntercept = -102_048

    return saved(folder, made.placed_volume(), _each(widen))


@case("12 signed bits in the upper part of the word", "right")
def _(folder: Path) -> Volume:
    def shift(dataset: Dataset) -> None:
        values = made.stored_values(dataset).astype(np.int32) - 2048
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation, dataset.RescaleIntercept = 12, 13, 1, 0
        dataset.PixelData = ((values & 0xFFF) << 2 | 3 | 0x8000).astype(np.uint16).tobytes()

    return saved(folder, made.placed_volume(), _each(shift))


@case("fractional slope", "right")
def _(folder: Path) -> Volume:
    return saved(folder, made.placed_volume(), _each(lambda dataset: made.rescaled(dataset, 0.0625, -1500.0)))


@case("values beyond int16", "right")
def _(folder: Path) -> Volume:
    volume = made.placed_volume()
    saved(folder, volume, _set(RescaleSlope=50, RescaleIntercept=-102_400))
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


# -- what an option makes right ---------------------------------------------------------------------------------------


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


# -- what must be refused ---------------------------------------------------------------------------------------------

_simple("one slice with another RescaleIntercept", "refused", _set(4, RescaleIntercept=0))
_simple("one slice with another RescaleSlope", "refused", _set(4, RescaleSlope=2))
_simple(
    "one slice without rescale",
    "refused",
    lambda slices: _delete(4, "RescaleSlope")(slices) or _delete(4, "RescaleIntercept")(slices),
)
_simple("half the slices with another rescale", "refused", lambda slices: _set(RescaleIntercept=0)(slices[:5]))
_simple("one slice without a position", "refused", _delete(4, "ImagePositionPatient"))
_simple("no position at all", "refused", _delete(None, "ImagePositionPatient"))
_simple("no orientation at all", "refused", _delete(None, "ImageOrientationPatient"))
_simple("no pixel spacing", "refused", _delete(None, "PixelSpacing"))
_simple("one slice with another orientation", "refused", _set(4, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
_simple("one slice with another pixel spacing", "refused", _set(4, PixelSpacing=["1.0", "1.0"]))
_simple("one slice off the line", "refused", _set(4, ImagePositionPatient=["-5.4", "-9.7", "-1.25"]))
_simple("one slice of another modality", "refused", _set(4, Modality="OT"))
_simple("one slice of another class", "refused", _set(4, SOPClassUID=MRImageStorage, Modality="MR"))
_simple("one slice MONOCHROME1", "refused", _set(4, PhotometricInterpretation="MONOCHROME1"))
_simple("one slice signed", "refused", _set(4, PixelRepresentation=1))
_simple("one slice of 12 bits", "refused", _set(4, BitsStored=12, HighBit=11))
_simple("another patient's slice", "refused", _set(4, PatientID="P-other"))
_simple("another frame of reference", "refused", _set(4, FrameOfReferenceUID="1.2.3"))
_simple("one slice with another echo time", "refused", _set(4, EchoTime=80))
_simple("one slice of another image type", "refused", _set(4, ImageType=["DERIVED", "SECONDARY", "MPR"]))
_simple("colour", "refused", _set(PhotometricInterpretation="RGB", SamplesPerPixel=3))
_simple("a palette", "refused", _set(PhotometricInterpretation="PALETTE COLOR"))
_simple("RescaleSlope 0", "refused", _set(RescaleSlope=0))
_simple("Modality LUT", "refused", _set(ModalityLUTSequence=Items([Dataset()])))
_simple("rows that do not fit the pixels", "refused", _set(Rows=7))
_simple("columns 0", "refused", _set(Columns=0))
_simple("more frames than pixels", "refused", _set(NumberOfFrames=3))
_simple("orientation not of unit length", "refused", _set(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]))
_simple("orientation not perpendicular", "refused", _set(ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0]))
_simple("negative pixel spacing", "refused", _set(PixelSpacing=["-1.1", "0.9"]))
_simple("no pixel data in one slice", "refused", _delete(4, "PixelData"))
_simple("CT class, MR modality", "refused", _set(Modality="MR"))


def _bytes(name: str, change: Callable[[bytes], bytes], allowed: str = "refused", number: int = 5) -> None:
    """Register a case that changes the bytes of one file."""

    @case(name, allowed)
    def _(folder: Path) -> Volume:
        volume = saved(folder, made.placed_volume())
        path = folder / f"IM{number:04d}.dcm"
        path.write_bytes(change(path.read_bytes()))
        return volume


_bytes("the last slice without its preamble", lambda data: data[132:], number=10)
_bytes("the last slice without DICM", lambda data: data[:128] + b"XXXX" + data[132:], number=10)
_bytes("nothing behind DICM", lambda data: data[:132], number=10)
_bytes("an unknown transfer syntax", lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.1\0"))
_bytes(
    "a compressed syntax over plain pixels",
    lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"),
)
_bytes("a position that is no number", lambda data: data.replace(b"-5.4000000000", b"-5.40000000xx"))
_bytes("a position of nan", lambda data: data.replace(b"-5.4000000000", b"nan          "))
_bytes("a decimal comma", lambda data: data.replace(b"-5.4000000000", b"-5,4000000000"))
_bytes("pixel data of another length", lambda data: data.replace(struct.pack("<L", 336), struct.pack("<L", 334)))


@case("compressed pixels cut short", "refused")
def _(folder: Path) -> Volume:
    volume = saved(folder, made.placed_volume())
    recoded(folder, "JPEG2000Lossless")
    path = folder / "IM0005.dcm"
    path.write_bytes(path.read_bytes()[:-60])
    return volume


@case("a compressed frame without its end", "refused")
def _(folder: Path) -> Volume:
    volume = saved(folder, made.placed_volume())
    recoded(folder, "JPEG2000Lossless")
    path = folder / "IM0005.dcm"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xff\xd9", b"\x00\x00"))
    return volume


@case("enhanced with a frame missing", "refused", {"allow_gap": True}, resampled=True)
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    dataset = made.enhanced_of(volume)
    made.reorder_frames(dataset, [0, 1, 2, 3, 5, 6, 7, 8, 9])
    made.save([dataset], folder)
    return volume


@case("enhanced with fewer groups than frames", "refused")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    dataset = made.enhanced_of(volume)
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    made.save([dataset], folder)
    return volume


@case("frames without functional groups", "refused")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    dataset = made.enhanced_of(volume)
    del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
    made.save([dataset], folder)
    return volume


@case("a mosaic without its private header", "refused")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    return saved(folder, volume, _set(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]))


@case("a segmentation alone", "refused")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    dataset = made.enhanced_of(volume)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    dataset.Modality = "SEG"
    made.save([dataset], folder)
    return volume


@case("only a localizer with three planes", "refused")
def _(folder: Path) -> Volume:
    planes = []
    for codes, number in zip(("LPS", "PIR", "LIP"), itertools.count(), strict=False):
        plane = made.slices_of(made.placed_volume((12, 14, 1), phantoms.make_affine(codes, origin=(5, 5, 5))))[0]
        plane.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        plane.SOPInstanceUID = plane.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[codes])
        plane.InstanceNumber = number + 1
        planes.append(plane)
    made.save(planes, folder)
    return made.placed_volume()


ALL_CASES = (*CASES, *OWN_CASES)
