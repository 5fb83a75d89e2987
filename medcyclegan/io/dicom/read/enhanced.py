"""Enhanced multi-frame CT, MR and PET, converted ones too: the functional groups of every frame (PS3.3 C.7.6.16)."""

from __future__ import annotations

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from medcyclegan.errors import ReadError
from medcyclegan.io.dicom.read.frames import Frame, Image, positive, rescale
from medcyclegan.io.dicom.values import items, text, vector

__all__ = ["enhanced_frames", "is_multi_frame"]

#: Attributes with another name than in classic objects; each occurs in one functional group only.
_ENHANCED_NAME = {
    "EchoTime": "EffectiveEchoTime",
    "TemporalPositionIdentifier": "TemporalPositionIndex",
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "AcquisitionTime": "FrameAcquisitionDateTime",
    "ContentTime": "FrameReferenceDateTime",
    "TriggerTime": "NominalCardiacTriggerDelayTime",
    "InversionTime": "InversionTimes",
    "ImageType": "FrameType",
}
#: Groups that describe other images than this frame.
_UNRELATED = ("DerivationImageSequence", "ReferencedImageSequence", "ConversionSourceAttributesSequence")


def is_multi_frame(dataset: Dataset) -> bool:
    """Whether the image keeps its geometry in functional groups, frame by frame."""
    return "PerFrameFunctionalGroupsSequence" in dataset or "SharedFunctionalGroupsSequence" in dataset


def enhanced_frames(dataset: Dataset, image: Image, keywords: tuple[str, ...]) -> list[Frame]:
    """Return the frames of an enhanced image. Raises :class:`~medcyclegan.errors.ReadError`."""
    shared = items(dataset, "SharedFunctionalGroupsSequence")[:1]
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(groups) != image.number_of_frames:
        raise ReadError(
            f"{image.number_of_frames} frames but functional groups for {len(groups)}",
            remedy="the header is damaged, export the series again",
        )
    wanted: dict[str, tuple[str, str]] = {
        keyword: (_ENHANCED_NAME.get(keyword, keyword), keyword) for keyword in keywords
    }
    wanted |= {keyword: (keyword, keyword) for keyword in ("StackID", "DimensionIndexValues")}
    names = {name for pair in wanted.values() for name in pair}
    common = {name: value for name in names if (value := text(dataset, name))}
    for group in shared:
        common |= _texts_below(group, names)
    frames = []
    for index, group in enumerate(groups):
        found = common | _texts_below(group, names)
        attributes = {keyword: found.get(first) or found.get(second, "") for keyword, (first, second) in wanted.items()}
        for number, value in enumerate(attributes.pop("DimensionIndexValues", "").split("\\"), start=1):
            attributes[f"Dimension {number}"] = value
        frames.append(_frame(dataset, image, index, [group, *shared], {k: v for k, v in attributes.items() if v}))
    return frames


def _frame(dataset: Dataset, image: Image, index: int, groups: list[Dataset], attributes: dict[str, str]) -> Frame:
    measures = _macro(groups, "PixelMeasuresSequence")
    transformation = _macro(groups, "PixelValueTransformationSequence")
    slope, intercept = rescale(transformation if transformation is not None else dataset)
    position, orientation = _macro(groups, "PlanePositionSequence"), _macro(groups, "PlaneOrientationSequence")
    return Frame(
        image=image,
        index=index,
        position=() if position is None else vector(position, "ImagePositionPatient", 3),
        orientation=() if orientation is None else vector(orientation, "ImageOrientationPatient", 6),
        pixel_spacing=() if measures is None else vector(measures, "PixelSpacing", 2),
        slice_spacing=None if measures is None else positive(measures, "SpacingBetweenSlices"),
        slice_thickness=None if measures is None else positive(measures, "SliceThickness"),
        slope=slope,
        intercept=intercept,
        attributes=attributes,
    )


def _macro(groups: list[Dataset], keyword: str) -> Dataset | None:
    """Return the first item of a functional group, the frame's own before the shared one."""
    for group in groups:
        found = items(group, keyword)
        if found:
            return found[0]
    return None


def _texts_below(group: Dataset, names: set[str], depth: int = 2) -> dict[str, str]:
    """Return the texts of ``names`` in a group's public sequences; the standard's attributes are two levels deep."""
    found = {}
    for tag in group.keys():  # noqa: SIM118 - iterating a pydicom data set itself converts every value
        keyword = "" if tag.is_private else keyword_for_tag(tag)
        if keyword in names:
            found[keyword] = text(group, keyword)
        elif depth and keyword.endswith("Sequence") and keyword not in _UNRELATED:
            for item in items(group, keyword):
                found = _texts_below(item, names, depth - 1) | found
    return {name: value for name, value in found.items() if value}
