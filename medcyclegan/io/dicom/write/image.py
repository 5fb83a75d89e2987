"""Build the attributes of a derived CT or MR image (PS3.3 A.3 and A.4): those of the series, and those of each slice.

Patient, study and frame of reference are the source's; series, equipment and dates are new; all are marked as
synthetic.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
from highdicom import ContributingEquipment
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, CTImageStorage, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

import medcyclegan
from medcyclegan.errors import ReadError, WriteError
from medcyclegan.io.dicom.read.enhanced import is_multi_frame
from medcyclegan.io.dicom.values import numbers
from medcyclegan.io.dicom.write.coding import PixelCoding, file_meta_of
from medcyclegan.io.dicom.write.copied import PATIENT_AND_STUDY, Alphabet, copy_attributes, find_alphabet
from medcyclegan.io.dicom.write.origin import Origin, SourceImage
from medcyclegan.io.notes import Notes
from medcyclegan.volume import Volume

__all__ = ["build_image", "build_series"]

_MANUFACTURER = "medcyclegan (research software)"
_SOURCE_IMAGE = CodedConcept("121322", "DCM", "Source image for image processing operation")
#: Series level and image level attributes that are also valid for the output.
_KEPT = (
    "PositionReferenceIndicator",
    "PatientPosition",
    "AnatomicalOrientationType",
    "BodyPartExamined",
    "RecognizableVisualFeatures",
    "LongitudinalTemporalInformationModified",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions")
#: SeriesNumber of the output: the source's plus this.
_SERIES_NUMBER_AFTER = 9000
_LONGEST_LO = 64
#: Characters of a domain's name in SeriesDescription, which also contains the source's description.
_LONGEST_DOMAIN = 24


def build_series(volume: Volume, origin: Origin, coding: PixelCoding, notes: Notes) -> Dataset:
    """Return the attributes that all images of the output share, without pixels or position.

    Raises :class:`~medcyclegan.errors.WriteError` if the source's patient or study cannot be copied.
    """
    alphabet = find_alphabet(origin.header, PATIENT_AND_STUDY, notes)
    shared = copy_attributes(origin.header, PATIENT_AND_STUDY, alphabet, notes)
    if not shared.get("StudyInstanceUID"):
        raise WriteError(
            "the source has no StudyInstanceUID, so there is no study to add to",
            remedy="export it again, or write NIfTI",
        )
    shared.update(copy_attributes(origin.header, _KEPT, alphabet, notes))
    if alphabet.terms:
        shared.SpecificCharacterSet = list(alphabet.terms)
    if not shared.get("BodyPartExamined"):
        shared.pop("BodyPartExamined", None)
        shared.Laterality = ""
    entropy = _entropy(volume, origin)
    frame = copy_attributes(origin.header, ("FrameOfReferenceUID",), alphabet, notes).get("FrameOfReferenceUID")
    shared.FrameOfReferenceUID = frame if frame and origin.shares_frame else _frame_uid(origin, entropy)
    shared.SeriesInstanceUID = generate_uid(entropy_srcs=[*entropy, "series"])
    _add_series(shared, volume, origin, alphabet, notes)
    _add_equipment(shared, origin, alphabet)
    _add_derivation(shared, volume, origin, coding)
    _add_pixel_format(shared, volume, coding)
    _add_acquisition(shared, volume, origin)
    return shared


def build_image(
    shared: Dataset, volume: Volume, origin: Origin, k: int, stored: NDArray[np.int16] | NDArray[np.uint16]
) -> Dataset:
    """Return the image of slice ``k``; ``stored`` is ``(columns, rows)``, as the volume's array is."""
    image = Dataset()
    image.update(shared)
    image.SOPInstanceUID = generate_uid(entropy_srcs=[str(shared.SeriesInstanceUID), "slice", str(k)])
    image.InstanceNumber = k + 1
    image.ImagePositionPatient = _decimals(_position(volume, origin, k))
    sources = origin.images_of(volume, k)
    if sources:
        image.SourceImageSequence = [_reference(source, origin, purpose=True) for source in sources]
    if sources and UID(origin.series_uid).is_valid and origin.series_uid:
        series = Dataset()
        series.SeriesInstanceUID = origin.series_uid
        once = {source.instance_uid: source for source in sources}
        series.ReferencedInstanceSequence = [_reference(source, origin, purpose=False) for source in once.values()]
        image.ReferencedSeriesSequence = [series]
    image.add_new("PixelData", "OW", np.ascontiguousarray(stored.T).tobytes())
    image.file_meta = file_meta_of(image)
    return image


def _entropy(volume: Volume, origin: Origin) -> list[str]:
    """Return the identity of this derivation: the same source, model, version and settings give the same UIDs."""
    made = volume.derivation
    grid = [repr(volume.shape), repr(np.rint(volume.affine * 1e4).astype(int).tolist())]
    known = [origin.series_uid, *(f"{image.instance_uid}:{image.frame}" for image in origin.images), *grid]
    if made is None:
        return ["medcyclegan", medcyclegan.__version__, *known, volume.content_sha256()]
    by_content = origin.is_template or not origin.images or not origin.series_uid
    return [
        "medcyclegan",
        made.version,
        made.model_sha256,
        made.target_domain,
        str(volume.modality),
        *made.settings,
        *known,
        made.input_sha256 if by_content else "",
    ]


def _frame_uid(origin: Origin, entropy: Sequence[str]) -> str:
    """Make a frame of reference: one for all that is derived from a series without one, else one for this output."""
    sources = [origin.series_uid] if origin.shares_frame and origin.series_uid else entropy
    return str(generate_uid(entropy_srcs=["medcyclegan frame of reference", *sources]))


def _add_series(shared: Dataset, volume: Volume, origin: Origin, alphabet: Alphabet, notes: Notes) -> None:
    now = datetime.datetime.now().astimezone()
    shared.Modality = volume.modality
    shared.SOPClassUID = CTImageStorage if volume.modality == "CT" else MRImageStorage
    for keyword in ("InstanceCreation", "Series", "Content"):
        setattr(shared, f"{keyword}Date", now.strftime("%Y%m%d"))
        setattr(shared, f"{keyword}Time", now.strftime("%H%M%S"))
    found = copy_attributes(origin.header, ("SeriesDescription", "SeriesNumber"), alphabet, notes)
    description = str(found.get("SeriesDescription") or "")
    origin_name = description or (volume.derivation and volume.derivation.source_modality) or ""
    described = _title(volume) + (f" from {origin_name}" if origin_name else "")
    shared.SeriesDescription = described[:_LONGEST_LO].rstrip()
    number = int(found.get("SeriesNumber") or 0)
    shared.SeriesNumber = _SERIES_NUMBER_AFTER + (number if 0 <= number < 10**9 else 0)


def _title(volume: Volume) -> str:
    """Return the description of the series: ``SYNTHETIC MR t2``; the domain is left out if it repeats the modality."""
    made = volume.derivation
    domain = "" if made is None else _ascii(made.target_domain, _LONGEST_DOMAIN).strip()
    return f"SYNTHETIC {volume.modality}" + ("" if domain.upper() in ("", volume.modality) else f" {domain}")


def _add_equipment(shared: Dataset, origin: Origin, alphabet: Alphabet) -> None:
    version = medcyclegan.__version__
    shared.Manufacturer, shared.ManufacturerModelName = _MANUFACTURER, "medcyclegan"
    shared.SoftwareVersions = version
    contributions = [
        ContributingEquipment(
            _MANUFACTURER,
            codes.DCM.ProcessingEquipment,
            manufacturer_model_name="medcyclegan",
            software_versions=version,
            contribution_description="Made the voxel values with a CycleGAN",
        )
    ]
    scanner = copy_attributes(origin.header, _EQUIPMENT, alphabet, Notes(None, ""))
    if scanner.get("Manufacturer") and origin.shares_frame:
        contributions.append(
            ContributingEquipment(
                str(scanner.Manufacturer),
                codes.DCM.AcquisitionEquipment,
                manufacturer_model_name=str(scanner.get("ManufacturerModelName") or "") or None,
                contribution_description="Acquired the source images",
            )
        )
    shared.ContributingEquipmentSequence = contributions


def _add_derivation(shared: Dataset, volume: Volume, origin: Origin, coding: PixelCoding) -> None:
    shared.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if volume.modality == "CT" else "OTHER"]
    shared.SyntheticData = "YES"
    shared.ContentQualification = "RESEARCH"
    if origin.burned_in:
        shared.BurnedInAnnotation = origin.burned_in
    shared.DerivationDescription = _description(volume, origin, coding)
    shared.ImageComments = "SYNTHETIC: values made by a neural network. Research only, not for diagnosis."


def _description(volume: Volume, origin: Origin, coding: PixelCoding) -> str:
    made = volume.derivation
    what = f"Synthetic {volume.modality}"
    if made is None:
        sentences = [f"{what}, written by medcyclegan {medcyclegan.__version__}; how its values were made is not known"]
    else:
        sentences = [
            f"{what} made{f' from {made.source_modality}' if made.source_modality else ''} by a CycleGAN "
            f"({_ascii(made.source_domain)} to {_ascii(made.target_domain)}, medcyclegan {made.version}, "
            f"model sha256 {made.model_sha256})",
            *(_ascii(setting, 200) for setting in made.settings),
        ]
    if coding.exponent:
        sentences.append(f"Stored value = value x 10^{coding.exponent}")
    if not origin.in_place and not origin.is_template:
        sentences.append("The source slices were resampled to an even grid first")
    if origin.is_template:
        sentences.append("Patient and study are those of a template series")
    return f"{'. '.join(sentences)}. Research only, not for diagnosis."[:1024]


def _add_pixel_format(shared: Dataset, volume: Volume, coding: PixelCoding) -> None:
    shared.SamplesPerPixel, shared.PhotometricInterpretation = 1, "MONOCHROME2"
    shared.Columns, shared.Rows = volume.shape[:2]
    shared.BitsAllocated, shared.BitsStored, shared.HighBit = 16, 16, 15
    shared.PixelRepresentation = int(coding.signed)
    shared.WindowCenter, shared.WindowWidth = (_decimals(coding.window)[index] for index in (0, 1))
    columns_mm, rows_mm, _ = volume.spacing_mm
    shared.PixelSpacing = _decimals((rows_mm, columns_mm))
    axes = [volume.affine[:3, axis] / volume.spacing_mm[axis] * (-1, -1, 1) for axis in (0, 1)]
    shared.ImageOrientationPatient = _decimals(np.concatenate(axes))


def _add_acquisition(shared: Dataset, volume: Volume, origin: Origin) -> None:
    """Add the attributes of the CT and MR modules, most of which state that there was no scan."""
    normal = np.cross(volume.affine[:3, 0], volume.affine[:3, 1])
    spacing = abs(float(volume.affine[:3, 2] @ normal)) / float(np.linalg.norm(normal))
    thickness = () if is_multi_frame(origin.header) or not origin.in_place else _numbers(origin, "SliceThickness")
    shared.SliceThickness = _decimals(thickness if thickness and thickness[0] > 0 else (spacing,))[0]
    shared.SpacingBetweenSlices = _decimals((spacing,))[0]
    if volume.modality == "CT":
        shared.RescaleIntercept, shared.RescaleSlope, shared.RescaleType = 0, 1, "HU"
        shared.KVP = shared.AcquisitionNumber = None
        tilt = _numbers(origin, "GantryDetectorTilt") if origin.in_place else ()
        if tilt:
            shared.GantryDetectorTilt = _decimals(tilt)[0]
    else:
        shared.ScanningSequence, shared.SequenceVariant = "RM", "NONE"
        shared.ScanOptions = shared.MRAcquisitionType = ""
        shared.EchoTime = shared.RepetitionTime = shared.EchoTrainLength = None


def _numbers(origin: Origin, keyword: str) -> tuple[float, ...]:
    try:
        return numbers(origin.header, keyword)[:1]
    except ReadError:
        return ()


def _position(volume: Volume, origin: Origin, k: int) -> NDArray[np.float64]:
    """Return the position of slice ``k``, LPS+ mm: as stated by its source, jitter included, else from the affine."""
    if origin.in_place and origin.positions_mm is not None:
        place: NDArray[np.float64] = origin.positions_mm[k]
        return place
    return np.asarray((volume.affine @ (0, 0, k, 1))[:3] * (-1, -1, 1), dtype=np.float64)


def _reference(source: SourceImage, origin: Origin, *, purpose: bool) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.sop_class, source.instance_uid
    if not purpose:
        return item
    if source.frame is not None:
        item.ReferencedFrameNumber = source.frame
    item.SpatialLocationsPreserved = "YES" if origin.in_place and not source.is_tile else "NO"
    item.PurposeOfReferenceCodeSequence = [_SOURCE_IMAGE]
    return item


def _decimals(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Return decimal strings of at most 16 characters, as exact as they can be."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _ascii(name: str, longest: int = 40) -> str:
    """Return a name that every character set can represent."""
    return "".join(char if " " <= char <= "~" and char != "\\" else "?" for char in name)[:longest]
