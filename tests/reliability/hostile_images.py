"""Small files that claim, or unpack to, far too much: name -> (file name, what makes its bytes, the message)."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from reliability.attacks import NEW, Case, Prepare

_MHA = (
    "ObjectType = Image\nNDims = 3\nDimSize = {}\nElementType = MET_SHORT\nElementSpacing = 1 1 1\n"
    "{}ElementDataFile = {}\n"
)
_NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nsizes: {}\nspace: left-posterior-superior\n"
    "space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: {}\nendian: little\n{}\n"
)


def _nifti(shape: tuple[int, ...], unpacked_mb: int, offset: int = 352) -> Callable[[], bytes]:
    def make() -> bytes:
        header = nib.Nifti1Header()
        header["dim"] = [3, *shape, 1, 1, 1, 1]
        header.set_data_dtype(np.int16)
        header.set_sform(np.eye(4), 1)
        header["vox_offset"], header["magic"] = offset, b"n+1"
        engine = zlib.compressobj(9, zlib.DEFLATED, 31)
        block = bytes(1 << 20)
        parts = [engine.compress(bytes(header.binaryblock) + bytes(4))]
        parts += [engine.compress(block) for _ in range(unpacked_mb)]
        return b"".join(parts) + engine.flush()

    return make


def _png(width: int, height: int, extra: bytes = b"") -> Callable[[], bytes]:
    def make() -> bytes:
        head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        pixels = _chunk(b"IDAT", zlib.compress(bytes(10_000_000), 9))
        text = _chunk(extra, b"a\0\0" + zlib.compress(bytes(1 << 29), 9)) if extra else b""
        return b"\x89PNG\r\n\x1a\n" + head + text + pixels + _chunk(b"IEND", b"")

    return make


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _text(text: str, behind: bytes = b"") -> Callable[[], bytes]:
    return lambda: text.encode() + behind


_FOLLOW = r"bytes follow the last voxel \(number {}\)"
_CLAIMS = "the header claims 30000 x 30000 x 30000 = 27000000000000 voxels"


def _header(shape: tuple[int, int, int]) -> Callable[[], bytes]:
    """Return what makes a NIfTI file of 1,000 bytes of voxels whose header claims ``shape``."""

    def content() -> bytes:
        header = nib.Nifti1Header()
        header.set_data_shape(shape)
        header.set_data_dtype(np.int16)
        header.set_sform(np.eye(4), 1)
        header["vox_offset"], header["magic"] = 352, b"n+1"
        return bytes(header.binaryblock) + bytes(1000)

    return content


FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "NIfTI of 30000^3": ("evil.nii", _header((30000, 30000, 30000)), _CLAIMS),
    "NIfTI gz of 30000^3": ("evil.nii.gz", _nifti((30000, 30000, 30000), 1), _CLAIMS),
    "NIfTI gz bomb behind the voxels": ("evil.nii.gz", _nifti((10, 10, 10), 1000), _FOLLOW.format(2352)),
    "NIfTI gz bomb before the voxels": (
        "evil.nii.gz",
        _nifti((10, 10, 10), 200, offset=1 << 27),
        _FOLLOW.format((1 << 27) + 2000),
    ),
    "NIfTI of negative axes": ("evil.nii.gz", _nifti((-9, 10, -10), 1), "-9 x 10 x -10|axes of -9"),
    "gz of nothing, a million times": (
        "evil.nii.gz",
        lambda: gzip.compress(b"") * 200_000,
        "ends 4 bytes before a NIfTI header does",
    ),
    "PNG of 30000^2": ("evil.png", _png(30000, 30000), r"\(900000000 pixels\) exceeds limit"),
    "PNG text bomb": ("evil.png", _png(100, 100, b"zTXt"), "Decompressed data too large"),
    "PNG profile bomb": ("evil.png", _png(100, 100, b"iCCP"), "Decompressed data too large"),
    "MHA of 30000^3": ("evil.mha", _text(_MHA.format("30000 30000 30000", "", "LOCAL"), bytes(100)), _CLAIMS),
    "MHA zlib bomb": (
        "evil.mha",
        lambda: (
            _MHA.format("100 100 10", "CompressedData = True\n", "LOCAL").encode() + zlib.compress(bytes(1 << 29), 9)
        ),
        _FOLLOW.format(200000),
    ),
    "MHD with its voxels elsewhere": (
        "evil.mhd",
        _text(_MHA.format("8 8 8", "", "../../../../../../etc/passwd")),
        "its voxels should lie in .*etc/passwd",
    ),
    "MHD with its voxels at a full path": (
        "evil.mhd",
        _text(_MHA.format("8 8 8", "", "/etc/passwd")),
        "its voxels should lie in /etc/passwd",
    ),
    "MHA header without an end": ("evil.mha", _text("ObjectType = " + "A" * 30_000_000), "header is cut short"),
    "NRRD of 30000^3": ("evil.nrrd", _text(_NRRD.format("30000 30000 30000", "raw", ""), bytes(100)), _CLAIMS),
    "NRRD with its voxels elsewhere": (
        "evil.nrrd",
        _text(_NRRD.format("8 8 8", "raw", "data file: ../outside/x\n")),
        "its datafile is ../outside/x",
    ),
    "NRRD header without an end": ("evil.nrrd", _text("NRRD0004\n" + "#" * 30_000_000), "header is cut short"),
}


def cases() -> list[Case]:
    """Return the cases."""
    return [Case(name, _write(file, make), said) for name, (file, make, said) in FILES.items()]


def _write(name: str, content: Callable[[], bytes]) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        (folder / name).write_bytes(content())
        return [NEW[0], name, "out.png" if name.endswith(".png") else "out.nii.gz", *NEW[3:]]

    return prepare
