"""Write a text note about a series into its study: a Basic Text SR (PS3.3 section A.35.1)."""

from __future__ import annotations

import datetime
from pathlib import Path

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, generate_uid

import medcyclegan
from medcyclegan.errors import ReadError, WriteError
from medcyclegan.io.dicom.read.headers import DicomFile, read_header
from medcyclegan.io.dicom.values import quiet, text
from medcyclegan.io.dicom.write.coding import file_meta_of
from medcyclegan.io.dicom.write.copied import PATIENT_AND_STUDY, copy_attributes, find_alphabet
from medcyclegan.io.notes import Notes
from medcyclegan.storage import atomic_folder

__all__ = ["write_note"]

_TITLE = CodedConcept("REFUSED", "99MEDCYCLEGAN", "Series not translated")
_COMMENT = CodedConcept("121106", "DCM", "Comment")
_SERIES_NUMBER = 9999
_LONGEST_LO, _LONGEST_NOTE = 64, 2000


def write_note(folder: Path, source: Path, reason: str) -> None:
    """Write the note that the series of the image ``source`` was not translated for ``reason``, into a new folder.

    Patient and study are those of the image. The UIDs are derived from the series and the reason, so repeating it
    gives the same note. Raises :class:`~medcyclegan.errors.WriteError` if the patient or study cannot be copied, and
    :class:`~medcyclegan.errors.ReadError` for an image that cannot be read.
    """
    header = read_header(source)
    if not isinstance(header, DicomFile):
        raise ReadError("the image to which a note refers cannot be read")
    silent = Notes(None, "")
    alphabet = find_alphabet(header.dataset, PATIENT_AND_STUDY, silent)
    note = copy_attributes(header.dataset, PATIENT_AND_STUDY, alphabet, silent)
    if not note.get("StudyInstanceUID"):
        raise WriteError("the source has no StudyInstanceUID, so there is no study to add to")
    if alphabet.terms:
        note.SpecificCharacterSet = list(alphabet.terms)
    series_uid, description = text(header.dataset, "SeriesInstanceUID"), text(header.dataset, "SeriesDescription")
    _add_document(note, [series_uid, reason])
    note.ContentSequence = [
        _text_item(
            f"This series was not translated by medcyclegan {medcyclegan.__version__} (research software). "
            f"Series: {description or 'without description'}, {series_uid}. Reason: {reason}"
        )
    ]
    note.file_meta = file_meta_of(note)
    with atomic_folder(folder, overwrite=True) as temporary, quiet():
        note.save_as(temporary / "0001.dcm", enforce_file_format=True)


def _add_document(note: Dataset, identity: list[str]) -> None:
    """Add the attributes of the series, the equipment and the document, except for its content."""
    now = datetime.datetime.now().astimezone()
    entropy = ["medcyclegan note", medcyclegan.__version__, *identity]
    note.SOPClassUID = BasicTextSRStorage
    note.SOPInstanceUID = generate_uid(entropy_srcs=entropy)
    note.SeriesInstanceUID = generate_uid(entropy_srcs=[*entropy, "series"])
    note.Modality, note.SeriesNumber, note.InstanceNumber = "SR", _SERIES_NUMBER, 1
    note.SeriesDescription = "medcyclegan: not translated"[:_LONGEST_LO]
    note.ReferencedPerformedProcedureStepSequence = []
    note.PerformedProcedureCodeSequence = []
    note.Manufacturer = "medcyclegan (research software)"
    note.ManufacturerModelName, note.SoftwareVersions = "medcyclegan", medcyclegan.__version__
    for keyword in ("InstanceCreation", "Content"):
        setattr(note, f"{keyword}Date", now.strftime("%Y%m%d"))
        setattr(note, f"{keyword}Time", now.strftime("%H%M%S"))
    note.CompletionFlag, note.VerificationFlag = "COMPLETE", "UNVERIFIED"
    note.ValueType, note.ContinuityOfContent = "CONTAINER", "SEPARATE"
    note.ConceptNameCodeSequence = [_TITLE]


def _text_item(content: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = [_COMMENT]
    # in the characters that every character set has
    item.TextValue = "".join(char if " " <= char <= "~" else "?" for char in content)[:_LONGEST_NOTE]
    return item
