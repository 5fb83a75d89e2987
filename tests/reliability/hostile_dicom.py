"""DICOM series made to do harm: texts that mean something elsewhere, programs in front, bombs inside."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from reliability import planted
from reliability.attacks import NEW, Case, Prepare
from reliability.sandbox import Outcome
from reliability.workspace import AFFINE, GRID
from support import dicom_phantoms as made
from support.phantoms import head_ct

TEXTS = {
    "../../x": b"../../x", "NUL": b"a\0b", "300 characters": b"x" * 300, "emoji": "😀🧠".encode(),
    "control": b"\x1b[2J\x07\x9b", "template": b"{{7*7}}${x}%s", "markup": b"<script>alert(1)</script>",
}  # fmt: skip
#: What says whose and which study it is: a DICOM output with damaged ones is refused.
IDENTITY = {"PatientName", "PatientID", "IssuerOfPatientID", "StudyID", "AccessionNumber", "OtherPatientIDs"}
_REFUSED = "(PatientName|PatientID).*could be filed under another patient"
_TO_DICOM = [*NEW[:2], "mr", *NEW[3:]]
#: Elements of a slice that hold the text, at least.
_MANY = 400
_BOMB_MB = 1280
#: Trailing padding of unknown use (FFFC,FFFC), explicit little endian, but for its length.
_PADDING = b"\xfc\xff\xfc\xffOB\0\0"


def cases() -> list[Case]:
    """Return the cases."""
    found = []
    for name, value in TEXTS.items():
        damaged = name in ("NUL", "300 characters", "control")
        found += [
            Case(f"DICOM {name}, NIfTI out", _texts(value, NEW), kind="done", seen=_read(value)),
            Case(f"DICOM {name}, DICOM out", _texts(value, _TO_DICOM), _REFUSED if damaged else "",
                 "refused" if damaged else "done", None if damaged else _copied(value)),
        ]  # fmt: skip
        if damaged:
            found.append(
                Case(f"DICOM {name} but for the patient, DICOM out", _texts(value, _TO_DICOM, spared=IDENTITY),
                     "left out in the output", "done", _copied(value, some=name == "300 characters"))
            )  # fmt: skip
    return [
        *found,
        Case("DICOM preamble a script", _preamble, kind="done", seen=_preambles_are_empty),
        Case(
            "DICOM deflate bomb",
            _deflate_bomb,
            r"evil: last.dcm: a deflated data set of over \d+ bytes, more than its pixel data",
        ),
    ]


def _series() -> list[Dataset]:
    return made.slices_of(head_ct(GRID, AFFINE))


def _texts(value: bytes, command: list[str], *, spared: set[str] = frozenset()) -> Prepare:
    """Put a value into every text element of a series, at any depth, as the bytes they are."""

    def prepare(folder: Path) -> list[str]:
        slices = _series()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, of the values that it is made to write
            for dataset in slices:
                keep = {key: dataset[key].value for key in ("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID")}
                planted.plant(dataset)
                for key, uid in keep.items():
                    setattr(dataset, key, uid)
                dataset.PatientPosition = "HFS"
                assert _spoil(dataset, value + b" " * (len(value) % 2), spared) > _MANY
            made.save(slices, folder / "evil")
        return command

    return prepare


def _spoil(dataset: Dataset, value: bytes, spared: set[str]) -> int:
    """Replace the planted texts by raw bytes, which pydicom writes as they are; return how many."""
    count = 0
    for element in list(dataset):
        if element.VR == "SQ":
            count += sum(_spoil(item, value, spared) for item in element.value)
        elif (
            str(element.value).startswith("QZMARK7")
            and not element.tag.is_private_creator
            and element.keyword not in spared
        ):
            dataset[element.tag] = RawDataElement(element.tag, element.VR, len(value), value, 0, False, True)
            count += 1
    return count


def _is_planted(folder: Path, value: bytes) -> bool:
    inputs = [path.read_bytes() for path in (folder / "evil").glob("*.dcm")]
    return len(inputs) == GRID[2] and all(data.count(value) > _MANY for data in inputs)


def _read(value: bytes) -> Callable[[Path, Outcome], bool]:
    """Return what tells whether a series full of a text was read, and none of it came out as NIfTI."""

    def seen(folder: Path, _: Outcome) -> bool:
        made_of_it = [path.read_bytes() for path in folder.glob("out.*")]
        return _is_planted(folder, value) and len(made_of_it) == 2 and not any(value in data for data in made_of_it)

    return seen


def _copied(value: bytes, *, some: bool = True) -> Callable[[Path, Outcome], bool]:
    """Return what tells whether a series full of a text was read and its own patient's texts are in what came of it.

    ``some``: else it is a text that no output may have.
    """

    def seen(folder: Path, _: Outcome) -> bool:
        outputs = [path.read_bytes() for path in (folder / "mr").glob("*.dcm")]
        copied = [value in data for data in outputs]
        return _is_planted(folder, value) and len(outputs) == GRID[2] and (all(copied) if some else not any(copied))

    return seen


def _preamble(folder: Path) -> list[str]:
    for path in made.save(_series(), folder / "evil"):
        script = b"#!/bin/sh\ntouch EXECUTED\nexit\n".ljust(128, b"\0")
        path.write_bytes(script + path.read_bytes()[128:])
        path.chmod(0o755)
    return _TO_DICOM


def _preambles_are_empty(folder: Path, _: Outcome) -> bool:
    """Whether every file came in with a script in front and went out without."""
    starts = {name: {path.read_bytes()[:9] for path in (folder / name).glob("*.dcm")} for name in ("evil", "mr")}
    return starts == {"evil": {b"#!/bin/sh"}, "mr": {bytes(9)}}


def _deflate_bomb(folder: Path) -> list[str]:
    """Make a deflated series that is whole, the last of its files with 1.3 GB of zeros behind the pixels."""
    *others, last = _series()
    made.save(others, folder / "evil", syntax=DeflatedExplicitVRLittleEndian)
    (folder / "evil" / "last.dcm").write_bytes(_deflated(last))
    return NEW


def _deflated(dataset: Any) -> bytes:
    stream = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    whole = stream.getvalue()
    meta = 128 + 4 + 12 + int.from_bytes(whole[140:144], "little")
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = engine.compress(zlib.decompress(whole[meta:], -15) + _PADDING + (_BOMB_MB << 20).to_bytes(4, "little"))
    body += b"".join(engine.compress(bytes(1 << 20)) for _ in range(_BOMB_MB))
    return whole[:meta] + body + engine.flush()
