"""Check an uploaded file by its content, and unpack a zipped DICOM series."""

from __future__ import annotations

import dataclasses
import stat
import struct
import zipfile
from pathlib import Path

from medcyclegan.errors import ReadError
from medcyclegan.io.streams import GZIP_MAGIC, read_start
from medcyclegan.storage import check_space

__all__ = ["UploadLimits", "unpack_upload"]

_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
#: At the end of a ZIP file, and of the record before it that holds larger numbers.
_END, _LARGE_LOCATOR = b"PK\x05\x06", b"PK\x06\x07"
_END_BYTES, _LOCATOR_BYTES, _LONGEST_COMMENT = 22, 20, 65535
#: The list of files is read into memory as a whole.
_MOST_LIST_BYTES = 16 << 20
#: Files that operating systems add.
_ADDED = ("__MACOSX/", ".DS_Store", "Thumbs.db")
_PIECE = 1 << 20


@dataclasses.dataclass(frozen=True)
class UploadLimits:
    """The largest upload in bytes, and what a ZIP file may contain."""

    most_bytes: int = 1_000_000_000
    most_unpacked_bytes: int = 4_000_000_000
    most_files: int = 20_000


def unpack_upload(upload: Path, folder: Path, limits: UploadLimits) -> Path:
    """Return the volume of an uploaded file in ``folder``: a NIfTI file, or the folder of a DICOM series.

    The type of ``upload`` is recognized by its content; the names in a ZIP file are not used. ``upload`` is moved or
    removed. Raises :class:`~medcyclegan.errors.ReadError` for any other file, and for a ZIP file that is encrypted,
    damaged or too large, or that contains links or names that lead out of a folder.
    """
    start = read_start(upload, 352)
    if start.startswith(_ZIP_MAGICS):
        series = folder / "series"
        series.mkdir()
        try:
            _unpack(upload, series, limits)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
            raise ReadError(f"the ZIP file cannot be read ({error})", remedy="create it again") from None
        upload.unlink()
        return series
    if start.startswith(GZIP_MAGIC):
        return upload.rename(folder / "volume.nii.gz")
    if start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0"):
        return upload.rename(folder / "volume.nii")
    raise ReadError("neither a NIfTI file nor a ZIP file", remedy="drop a .nii, .nii.gz, or a zipped DICOM series")


def _unpack(upload: Path, series: Path, limits: UploadLimits) -> None:
    _check_list(upload)
    with zipfile.ZipFile(upload) as archive:
        files = [entry for entry in archive.infolist() if not entry.is_dir()]
        for entry in files:
            _check_entry(entry)
        files = [entry for entry in files if not any(added in entry.filename for added in _ADDED)]
        if len(files) > limits.most_files:
            raise ReadError(f"{len(files)} files in the ZIP file", remedy=f"at most {limits.most_files} are accepted")
        total = sum(entry.file_size for entry in files)
        if total > limits.most_unpacked_bytes:
            raise ReadError(
                f"the ZIP file unpacks to {total / 1e6:.0f} MB",
                remedy=f"at most {limits.most_unpacked_bytes / 1e6:.0f} MB are accepted",
            )
        check_space(series, total, "the unpacked series")
        left = limits.most_unpacked_bytes
        for number, entry in enumerate(files, 1):
            with archive.open(entry) as packed, (series / f"{number:06d}.dcm").open("xb") as file:
                while piece := packed.read(_PIECE):
                    left -= len(piece)
                    if left < 0:
                        raise ReadError("the ZIP file unpacks to more than it declares", remedy="create it again")
                    file.write(piece)
    if not files:
        raise ReadError("the ZIP file is empty", remedy="zip the folder of a DICOM series")


def _check_list(upload: Path) -> None:
    """Refuse a ZIP file whose list of files is too large, before anything reads it."""
    size = upload.stat().st_size
    with upload.open("rb") as file:
        file.seek(max(0, size - _END_BYTES - _LONGEST_COMMENT - _LOCATOR_BYTES))
        tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + _END_BYTES:
        raise ReadError("the ZIP file is cut short", remedy="create it again")
    _, count, list_bytes = struct.unpack_from("<HHI", tail, end + 8)
    large = tail[end - _LOCATOR_BYTES : end].startswith(_LARGE_LOCATOR) if end >= _LOCATOR_BYTES else False
    if large or count == 0xFFFF or list_bytes > _MOST_LIST_BYTES:
        raise ReadError("the ZIP file lists too many files", remedy="zip one DICOM series")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    """Refuse an entry that no program for DICOM would write."""
    name = entry.filename
    mode = entry.external_attr >> 16
    if entry.flag_bits & 0x1:
        raise ReadError("the ZIP file is encrypted", remedy="create it without a password")
    if name.startswith("/") or "\\" in name or ":" in name.split("/")[0] or ".." in name.split("/"):
        raise ReadError("a name in the ZIP file leads out of its folder", remedy="create it again")
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        raise ReadError("the ZIP file contains a link or a device", remedy="zip the files themselves")
