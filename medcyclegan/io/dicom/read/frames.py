"""Frames: the 2-D images of a DICOM series, each of which is a file, a frame of a file or a tile of a frame.

Grouping, geometry and pixel reading work on frames alone, so classic, enhanced and mosaic images share their checks.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from pydicom.dataset import Dataset

from medcyclegan.errors import IntensityError, ReadError
from medcyclegan.io.dicom.read.headers import DicomFile
from medcyclegan.io.dicom.values import integer, numbers, text, texts, vector

__all__ = [
    "SPLIT_KEYWORDS",
    "Frame",
    "Image",
    "PixelFormat",
    "classic_frame",
    "image_from_header",
    "positive",
    "rescale",
]

#: Keywords that may distinguish the volumes of one series, in the order in which they are tried.
SPLIT_KEYWORDS = (
    "EchoTime",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "TriggerTime",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "ImageType",
    "ComplexImageComponent",
    "InversionTime",
    "FlipAngle",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "AcquisitionTime",
    "ContentTime",
)
#: No scanner's units need more than this, and float32 could not represent it.
_MOST_RESCALE = 1e12
#: Modality (0008,0060) of the SOP classes that determine it.
_CLASS_MODALITY = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.128.1": "PT",
    "1.2.840.10008.5.1.4.1.1.130": "PT",
}
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = (
    "PALETTE COLOR",
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_420",
    "YBR_PARTIAL_422",
    "YBR_ICT",
    "YBR_RCT",
    "XYB",
)
#: SOP classes with pixel data that are not images of a patient.
_NO_SCANS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose distribution",
}


@dataclasses.dataclass(frozen=True, slots=True)
class PixelFormat:
    """How stored values are coded (PS3.5 section 8); the same for every frame of a volume."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """One DICOM image file: the attributes that its frames share. ``dataset`` is set only if headers are kept.

    ``has_text`` is BurnedInAnnotation (0028,0301): text in the pixels may name the patient. ``is_synthetic`` is
    SyntheticData (0008,001C): computed, not acquired.
    """

    path: Path
    series_uid: str
    instance_uid: str
    sop_class: str
    modality: str
    patient_id: str
    frame_of_reference: str
    series_number: str
    description: str
    image_type: tuple[str, ...]
    instance_number: int | None
    number_of_frames: int
    has_text: bool
    is_synthetic: bool
    pixel_format: PixelFormat
    transfer_syntax: str
    pixel_offset: int
    pixel_length: int | None
    dataset: Dataset | None

    @property
    def is_localizer(self) -> bool:
        """Whether ImageType calls this a localizer or scout."""
        return "LOCALIZER" in self.image_type or "SCOUT" in self.image_type

    @property
    def is_scan(self) -> bool:
        """Whether the SOP class is a scanner's own: CT, MR or PET, classic or enhanced."""
        return self.sop_class in _CLASS_MODALITY


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One 2-D image in the patient, its geometry in DICOM's LPS+ millimeters.

    ``index``
        The frame's number within its file, 0-based.
    ``tile``
        ``(first row, first column, rows, columns)`` of a tile of a mosaic; None for a whole frame.
    ``position``, ``orientation``
        ImagePositionPatient, ImageOrientationPatient: empty if the header has none.
    ``pixel_spacing``
        Between rows, between columns (PixelSpacing's order), in mm; empty if the header has none.
    ``attributes``
        Values that may distinguish volumes, by keyword.
    """

    image: Image
    index: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    slice_spacing: float | None
    slice_thickness: float | None
    slope: float
    intercept: float
    attributes: dict[str, str]
    tile: tuple[int, int, int, int] | None = None

    @property
    def rows(self) -> int:
        """The rows of the frame, or of its tile."""
        return self.tile[2] if self.tile else self.image.pixel_format.rows

    @property
    def columns(self) -> int:
        """The columns of the frame, or of its tile."""
        return self.tile[3] if self.tile else self.image.pixel_format.columns


def image_from_header(file: DicomFile, *, keep_dataset: bool) -> Image:
    """Return the attributes of a parsed header that all its frames share.

    Raises :class:`~medcyclegan.errors.ReadError` for missing or contradictory attributes,
    :class:`~medcyclegan.errors.IntensityError` for color and for images that are not scans.
    """
    dataset = file.dataset
    sop_class = text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID")
    if sop_class in _NO_SCANS:
        raise IntensityError(f"{_NO_SCANS[sop_class]}, not a scan", remedy="name the series that it was made from")
    modality = text(dataset, "Modality") or _CLASS_MODALITY.get(sop_class, "")
    if _CLASS_MODALITY.get(sop_class, modality) != modality:
        raise ReadError(
            f"Modality {modality!r} contradicts the SOP class, which is for {_CLASS_MODALITY[sop_class]}",
            remedy="the header is damaged, export the series again",
        )
    return Image(
        path=file.path,
        series_uid=text(dataset, "SeriesInstanceUID"),
        instance_uid=text(dataset, "SOPInstanceUID"),
        sop_class=sop_class,
        modality=modality,
        patient_id=text(dataset, "PatientID"),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        series_number=text(dataset, "SeriesNumber"),
        description=text(dataset, "SeriesDescription"),
        image_type=texts(dataset, "ImageType"),
        instance_number=_whole(text(dataset, "InstanceNumber")),
        number_of_frames=integer(dataset, "NumberOfFrames") or 1,
        is_synthetic=text(dataset, "SyntheticData").upper() == "YES",
        has_text=text(dataset, "BurnedInAnnotation").upper() == "YES",
        pixel_format=_pixel_format(dataset),
        transfer_syntax=file.transfer_syntax,
        pixel_offset=file.pixel_offset,
        pixel_length=file.pixel_length,
        dataset=dataset if keep_dataset else None,
    )


def classic_frame(file: DicomFile, image: Image, keywords: tuple[str, ...]) -> Frame:
    """Return the one frame of a classic single-frame image. Raises :class:`~medcyclegan.errors.ReadError`."""
    dataset = file.dataset
    slope, intercept = rescale(dataset)
    return Frame(
        image=image,
        index=0,
        position=vector(dataset, "ImagePositionPatient", 3),
        orientation=vector(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=vector(dataset, "PixelSpacing", 2),
        slice_spacing=positive(dataset, "SpacingBetweenSlices"),
        slice_thickness=positive(dataset, "SliceThickness"),
        slope=slope,
        intercept=intercept,
        attributes={keyword: found for keyword in keywords if (found := text(dataset, keyword))},
    )


def rescale(dataset: Dataset) -> tuple[float, float]:
    """Return RescaleSlope and RescaleIntercept, 1 and 0 if both are absent.

    Raises :class:`~medcyclegan.errors.ReadError` for a slope of 0 and for one without the other,
    :class:`~medcyclegan.errors.IntensityError` for a lookup table in their place.
    """
    if "ModalityLUTSequence" in dataset:
        raise IntensityError(
            "stored values map to units by a Modality LUT, which this program does not apply",
            remedy="convert the series first, for example with dcm2niix",
        )
    slope, intercept = vector(dataset, "RescaleSlope", 1), vector(dataset, "RescaleIntercept", 1)
    if bool(slope) != bool(intercept):
        raise ReadError(
            "only one of RescaleSlope and RescaleIntercept is present",
            remedy="the header is damaged, export the series again",
        )
    if not slope:
        return 1.0, 0.0
    if slope[0] == 0 or max(abs(slope[0]), abs(intercept[0])) > _MOST_RESCALE:
        raise ReadError(
            f"RescaleSlope {slope[0]:g} and RescaleIntercept {intercept[0]:g} are not a valid scaling",
            remedy="export the series again",
        )
    return slope[0], intercept[0]


def positive(dataset: Dataset, keyword: str) -> float | None:
    """Return the number of ``keyword`` if there is exactly one and it is positive."""
    found = numbers(dataset, keyword)
    return found[0] if len(found) == 1 and found[0] > 0 else None


def _pixel_format(dataset: Dataset) -> PixelFormat:
    names = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
    found: dict[str, int] = {}
    for name in names:
        value = integer(dataset, name)
        if value is None:
            raise ReadError(f"{name} is absent", remedy="the header is damaged, export the series again")
        found[name] = value
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric not in (*_GREY, *_COLOUR):
        raise ReadError(
            f"PhotometricInterpretation is {photometric!r}", remedy="the header is damaged, export the series again"
        )
    if found["SamplesPerPixel"] != 1 or photometric in _COLOUR:
        raise IntensityError(
            f"{photometric}, {found['SamplesPerPixel']} sample(s) a pixel",
            remedy=("a volume needs one grey value a voxel; convert colour first, for example with dcm2niix"),
        )
    allocated, stored, high = found["BitsAllocated"], found["BitsStored"], found["HighBit"]
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise ReadError(
            f"{stored} bits stored up to bit {high} of {allocated} allocated",
            remedy=("not a coding that DICOM allows, export the series again"),
        )
    if found["Rows"] < 1 or found["Columns"] < 1 or found["PixelRepresentation"] not in (0, 1):
        raise ReadError(
            f"{found['Rows']} rows, {found['Columns']} columns, PixelRepresentation {found['PixelRepresentation']}",
            remedy="the header is damaged, export the series again",
        )
    return PixelFormat(
        found["Rows"], found["Columns"], allocated, stored, high, found["PixelRepresentation"] == 1, photometric
    )


def _whole(number: str) -> int | None:
    return int(number) if re.fullmatch(r"[+-]?[0-9]{1,12}", number) else None
