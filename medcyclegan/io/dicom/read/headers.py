"""Find the DICOM files in a tree and sort them into images, other files and damaged files.

A file without ``DICM`` at byte 128, a Media Storage Directory with any name, and a non-image object are left out and
reported. A file with ``DICM`` that does not parse, or an image that was cut short, is refused: it may be the slice that
is missing.
"""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_file_meta_info, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID, UID_dictionary

from medcyclegan.errors import ReadError
from medcyclegan.io.dicom.values import PARSE_ERRORS, integer, quiet, short_reason, text
from medcyclegan.io.formats import format_of_name
from medcyclegan.io.links import broken_link, is_broken_link
from medcyclegan.storage import is_temporary

__all__ = [
    "DamagedFile",
    "DicomFile",
    "OtherFile",
    "inflate_file",
    "is_dicom",
    "list_files",
    "read_header",
    "walk_files",
]

_DEFLATED = "1.2.840.10008.1.2.1.99"
_DIRECTORY = "1.2.840.10008.1.3.10"
_STANDARD_UIDS = "1.2.840.10008."
#: A deflated file of a few megabytes can expand a thousandfold. Limits in bytes: before its pixel data, after, in all.
_MOST_HEADER, _MOST_TRAILING, _MOST_INFLATED = 2**26, 2**20, 2**30
_PIXEL_DATA, _FIRST_PIXEL_TAG = 0x7FE00010, 0x7FE00008
_UNDEFINED = 0xFFFFFFFF

#: The first bytes of a file without its preamble.
_FIRST_ELEMENTS = (b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x02\x00\x00\x00")
#: The class, instance and transfer syntax of an explicit file, with their representation: no text holds these bytes.
_TELLING_ELEMENTS = tuple(
    bytes([group, 0, element, 0]) + b"UI" for group, element in ((2, 2), (2, 3), (2, 0x10), (8, 0x16), (8, 0x18))
)


@dataclasses.dataclass(frozen=True, slots=True)
class DicomFile:
    """An image: its header, and the position of its pixel data.

    ``pixel_offset``
        The byte at which the value of PixelData begins (in the inflated data set, for the deflated syntax).
    ``pixel_length``
        Its length in bytes; None for encapsulated (compressed) pixel data.
    """

    path: Path
    dataset: Dataset
    transfer_syntax: str
    pixel_offset: int
    pixel_length: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class OtherFile:
    """A file that is left out because it is not a DICOM image, and what it is."""

    path: Path
    reason: str
    is_dicom: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class DamagedFile:
    """A DICOM file that cannot be read, why, and its series if that much is legible.

    ``is_whole``: the file is not damaged, but holds what this program does not read (color, a mask).
    """

    path: Path
    error: ReadError
    series_uid: str = ""
    is_whole: bool = False

    @property
    def reason(self) -> str:
        """The message of the error."""
        return str(self.error)


def walk_files(root: Path) -> Iterator[Path]:
    """Yield every file under ``root``, in sorted order, without dotfiles and temporary names.

    Symbolic links are followed; a folder that is linked several times is visited once. A broken link is yielded too: it
    may be a missing volume or slice.
    """
    seen = {os.path.realpath(root)}
    levels = [iter(_entries(root))]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            continue
        path = Path(entry.path)
        if entry.name.startswith(".") or is_temporary(path):
            continue
        if entry.is_symlink() and is_broken_link(path):
            yield path
        elif entry.is_dir():
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                levels.append(iter(_entries(path)))
        elif entry.is_file():
            yield path


def list_files(folder: Path) -> list[Path]:
    """Return the files in ``folder`` itself, without those that :func:`walk_files` leaves out."""
    paths = [Path(entry.path) for entry in _entries(folder) if not entry.name.startswith(".")]
    return [path for path in paths if not is_temporary(path) and (is_broken_link(path) or path.is_file())]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ReadError(f"{folder} cannot be listed: {error.strerror}", remedy="check its permissions") from error


def is_dicom(path: Path) -> bool:
    """Whether the file has ``DICM`` at byte 128; false for one that cannot be opened."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> DicomFile | OtherFile | DamagedFile:
    """Parse the header of one file of any type, up to its pixel data."""
    try:
        with path.open("rb") as file:
            start = file.read(1024)
            if start[128:132] != b"DICM":
                return _without_prefix(path, start)
            file.seek(0)
            with quiet():
                dataset, body = _parse(path, file, start)
            size = len(body.getbuffer()) if isinstance(body, BytesIO) else os.fstat(file.fileno()).st_size
            return _classify(path, dataset, body, size)
    except ReadError as error:
        return DamagedFile(path, ReadError.from_error(f"{path.name}: ", error))
    except PARSE_ERRORS as error:
        if is_broken_link(path):
            if format_of_name(path) is None:
                return OtherFile(path, "a broken symbolic link")
            return DamagedFile(path, broken_link(path.name))
        return _damaged(path, f"does not parse ({short_reason(error)})")


def inflate_file(path: Path) -> bytes:
    """Return the inflated data set of a file in the deflated transfer syntax.

    Inflates no more than the end of the pixel data: at most 64 MiB for the header, which states their length. Raises
    :class:`~medcyclegan.errors.ReadError` for a data set that was cut short, continues after its pixel data, or exceeds
    1 GiB.
    """
    meta = read_file_meta_info(path)
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        # the group's length counts from the end of its own element: 132 bytes of prefix, 12 of the element
        file.seek(144 + (integer(meta, "FileMetaInformationGroupLength") or 0))
        found = engine.decompress(file.read(), _MOST_HEADER)
    if engine.unconsumed_tail:
        limit = min(_MOST_INFLATED, _end_of_pixels(found) + _MOST_TRAILING)
        if len(found) < limit:
            found += engine.decompress(engine.unconsumed_tail, limit - len(found))
        # After the end of the stream there may be one byte, which pads it to an even length.
        if engine.unconsumed_tail and not engine.eof:
            raise ReadError(
                f"a deflated data set of over {limit} bytes, more than its pixel data", remedy="save it uncompressed"
            )
    if not engine.eof:
        raise ReadError("a deflated data set that was cut short", remedy="export the series again")
    return found


def _end_of_pixels(start: bytes) -> int:
    """Return where the pixel data of a data set end, by its own account, from its ``start``; 0 without any there."""
    body = BytesIO(start)
    dataset = read_dataset(body, is_implicit_VR=False, is_little_endian=True, stop_when=_at_pixels)
    element = _pixel_element(body, dataset)
    return 0 if element is None or element[2] == _UNDEFINED else element[1] + element[2]


def _parse(path: Path, file: BinaryIO, start: bytes) -> tuple[Dataset, BinaryIO]:
    """Parse a header; return it with a stream at the pixel data element, or at the end."""
    if _DEFLATED.encode() not in start:
        return read_partial(file, stop_when=_at_pixels), file
    body = BytesIO(inflate_file(path))
    dataset = read_dataset(body, is_implicit_VR=False, is_little_endian=True, stop_when=_at_pixels)
    dataset.file_meta = read_file_meta_info(path)
    return dataset, body


def _at_pixels(tag: BaseTag, _representation: str | None, _length: int) -> bool:
    # pydicom's own comparison of tags is slow, and this runs for every element
    return int.__ge__(tag, _FIRST_PIXEL_TAG)


def _classify(path: Path, dataset: Dataset, body: BinaryIO, size: int) -> DicomFile | OtherFile | DamagedFile:
    """Classify a parsed file. ``body`` is at the position where its pixel data should begin."""
    meta = dataset.file_meta
    sop_class = text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    if _DIRECTORY in (sop_class, text(meta, "MediaStorageSOPClassUID")):
        return OtherFile(path, "a DICOMDIR", is_dicom=True)
    syntax = text(meta, "TransferSyntaxUID")
    element = _pixel_element(body, dataset)
    if element is None:
        meta_class = text(meta, "MediaStorageSOPClassUID")
        names = [_non_image_name(uid) for uid in dict.fromkeys((sop_class, meta_class)) if uid]
        # a header that was cut short may end within its SOP class
        if names and all(names) and "Rows" not in dataset:
            return OtherFile(path, f"not an image: {names[0]}", is_dicom=True)
        return _damaged(path, "ends before its pixel data", dataset)
    tag, offset, length = element
    if tag != _PIXEL_DATA:
        return _damaged(path, "holds floating-point pixel data, which this program does not read", dataset)
    if UID_dictionary.get(syntax, ("", ""))[1] != "Transfer Syntax":
        return _damaged(path, f"names no transfer syntax that DICOM knows ({syntax!r})", dataset)
    if (length == _UNDEFINED) != UID(syntax).is_encapsulated:
        return _damaged(path, f"holds pixel data that are not in its transfer syntax, {UID(syntax).name}", dataset)
    if length == _UNDEFINED:
        return DicomFile(path, dataset, syntax, offset, None)
    if offset + length > size:
        return _damaged(path, f"is cut short: {size - offset} of {length} bytes of pixel data are present", dataset)
    return DicomFile(path, dataset, syntax, offset, length)


def _non_image_name(sop_class: str) -> str:
    """Name a SOP class that holds no image; empty for one that does, and for an incomplete UID."""
    name = UID_dictionary.get(sop_class, ("", ""))[0]
    if not name and sop_class.count(".") > 4 and not sop_class.startswith(_STANDARD_UIDS):
        return "a private object"
    return "" if "Image Storage" in name else name


def _pixel_element(body: BinaryIO, dataset: Dataset) -> tuple[int, int, int] | None:
    """Return tag, offset of the value and length of the pixel data element at the stream's place."""
    implicit, little_endian = dataset.original_encoding
    order: Literal["little", "big"] = "little" if little_endian else "big"
    start = body.read(12)
    if len(start) < 8:
        return None
    tag = int.from_bytes(start[0:2], order) << 16 | int.from_bytes(start[2:4], order)
    if tag >> 16 != _PIXEL_DATA >> 16 or tag > _PIXEL_DATA:
        return None
    if implicit:
        return tag, body.tell() - len(start) + 8, int.from_bytes(start[4:8], order)
    if start[4:6] not in (b"OB", b"OW", b"UN", b"OF", b"OD") or len(start) < 12:
        raise ReadError(f"PixelData with the representation {start[4:6]!r}", remedy="damaged, export the series again")
    return tag, body.tell(), int.from_bytes(start[8:12], order)


def _damaged(path: Path, what: str, dataset: Dataset | None = None) -> DamagedFile:
    series_uid = "" if dataset is None else text(dataset, "SeriesInstanceUID")
    return DamagedFile(
        path,
        ReadError(
            f"{path.name} {what}",
            remedy="a damaged DICOM file may be a missing slice; export it again or remove it",
        ),
        series_uid,
    )


def _without_prefix(path: Path, start: bytes) -> OtherFile | DamagedFile:
    """Classify a file without the mark: not DICOM, unless it contains elements that only DICOM has."""
    if start.startswith(_FIRST_ELEMENTS) or any(mark in start for mark in _TELLING_ELEMENTS):
        return _damaged(path, "looks like DICOM without the DICM mark at byte 128")
    return OtherFile(path, "not DICOM")
