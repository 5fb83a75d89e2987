"""Check that images form one volume; each error names the keyword or the option that helps."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from medcyclegan.errors import AmbiguousError, GeometryError, ReadError
from medcyclegan.io.dicom.geometry import same_orientation
from medcyclegan.io.dicom.read.frames import Frame
from medcyclegan.io.notes import Notes

__all__ = ["check_alike", "check_one_volume", "check_placed", "check_rescale", "check_sequence"]

#: The number of values that a refusal lists.
_LISTED = 8
#: One volume has one value of these; a scanner's own variations of others (such as FlipAngle) are common.
_SAME_IN_ONE_VOLUME = (
    "EchoTime",
    "InversionTime",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "ConvolutionKernel",
    "ComplexImageComponent",
    "ImageType",
)


def check_placed(frames: Sequence[Frame]) -> None:
    """Refuse images without a position."""
    for keyword, lacking in (
        ("ImagePositionPatient", [frame for frame in frames if not frame.position]),
        ("ImageOrientationPatient", [frame for frame in frames if not frame.orientation]),
        ("PixelSpacing", [frame for frame in frames if not frame.pixel_spacing]),
    ):
        if lacking:
            raise GeometryError(
                f"{len(lacking)} of {len(frames)} images have no {keyword}, so their position is unknown",
                remedy="export the original series again",
            )


def check_alike(frames: Sequence[Frame], notes: Notes) -> None:
    """Refuse images that cannot belong to one volume, naming the keyword that separates them."""
    first = frames[0]
    traits: tuple[tuple[str, Callable[[Frame], Hashable]], ...] = (
        ("PatientID", lambda frame: frame.image.patient_id),
        ("SOPClassUID", lambda frame: frame.image.sop_class),
        ("Modality", lambda frame: frame.image.modality),
        ("Rows", lambda frame: frame.rows),
        ("Columns", lambda frame: frame.columns),
        ("BitsAllocated", lambda frame: frame.image.pixel_format.bits_allocated),
        ("BitsStored", lambda frame: frame.image.pixel_format.bits_stored),
        ("HighBit", lambda frame: frame.image.pixel_format.high_bit),
        ("PixelRepresentation", lambda frame: int(frame.image.pixel_format.signed)),
        ("PhotometricInterpretation", lambda frame: frame.image.pixel_format.photometric),
        ("FrameOfReferenceUID", lambda frame: frame.image.frame_of_reference),
        ("ImageOrientationPatient", lambda frame: same_orientation(frame.orientation, first.orientation)),
        ("PixelSpacing", lambda frame: bool(np.allclose(frame.pixel_spacing, first.pixel_spacing, rtol=1e-4, atol=0))),
    )
    for keyword, trait in traits:
        counts = Counter(trait(frame) for frame in frames)
        if keyword == "FrameOfReferenceUID":
            del counts[""]
        if len(counts) > 1:
            fewest = min(counts.values())
            raise AmbiguousError(
                f"{keyword} is not the same in all {len(frames)} images ({fewest} differ(s)), so they are not one "
                "volume",
                remedy=f"export the series alone, or pass --split-by {keyword} and --volume N",
                options={"split_by": keyword, "volume": 0},
            )
    if not any(frame.image.frame_of_reference for frame in frames):
        notes.info("no FrameOfReferenceUID: its images are taken to share one")


def check_one_volume(frames: Sequence[Frame]) -> None:
    """Refuse images at different positions whose acquisitions differ so much that they belong to several volumes."""
    for keyword in _SAME_IN_ONE_VOLUME:
        values = sorted({_first_three(frame, keyword) for frame in frames})
        if len(values) > 1 and not _nearly_equal(values):
            shown = ", ".join(value or "absent" for value in values[:_LISTED])
            raise AmbiguousError(
                f"{keyword} differs between images at different positions ({shown}), so they are not one volume",
                remedy=f"pass --split-by {keyword} and --volume N",
                options={"split_by": keyword, "volume": 0},
            )


def _first_three(frame: Frame, keyword: str) -> str:
    """Return an attribute; of ImageType only the first three values, which the standard defines for all modalities."""
    value = frame.attributes.get(keyword, "")
    return "\\".join(value.split("\\")[:3]) if keyword == "ImageType" else value


def _nearly_equal(values: list[str]) -> bool:
    try:
        found = [float(value) for value in values]
    except ValueError:
        return False
    return max(found) - min(found) <= 0.01 * max(abs(number) for number in found)


def check_sequence(ordered: Sequence[Frame]) -> None:
    """Refuse a CT whose acquisitions take turns along the stack: two phases half a slice apart look like one stack."""
    numbers = [frame.attributes.get("AcquisitionNumber", "") for frame in ordered]
    counts = Counter(numbers)
    turns = 1 + sum(before != after for before, after in itertools.pairwise(numbers))
    several = len(counts) > 1 and min(counts.values()) > 1
    if ordered[0].image.modality == "CT" and several and turns >= 2 * len(counts):
        raise AmbiguousError(
            f"slices of {len(counts)} acquisitions take turns along the stack, so they are not one volume",
            remedy="pass --split-by AcquisitionNumber and --volume N",
            options={"split_by": "AcquisitionNumber", "volume": 0},
        )


def check_rescale(frames: Sequence[Frame], notes: Notes) -> None:
    """Refuse a rescale that a few slices do not share with the rest: the series is damaged or mixed."""
    counts = Counter((frame.slope, frame.intercept) for frame in frames)
    if len(counts) == 1:
        return
    (slope, intercept), shared = counts.most_common(1)[0]
    others = len(frames) - shared
    is_ct = frames[0].image.modality == "CT"
    if (is_ct and 2 * shared >= len(frames)) or (others == 1 and shared > 1):
        raise ReadError(
            f"{others} of {len(frames)} slices have another RescaleSlope or RescaleIntercept than the rest "
            f"({slope:g}, {intercept:g}), so the series is damaged or mixed",
            remedy="export it again",
        )
    slopes = [frame.slope for frame in frames]
    notes.warn(
        f"RescaleSlope or RescaleIntercept varies (slope {min(slopes):g} to {max(slopes):g}): each slice has its own"
    )
