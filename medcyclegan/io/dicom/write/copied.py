"""Copy the valid values that a derived DICOM series shares with its source, in a character set that can represent them.

A value that violates its representation (PS3.5 section 6.2) is not copied: it is left out or, if the standard requires
the attribute, written empty; both are logged. If it identifies the patient or the study, the whole output is refused.
"""

from __future__ import annotations

import dataclasses
import datetime
import unicodedata
from collections.abc import Iterable

from pydicom import config
from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import validate_value

from medcyclegan.errors import ReadError, WriteError
from medcyclegan.io.dicom.values import PARSE_ERRORS, items, quiet, texts
from medcyclegan.io.notes import Notes

__all__ = ["PATIENT_AND_STUDY", "Alphabet", "copy_attributes", "find_alphabet"]

_MODULES = """
    PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence
    ReferencedPatientSequence SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence
    PatientBirthDate PatientBirthTime PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar
    PatientAlternativeCalendar PatientSex QualityControlSubject StrainDescription StrainNomenclature
    StrainStockSequence StrainAdditionalInformation StrainCodeSequence GeneticModificationsSequence OtherPatientNames
    OtherPatientIDsSequence ReferencedPatientPhotoSequence EthnicGroup EthnicGroupCodeSequence
    PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence
    BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization PatientComments
    PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence
    ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName IssuerOfClinicalTrialProtocolID
    OtherClinicalTrialProtocolIDsSequence ClinicalTrialSiteID ClinicalTrialSiteName IssuerOfClinicalTrialSiteID
    ClinicalTrialSubjectID IssuerOfClinicalTrialSubjectID ClinicalTrialSubjectReadingID
    IssuerOfClinicalTrialSubjectReadingID ClinicalTrialProtocolEthicsCommitteeName
    ClinicalTrialProtocolEthicsCommitteeApprovalNumber
    StudyInstanceUID StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName
    ReferringPhysicianIdentificationSequence ConsultingPhysicianName ConsultingPhysicianIdentificationSequence
    StudyID StudyDescription ProcedureCodeSequence PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence
    NameOfPhysiciansReadingStudy PhysiciansReadingStudyIdentificationSequence ReferencedStudySequence
    RequestingService RequestingServiceCodeSequence ReasonForPerformedProcedureCodeSequence
    AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientSizeCodeSequence
    PatientBodyMassIndex MeasuredAPDimension MeasuredLateralDimension PatientWeight MedicalAlerts Allergies Occupation
    SmokingStatus AdditionalPatientHistory PregnancyStatus LastMenstrualDate PatientSexNeutered ReasonForVisit
    ReasonForVisitCodeSequence AdmissionID IssuerOfAdmissionIDSequence ServiceEpisodeID ServiceEpisodeDescription
    IssuerOfServiceEpisodeIDSequence PatientState
    ClinicalTrialTimePointID ClinicalTrialTimePointDescription LongitudinalTemporalOffsetFromEvent
    LongitudinalTemporalEventType ClinicalTrialTimePointTypeCodeSequence IssuerOfClinicalTrialTimePointID
    ConsentForClinicalTrialUseSequence
"""
#: PS3.3 C.7.1.1 to C.7.1.3 and C.7.2.1 to C.7.2.3: patient, study, patient's study, clinical trial.
PATIENT_AND_STUDY = tuple(_MODULES.split())
_TYPE_2 = """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber ReferringPhysicianName
    StudyID PositionReferenceIndicator PatientPosition
"""
#: Written empty if the source has none.
_NEVER_ABSENT = frozenset(_TYPE_2.split())
#: A fault in one of these would file the output under another patient or study.
_IDENTITY = ("PatientName", "PatientID", "IssuerOfPatientID", "StudyInstanceUID")
_CHARSET_TEXT = frozenset(("LO", "SH", "PN", "LT", "ST", "UC", "UT"))
_MANY_LINES = frozenset(("LT", "ST", "UT"))
_PLAIN_TEXT = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"))
_NUMBERS = frozenset(("US", "UL", "SS", "SL", "FL", "FD"))
_DEEPEST = 8
#: An escape sequence starts with it; only then does pydicom have to split a value.
_ESCAPE = b"\x1b"
_SPECIFIC_CHARACTER_SET = 0x00080005
#: The values of SpecificCharacterSet that mean plain ASCII.
_DEFAULT = ((), ("",), ("ISO_IR 6",))


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """A character set: the terms of SpecificCharacterSet (0008,0005), none for the default one (ASCII)."""

    terms: tuple[str, ...] = ()

    def decode(self, value: bytes) -> str:
        """Return the text of a value. Raises :class:`~medcyclegan.errors.ReadError` for bytes it does not have."""
        try:
            text = self._decode(value)
        except (UnicodeError, LookupError):
            text = None
        if text is None:
            raise ReadError(f"holds bytes that its character set ({'/'.join(self.terms) or 'ASCII'}) does not have")
        return text

    def holds(self, text: str) -> bool:
        """Whether the text can be written in this character set."""
        if text.isascii():
            return True
        with quiet() as caught:
            try:
                encode_string(text, self._encodings())
            except UnicodeError:
                return False
        return bool(self.terms) and not caught

    def _decode(self, value: bytes) -> str | None:
        if self.terms in _DEFAULT:
            return value.decode("ascii")
        encodings = self._encodings()
        if _ESCAPE not in value:
            return value.decode(encodings[0])
        with quiet() as caught:
            text = str(decode_bytes(value, encodings, {*b"\r\n\t\f\\^="}))
        return None if caught else text

    def _encodings(self) -> list[str]:
        with quiet():
            return list(convert_encodings(list(self.terms) or [""]))


def find_alphabet(header: Dataset, keywords: Iterable[str], notes: Notes) -> Alphabet:
    """Return the character set in which ``header`` is written, as it states or, if that fails, by its bytes.

    Undeclared bytes beyond ASCII are taken as UTF-8 if they are valid, else as Latin-1, so that the bytes of the
    patient's name stay the same; this is logged.
    """
    stated = Alphabet(tuple(term.upper() for term in texts(header, "SpecificCharacterSet")))
    known = all(term in python_encoding for term in stated.terms)
    deciding = [value for keyword in _IDENTITY if (value := _raw_text(header, keyword))]
    if not known or stated.terms in _DEFAULT:
        stated = Alphabet()
        if all(value.isascii() for value in deciding):
            deciding = [value for keyword in keywords if (value := _raw_text(header, keyword))]
    for alphabet in (stated, Alphabet(("ISO_IR 192",)), Alphabet(("ISO_IR 100",))):
        if _decodes(alphabet, deciding):
            break
    if alphabet != stated:
        notes.warn(
            "its text is not in the character set that SpecificCharacterSet states: taken as "
            + ("UTF-8" if alphabet.terms == ("ISO_IR 192",) else "Latin-1")
        )
    return alphabet


def copy_attributes(header: Dataset, keywords: Iterable[str], alphabet: Alphabet, notes: Notes) -> Dataset:
    """Return a data set with those of ``keywords`` that ``header`` has, valid ones only, none of them private.

    Attributes that the standard requires are always present, empty if the source has no valid value. Raises
    :class:`~medcyclegan.errors.WriteError` for a faulty patient's name or id, or study.
    """
    copied = Dataset()
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        element = None
        if tag is not None and tag in header:
            try:
                element = _copy_element(header, int(tag), alphabet, 0)
            except ReadError as error:
                if keyword in _IDENTITY:
                    raise WriteError(
                        f"{keyword} {error}",
                        remedy=(
                            "the output could be filed under another patient or study; correct it "
                            "in the source, or write NIfTI"
                        ),
                    ) from error
                fate = "written empty" if keyword in _NEVER_ABSENT else "left out"
                notes.warn(f"{keyword} {error}: {fate} in the output")
        if element is not None:
            copied.add(element)
        elif keyword in _NEVER_ABSENT:
            setattr(copied, keyword, "")
    return copied


def _raw_text(header: Dataset, keyword: str) -> bytes:
    """Return the bytes of an attribute whose text depends on the character set; none of another."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in header or dictionary_VR(tag) not in _CHARSET_TEXT:
        return b""
    value = getattr(header.get_item(tag), "value", None)
    return value.rstrip(b" \0") if isinstance(value, bytes) else b""


def _decodes(alphabet: Alphabet, values: list[bytes]) -> bool:
    try:
        return all(alphabet.holds(alphabet.decode(value)) for value in values)
    except ReadError:
        return False


def _copy_element(dataset: Dataset, tag: int, alphabet: Alphabet, depth: int) -> DataElement:
    """Return a valid copy of an element; a fault raises :class:`~medcyclegan.errors.ReadError`."""
    vr = dictionary_VR(tag)
    if vr == "SQ":
        value: object = _copy_items(dataset, tag, alphabet, depth)
    elif vr in _NUMBERS:
        value = _copy_numbers(dataset, tag)
    elif vr in _CHARSET_TEXT or vr in _PLAIN_TEXT:
        value = _copy_text(dataset, tag, vr, alphabet)
    else:
        raise ReadError(f"is of the representation {vr}, which is not copied")
    with quiet():
        return DataElement(tag, vr, value, validation_mode=config.IGNORE)


def _copy_items(dataset: Dataset, tag: int, alphabet: Alphabet, depth: int) -> Sequence:
    if depth > _DEEPEST:
        raise ReadError("is nested too deeply")
    copies = []
    for item in items(dataset, keyword_for_tag(tag)):
        copy = Dataset()
        for inner in item.keys():  # noqa: SIM118 - iterating a pydicom data set itself converts every value
            keyword = keyword_for_tag(inner)
            if inner == _SPECIFIC_CHARACTER_SET and texts(item, "SpecificCharacterSet") != alphabet.terms:
                raise ReadError("has items in another character set")
            if keyword and not inner.is_private and inner.element and inner != _SPECIFIC_CHARACTER_SET:
                try:
                    copy.add(_copy_element(item, int(inner), alphabet, depth + 1))
                except ReadError as error:
                    raise ReadError(f"has an item whose {keyword} {error}") from error
        copies.append(copy)
    return Sequence(copies)


def _copy_numbers(dataset: Dataset, tag: int) -> object:
    with quiet() as caught:
        try:
            value = dataset[tag].value
        except PARSE_ERRORS as error:
            raise ReadError("does not parse") from error
    numbers = value if isinstance(value, list) else [] if value is None or value == "" else [value]
    if caught or not all(isinstance(number, int | float) and abs(number) < 1e300 for number in numbers):
        raise ReadError("is not a number")
    return value


def _copy_text(dataset: Dataset, tag: int, vr: str, alphabet: Alphabet) -> object:
    found = dataset.get_item(tag)
    value = getattr(found, "value", None)
    if isinstance(value, bytes):
        text = (alphabet if vr in _CHARSET_TEXT else Alphabet()).decode(value.rstrip(b" \0"))
    elif value is None or isinstance(value, str) or not hasattr(value, "__iter__"):
        text = "" if value is None else str(value).rstrip(" \0")
    else:
        text = "\\".join(str(part) for part in value)
    parts = [text] if vr in _MANY_LINES or vr == "UR" else [part.strip(" ") for part in text.split("\\")]
    if len(parts) > 1 and dictionary_VM(tag) == "1":
        raise ReadError(f"has {len(parts)} values, and the standard requires one")
    for part in parts:
        _check_text(part, vr)
    if not alphabet.holds(text):
        raise ReadError("cannot be written in its character set")
    return parts if len(parts) > 1 else parts[0]


def _check_text(part: str, vr: str) -> None:
    allowed = "\r\n\t\f" if vr in _MANY_LINES else ""
    bad = next((char for char in part if unicodedata.category(char) in ("Cc", "Cs") and char not in allowed), None)
    if bad is not None:
        raise ReadError(f"holds the control character U+{ord(bad):04X}")
    try:
        validate_value(vr, part, config.RAISE)
        if vr == "DA" and part:
            datetime.datetime.strptime(part, "%Y%m%d").replace(tzinfo=datetime.UTC)
    except ValueError as error:
        # the value itself may be the patient's, and this goes to logs
        raise ReadError(f"is no valid {vr} ({len(part)} characters)") from error
