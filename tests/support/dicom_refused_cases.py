"""Folders of synthetic DICOM that must be refused, with or without an option that accepts them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    MRImageStorage,
    SegmentationStorage,
    generate_uid,
)
from support import dicom_phantoms as made
from support import phantoms
from support.dicom_cases import Case, collector, saved
from support.dicom_changes import Change, delete, set_values
from support.dicom_file_cases import recoded

from medcyclegan.volume import Volume

REFUSED_CASES: list[Case] = []
case = collector(REFUSED_CASES)


def _simple(called: str, allowed: str, change: Change, options: dict[str, Any] | None = None, **how: Any) -> None:
    """Register a case that is one change to the slices of the ordinary volume."""

    @case(called, allowed, options)
    def _(folder: Path) -> Volume:
        return saved(folder, made.placed_volume(), change, **how)


_simple("one slice with another RescaleIntercept", "refused", set_values(4, RescaleIntercept=0))
_simple("one slice with another RescaleSlope", "refused", set_values(4, RescaleSlope=2))
_simple(
    "one slice without rescale",
    "refused",
    lambda slices: delete(4, "RescaleSlope")(slices) or delete(4, "RescaleIntercept")(slices),
)
_simple("half the slices with another rescale", "refused", lambda slices: set_values(RescaleIntercept=0)(slices[:5]))
_simple("one slice without a position", "refused", delete(4, "ImagePositionPatient"))
_simple("no position at all", "refused", delete(None, "ImagePositionPatient"))
_simple("no orientation at all", "refused", delete(None, "ImageOrientationPatient"))
_simple("no pixel spacing", "refused", delete(None, "PixelSpacing"))
_simple("one slice with another orientation", "refused", set_values(4, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
_simple("one slice with another pixel spacing", "refused", set_values(4, PixelSpacing=["1.0", "1.0"]))
_simple("one slice off the line", "refused", set_values(4, ImagePositionPatient=["-5.4", "-9.7", "-1.25"]))
_simple("one slice of another modality", "refused", set_values(4, Modality="OT"))
_simple("one slice of another class", "refused", set_values(4, SOPClassUID=MRImageStorage, Modality="MR"))
_simple("one slice MONOCHROME1", "refused", set_values(4, PhotometricInterpretation="MONOCHROME1"))
_simple("one slice signed", "refused", set_values(4, PixelRepresentation=1))
_simple("one slice of 12 bits", "refused", set_values(4, BitsStored=12, HighBit=11))
_simple("another patient's slice", "refused", set_values(4, PatientID="P-other"))
_simple("another frame of reference", "refused", set_values(4, FrameOfReferenceUID="1.2.3"))
_simple("one slice with another echo time", "refused", set_values(4, EchoTime=80))
_simple("one slice of another image type", "refused", set_values(4, ImageType=["DERIVED", "SECONDARY", "MPR"]))
_simple("colour", "refused", set_values(PhotometricInterpretation="RGB", SamplesPerPixel=3))
_simple("a palette", "refused", set_values(PhotometricInterpretation="PALETTE COLOR"))
_simple("RescaleSlope 0", "refused", set_values(RescaleSlope=0))
_simple("Modality LUT", "refused", set_values(ModalityLUTSequence=Items([Dataset()])))
_simple("rows that do not fit the pixels", "refused", set_values(Rows=7))
_simple("columns 0", "refused", set_values(Columns=0))
_simple("more frames than pixels", "refused", set_values(NumberOfFrames=3))
_simple("orientation not of unit length", "refused", set_values(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]))
_simple("orientation not perpendicular", "refused", set_values(ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0]))
_simple("negative pixel spacing", "refused", set_values(PixelSpacing=["-1.1", "0.9"]))
_simple("no pixel data in one slice", "refused", delete(4, "PixelData"))
_simple("CT class, MR modality", "refused", set_values(Modality="MR"))


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
    return saved(folder, volume, set_values(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]))


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
