"""Remove the patient from a derived image, by the Basic Application Confidentiality Profile (PS3.15 Annex E) and more.

The profile is dicom-anonymizer's table of the standard's edition 2026c. Before it is applied, everything that an output
copies from its source is left out or emptied, except the geometry, UIDs (which it replaces) and a few fixed words that
identify no one. Pixels are not changed: the surface of a head shows a face. Images that are marked as having text
burned into their pixels (BurnedInAnnotation YES) are refused.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from highdicom.sr import CodedConcept
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from medcyclegan.errors import MissingExtraError, WriteError
from medcyclegan.io.dicom.write.copied import PATIENT_AND_STUDY
from medcyclegan.io.dicom.write.pseudonyms import Pseudonym

__all__ = ["check_deidentifiable", "deidentify_image"]

_EDITION = "dicomfields_2026c"
#: All of the patient's and the study's modules except the UID that links the series.
_COPIED = ("SpecificCharacterSet", *(keyword for keyword in PATIENT_AND_STUDY if keyword != "StudyInstanceUID"))
_BASIC_PROFILE = CodedConcept("113100", "DCM", "Basic Application Confidentiality Profile")
_MODIFIED_DATES = CodedConcept("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option")
#: Replaced by UIDs that are the same in every run, if there is a pseudonym.
_OWN_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
#: Written by this program, without text of the source: kept although the profile would remove it.
_OURS = ("DerivationDescription", "ImageComments", "ContributingEquipmentSequence", "SeriesDescription")
#: They refer to instances that exist only under other UIDs.
_REFERENCES = ("SourceImageSequence", "ReferencedSeriesSequence", "ReferencedStudySequence")
_DATES = ("SeriesDate", "SeriesTime", "InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime")
#: Required by the standard; the profile allows it to be empty.
_EMPTIED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
            "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator")  # fmt: skip
#: The words of the source that may stay in the output; anything else could be a name.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "PatientPosition": ("HFS", "HFP", "HFDL", "HFDR", "FFS", "FFP", "FFDL", "FFDR"),
    "AnatomicalOrientationType": ("BIPED", "QUADRUPED"),
    "BodyPartExamined": ("HEAD", "BRAIN", "HEADNECK", "NECK", "CHEST", "ABDOMEN", "PELVIS", "SPINE", "EXTREMITY"),
    "RecognizableVisualFeatures": ("YES", "NO"),
    "LossyImageCompression": ("00", "01"),
    "LossyImageCompressionMethod": ("ISO_10918_1", "ISO_14495_1", "ISO_15444_1"),
}
_REQUIRED = ("PatientPosition", "BodyPartExamined")


def check_deidentifiable(image: Dataset) -> None:
    """Refuse images that cannot be de-identified: their header states that text is burned into the pixels.

    Raises :class:`~medcyclegan.errors.WriteError`, and :class:`~medcyclegan.errors.MissingExtraError` if the extra
    ``deid`` is not installed.
    """
    try:
        _actions()
    except ImportError:
        raise MissingExtraError(
            "dicom-anonymizer is not installed, which --deidentify needs",
            remedy=("install the extra with pip install 'medcyclegan[deid]'"),
        ) from None
    if image.get("BurnedInAnnotation") == "YES":
        raise WriteError(
            "BurnedInAnnotation is YES: text in the source's pixels may name the patient, and --deidentify does not "
            "change pixels",
            remedy="remove the text from the source and set BurnedInAnnotation to NO, or leave --deidentify out",
        )


def deidentify_image(image: Dataset, pseudonym: Pseudonym | None = None) -> Dataset:
    """Return an image made by ``build_image`` without the patient, the study and their dates.

    With a ``pseudonym``, that of the image's patient, the image has it as PatientID and PatientName, and keeps the date
    of the study, moved by the patient's number of days (PS3.15 section E.3.6, modified dates). Times of day are
    removed, because they could be matched with a schedule. UIDs are then derived from those of the source by the secret
    of the key file. Without a pseudonym they are replaced by random ones, consistently within one process, so that the
    images of a series, and the series of a study, stay together. References to the source are left out. The flags of
    PS3.15 record this. Raises as :func:`check_deidentifiable` does.
    """
    check_deidentifiable(image)
    kept = {} if pseudonym is None else _pseudonymous_values(image, pseudonym)
    from dicomanonymizer.simpledicomanonymizer import anonymize_dataset

    image = copy.deepcopy(image)  # the images of a series share their elements, and the library changes these
    image.SeriesDescription = str(image.SeriesDescription).partition(" from ")[0]  # the source's own text follows
    image.ContributingEquipmentSequence = [
        item for item in image.ContributingEquipmentSequence if item.get("ManufacturerModelName") == "medcyclegan"
    ][:1]
    for keyword in {*_COPIED, *_REFERENCES, *_DATES} & set(image.dir()):
        delattr(image, keyword)
    for keyword in _EMPTIED:
        setattr(image, keyword, "")
    for keyword, words in _WORDS.items():
        if keyword in image and str(image.get(keyword)) not in words:
            delattr(image, keyword)
    for keyword in _REQUIRED:
        if keyword not in image:
            setattr(image, "Laterality" if keyword == "BodyPartExamined" else keyword, "")
    anonymize_dataset(image, base_rules_gen=_rules)
    image.PatientIdentityRemoved = "YES"
    image.LongitudinalTemporalInformationModified = "REMOVED"
    image.DeidentificationMethod = (
        f"dicom-anonymizer {importlib.metadata.version('dicom-anonymizer')} 2026c, nothing copied"
    )
    image.DeidentificationMethodCodeSequence = [_BASIC_PROFILE]
    for keyword, value in kept.items():
        setattr(image, keyword, value)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    if image.StudyDate:
        image.LongitudinalTemporalInformationModified = "MODIFIED"
        image.DeidentificationMethod = [
            image.DeidentificationMethod,
            "Study date moved by whole days, per patient",
        ]
        image.DeidentificationMethodCodeSequence = [_BASIC_PROFILE, _MODIFIED_DATES]
    return image


def _pseudonymous_values(image: Dataset, pseudonym: Pseudonym) -> dict[str, str]:
    """Return the values that replace those of the patient and the study in an image."""
    date = pseudonym.shift_date(str(image.get("StudyDate") or ""))
    return {
        "PatientID": pseudonym.patient_id,
        "PatientName": pseudonym.patient_id,
        "StudyDate": date,
        **{keyword: pseudonym.replace_uid(str(image[keyword].value)) for keyword in _OWN_UIDS},
    }


@functools.cache
def _actions() -> dict[tuple[int, ...], Any]:
    """Return the profile: the action for each tag that it lists."""
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    found: dict[tuple[int, ...], Any] = initialize_actions(_EDITION)
    return found


def _rules() -> dict[tuple[int, ...], Any]:
    """Return the profile without the tags that were handled before it is applied."""
    settled = {_pair(keyword) for keyword in (*_OURS, *_EMPTIED)}
    return {tag: action for tag, action in _actions().items() if tag not in settled}


def _pair(keyword: str) -> tuple[int, int]:
    tag = int(tag_for_keyword(keyword) or 0)
    return tag >> 16, tag & 0xFFFF
