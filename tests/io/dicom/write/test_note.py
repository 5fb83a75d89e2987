"""Text notes about series that were not translated."""

import re

import pydicom
import pytest
from pydicom.uid import BasicTextSRStorage, generate_uid
from support import dicom_phantoms
from support import dicom_readback as peers
from support.dicom_studies import make_study

from medcyclegan.errors import ReadError, WriteError
from medcyclegan.io.dicom.write.note import write_note

REASON = "slice spacing varies from 1.0 to 2.0 mm (a slice is missing near z = -84.0 mm)"


@pytest.fixture
def image(tmp_path):
    return dicom_phantoms.save(make_study("one", slices=1), tmp_path / "study")[0]


def read(folder):
    (file,) = folder.iterdir()
    return pydicom.dcmread(file)


def test_a_note_has_the_patient_the_study_and_the_reason(image, tmp_path):
    write_note(tmp_path / "note", image, REASON)
    note, source = read(tmp_path / "note"), pydicom.dcmread(image)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate"):
        assert note[keyword] == source[keyword]
    assert note.SOPClassUID == BasicTextSRStorage
    assert note.SeriesInstanceUID != source.SeriesInstanceUID
    assert REASON in note.ContentSequence[0].TextValue


def test_repeating_a_note_gives_the_same_uids_and_another_reason_others(image, tmp_path):
    for name, reason in (("a", REASON), ("b", REASON), ("c", "another")):
        write_note(tmp_path / name, image, reason)
    uids = [(read(tmp_path / name).SOPInstanceUID, read(tmp_path / name).SeriesInstanceUID) for name in "abc"]
    assert uids[0] == uids[1]
    assert not set(uids[0]) & set(uids[2])


def test_any_character_set_and_text(image, tmp_path):
    source = pydicom.dcmread(image)
    source.SpecificCharacterSet, source.PatientName, source.SeriesDescription = "ISO_IR 192", "Ä^Ö", "schräg \x1b[0m"
    source.save_as(image)
    write_note(tmp_path / "note", image, "é" * 5000)
    note = read(tmp_path / "note")
    assert note.PatientName == "Ä^Ö"
    assert note.ContentSequence[0].TextValue.isascii()
    assert "\x1b" not in note.ContentSequence[0].TextValue


def test_without_a_study_there_is_no_note(image, tmp_path):
    source = pydicom.dcmread(image)
    del source.StudyInstanceUID
    source.save_as(image)
    with pytest.raises(WriteError, match="StudyInstanceUID"):
        write_note(tmp_path / "note", image, REASON)
    image.write_bytes(b"nothing")
    with pytest.raises(ReadError):
        write_note(tmp_path / "note", image, REASON)
    assert not (tmp_path / "note").exists()


@pytest.mark.skipif(bool(peers.MISSING_TOOLS), reason=peers.MISSING_TOOLS)
def test_the_validators_find_no_error_that_the_source_does_not_have(image, tmp_path):
    write_note(tmp_path / "note", image, REASON)
    found = peers.new_verdicts([image], list((tmp_path / "note").iterdir()))
    # what the standard requires and the source lacks is written empty; the code of the title is a private one
    accepted = r"Warning - (Attribute present in one instance .*=<Study>|Unrecognized defined term <99MEDCYCLEGAN>)"
    assert [line for line in found if not re.match(accepted, line)] == []
    note = read(tmp_path / "note")
    note.CompletionFlag = "MAYBE"
    note.StudyInstanceUID = generate_uid()
    note.save_as(tmp_path / "broken.dcm")
    broken = peers.new_verdicts([image], [tmp_path / "broken.dcm"])
    assert [line for line in broken if line.startswith("Error")]
