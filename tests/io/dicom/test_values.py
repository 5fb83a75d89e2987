"""Header values are read, absent, or refused with the name of the attribute."""

from __future__ import annotations

import struct
import warnings

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from medcyclegan.errors import ReadError
from medcyclegan.io.dicom.values import integer, items, numbers, text, texts, vector


def raw(keyword: str, value: bytes, vr: str | None = None, *, little: bool = True) -> Dataset:
    """Return a data set with one element, as stored in a file."""
    tag = BaseTag(Tag(keyword))
    dataset = Dataset()
    dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, vr is None, little)
    return dataset


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"1.5\\-2\\3e1 ", (1.5, -2, 30)),
        (b" +1 \\ .5\\7. ", (1, 0.5, 7)),
        (b"0", (0,)),
        (b"", ()),
        (b"  ", ()),
    ],
)
def test_decimal_strings(value, found):
    assert numbers(raw("ImagePositionPatient", value), "ImagePositionPatient") == found


@pytest.mark.parametrize("value", [b"nan", b"inf", b"1,5", b"1_000", b"0x10", b"1\\\\2", b"1e999", b"\xb2", b"--1"])
def test_what_is_no_number(value):
    with pytest.raises(ReadError, match=r"ImagePositionPatient is .* not a number"):
        numbers(raw("ImagePositionPatient", value), "ImagePositionPatient")


def test_binary_numbers_in_both_orders():
    assert integer(raw("Rows", struct.pack("<H", 512), "US"), "Rows") == 512
    assert integer(raw("Rows", struct.pack(">H", 512), "US", little=False), "Rows") == 512
    assert numbers(raw("EffectiveEchoTime", struct.pack("<d", 1.52), "FD"), "EffectiveEchoTime") == (1.52,)
    assert integer(raw("Rows", struct.pack("<H", 0), "US"), "Rows") == 0


def test_binary_numbers_of_a_wrong_length_or_not_finite():
    with pytest.raises(ReadError, match=r"Rows holds 3 bytes"):
        integer(raw("Rows", b"\1\2\3", "US"), "Rows")
    with pytest.raises(ReadError, match=r"EffectiveEchoTime is not finite"):
        numbers(raw("EffectiveEchoTime", struct.pack("<d", float("nan")), "FD"), "EffectiveEchoTime")


def test_the_wrong_count_and_the_wrong_kind():
    with pytest.raises(ReadError, match=r"PixelSpacing has 1 values, and the standard requires 2"):
        vector(raw("PixelSpacing", b"0.5"), "PixelSpacing", 2)
    with pytest.raises(ReadError, match=r"NumberOfFrames is 1.5 instead of a whole number"):
        integer(raw("NumberOfFrames", b"1.5"), "NumberOfFrames")


def test_absent_is_empty():
    empty = Dataset()
    assert (text(empty, "Modality"), texts(empty, "ImageType"), numbers(empty, "PixelSpacing")) == ("", (), ())
    assert integer(empty, "Rows") is None
    assert items(empty, "MREchoSequence") == []
    assert text(empty, "NoSuchKeyword") == ""


def test_texts_lose_their_padding_only():
    assert texts(raw("ImageType", b"ORIGINAL\\PRIMARY \\ M\0", "CS"), "ImageType") == ("ORIGINAL", "PRIMARY", "M")
    assert text(raw("PatientID", b"a\xe9 b ", "LO"), "PatientID") == "a\xe9 b"


def test_values_set_by_pydicom_are_read_too():
    dataset = Dataset()
    dataset.PixelSpacing, dataset.Rows, dataset.InstanceNumber = [0.5, 0.25], 0, 7
    assert numbers(dataset, "PixelSpacing") == (0.5, 0.25)
    assert (integer(dataset, "Rows"), integer(dataset, "InstanceNumber")) == (0, 7)


def test_a_sequence_of_garbage_is_refused_without_a_warning():
    dataset = raw("PerFrameFunctionalGroupsSequence", b"\xfe\xff\x00\xe0\xff", "SQ")
    dataset.set_original_encoding(False, True, "iso8859")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ReadError, match=r"PerFrameFunctionalGroupsSequence does not parse"):
            items(dataset, "PerFrameFunctionalGroupsSequence")
