"""Read the text headers of MetaImage and NRRD files: the voxels' position, and the fields that ITK ignores silently.

ITK 5.4 returns a full-size image for a damaged compressed MetaImage, ignores NRRD's space units and old
min/max, and reads an Offset of ``nan`` as 0. So this module also reads the header,
:mod:`medcyclegan.io.streams` reads the voxels, and ITK only interprets the geometry.

Sources: MetaIO documentation (ITK), http://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Literal

from medcyclegan.errors import ReadError
from medcyclegan.io.notes import Notes
from medcyclegan.io.streams import Packing, read_start

__all__ = ["VoxelsPlace", "read_metaimage_header", "read_nrrd_header"]

_LARGEST_HEADER = 1 << 16
_NRRD_SPACES = (
    "right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps",
)  # fmt: skip
_NRRD_PACKING: dict[str, Packing] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
_NUMBER = r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?"
_VECTOR = rf"\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)"
_NRRD_GEOMETRY = {
    "spacedirections": rf"{_VECTOR}\s+{_VECTOR}\s+{_VECTOR}",
    "spaceorigin": _VECTOR,
    "spacings": rf"{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}",
}
#: The custom key, different from all field names, under which SimpleITK writes a comment.
_COMMENT = "Comment:"
_MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres")


@dataclasses.dataclass(frozen=True)
class VoxelsPlace:
    """The position of the voxels of an ITK format: ``file``, ``offset`` in bytes, ``packing``, ``byte_order``.

    ``missing_axes``: the field for the direction of the axes in the patient, if the header lacks it.
    ``comment``: the value of Comment, any text.
    """

    file: Path
    offset: int
    packing: Packing
    byte_order: Literal["<", ">"]
    modality: str | None = None
    missing_axes: str = ""
    comment: str = ""


def read_metaimage_header(path: Path, notes: Notes) -> VoxelsPlace:
    """Read the header of a .mha, or of a .mhd with its voxels in another file.

    Raises :class:`~medcyclegan.errors.ReadError` for features that this package cannot read with certainty.
    """
    start = read_start(path, _LARGEST_HEADER)
    fields, offset = _metaimage_fields(path, start)
    _refuse_metaimage(path, fields)
    _check_numbers(path, fields, ("DimSize", "ElementSpacing", "ElementSize", *_PLACE, *_DIRECTION))
    if "ElementSpacing" not in fields and "ElementSize" not in fields:
        raise ReadError(
            f"{path}: its header has no ElementSpacing", remedy="millimeters are not guessed, add it to the header"
        )
    if not any(name in fields for name in _PLACE):
        notes.warn(f"its header has no {_PLACE[0]}: the origin at 0 assumed")
    file, data_name = path, fields["ElementDataFile"]
    if data_name != "LOCAL":
        file, offset = path.parent / data_name, 0
        if Path(data_name).name != data_name or not file.is_file():
            raise ReadError(
                f"{path}: its voxels should be in {data_name}",
                remedy=("one file in the same folder is read, copy it there or convert the volume to .mha"),
            )
    big = _is_true(fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")))
    packing: Packing = "zlib" if _is_true(fields.get("CompressedData", "False")) else "raw"
    modality = fields.get("Modality", "").removeprefix("MET_MOD_")
    known = modality if modality in ("CT", "MR", "NM", "US") else None
    missing = "" if any(name in fields for name in _DIRECTION) else _DIRECTION[0]
    return VoxelsPlace(file, offset, packing, ">" if big else "<", known, missing, fields.get("Comment", ""))


_PLACE = ("Offset", "Position", "Origin")
_DIRECTION = ("TransformMatrix", "Rotation", "Orientation")


def _metaimage_fields(path: Path, start: bytes) -> tuple[dict[str, str], int]:
    """Return the fields up to ElementDataFile, the last one, and the offset of the next line."""
    fields: dict[str, str] = {}
    position = 0
    while "ElementDataFile" not in fields:
        end = start.find(b"\n", position)
        if end < 0:
            raise ReadError(
                f"{path}: not a MetaImage file, or its header is cut short", remedy="copy or export it again"
            )
        key, separator, value = start[position:end].decode("latin-1").partition("=")
        position = end + 1
        if not separator and not key.strip():
            continue
        if not separator or key.strip() in fields:
            raise ReadError(
                f"{path}: a header line {key.strip()[:40]!r} that is not a MetaImage field", remedy="it is damaged"
            )
        fields[key.strip()] = value.strip()
    return fields, position


def _refuse_metaimage(path: Path, fields: dict[str, str]) -> None:
    rules = (
        ("ObjectType", "Image", "only images are read"),
        ("BinaryData", "True", "voxels written as text are not read"),
        ("HeaderSize", "0", "voxels after a skipped header are not read"),
        ("ElementNumberOfChannels", "1", "a volume has one number per voxel"),
        ("ElementToIntensityFunctionSlope", "1", "ITK ignores this scaling"),
        ("ElementToIntensityFunctionOffset", "0", "ITK ignores this scaling"),
    )
    for name, expected, reason in rules:
        value = fields.get(name, expected)
        if value != expected and not (_is_number(value) and _is_number(expected) and float(value) == float(expected)):
            raise ReadError(f"{path}: {name} is {value}", remedy=f"{reason}, convert it with the program that wrote it")
    unit = fields.get("DistanceUnits", "mm").lower()
    if unit not in _MILLIMETRES:
        raise ReadError(
            f"{path}: DistanceUnits is {unit}", remedy="only mm are read, convert the header's spacing and offset"
        )


def _check_numbers(path: Path, fields: dict[str, str], names: tuple[str, ...]) -> None:
    dimensions = fields.get("NDims", "")
    if dimensions not in ("2", "3", "4"):
        raise ReadError(
            f"{path}: NDims is {dimensions or 'missing'}", remedy="a volume has 2 to 4 axes, so it is damaged"
        )
    for name in names:
        values = fields.get(name, "1 " * int(dimensions) ** (2 if name in _DIRECTION else 1)).split()
        expected = int(dimensions) ** (2 if name in _DIRECTION else 1)
        if len(values) != expected or not all(_is_number(v) for v in values):
            raise ReadError(
                f"{path}: {name} is {' '.join(values)}", remedy=f"it has {expected} finite numbers, so it is damaged"
            )
        if name in ("DimSize", "ElementSpacing", "ElementSize") and not all(float(v) > 0 for v in values):
            raise ReadError(f"{path}: {name} is {' '.join(values)}", remedy="all are above 0, so the header is damaged")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def read_nrrd_header(path: Path, notes: Notes) -> VoxelsPlace:
    """Read the header of a .nrrd that contains its voxels, raw or gzipped, along three spatial axes.

    Raises :class:`~medcyclegan.errors.ReadError` for features that this package cannot read with certainty.
    """
    fields, offset = _nrrd_fields(path, read_start(path, _LARGEST_HEADER))
    _refuse_nrrd(path, fields)
    if "spaceorigin" not in fields:
        notes.warn("its header has no space origin: the origin at 0 assumed")
    big = fields.get("endian", "little").lower() == "big"
    packing = _NRRD_PACKING[fields["encoding"].lower()]
    missing, comment = "" if "space" in fields else "space", fields.get(_COMMENT, "")
    return VoxelsPlace(path, offset, packing, ">" if big else "<", None, missing, comment)


def _nrrd_fields(path: Path, start: bytes) -> tuple[dict[str, str], int]:
    """Return the fields, names without blanks, and the offset of the voxels, after the empty line."""
    end = start.find(b"\n\n")
    crlf = start.find(b"\r\n\r\n")
    if crlf >= 0 and (end < 0 or crlf < end):
        end, offset = crlf, crlf + 4
    else:
        offset = end + 2
    if not start.startswith(b"NRRD000") or end < 0:
        raise ReadError(f"{path}: not a NRRD file, or its header is cut short", remedy="copy or export it again")
    fields: dict[str, str] = {}
    for line in start[:end].decode("latin-1").splitlines()[1:]:
        name, separator, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):  # a comment, a custom key
            if line.startswith(f"{_COMMENT}="):
                fields[_COMMENT] = value[1:].strip()
            continue
        name = name.replace(" ", "").lower()
        if not separator or name in fields:
            raise ReadError(f"{path}: a header line {line[:40]!r} that is not a NRRD field", remedy="it is damaged")
        fields[name] = value.strip()
    return fields, offset


def _refuse_nrrd(path: Path, fields: dict[str, str]) -> None:
    def refuse(name: str, rule: str) -> None:
        value = fields.get(name, "missing")
        raise ReadError(
            f"{path}: its {name} is {value[:80]}", remedy=f"{rule}, save it as a plain 3-D .nrrd or .nii.gz"
        )

    if fields.get("dimension") != "3":
        refuse("dimension", "a NRRD volume must have three axes")
    if fields.get("encoding", "").lower() not in _NRRD_PACKING:
        refuse("encoding", "raw and gzip are read")
    for name in ("datafile", "byteskip", "lineskip"):
        if fields.get(name, "0") != "0":
            refuse(name, "the voxels follow the header in the same file")
    for name in ("oldmin", "oldmax"):
        if name in fields:
            refuse(name, "ITK ignores this scaling")
    if any(kind not in ("domain", "space") for kind in fields.get("kinds", "").split()):
        refuse("kinds", "each axis must be spatial")
    if fields.get("space", "lps").lower() not in _NRRD_SPACES or (
        "spacedirections" in fields and "space" not in fields
    ):
        refuse("space", "RAS, LAS and LPS name the patient's directions")
    units = fields.get("spaceunits", "").replace('"', " ").split()
    if any(unit.lower() not in _MILLIMETRES for unit in units):
        refuse("spaceunits", "only mm are read")
    for name, pattern in _NRRD_GEOMETRY.items():
        if name in fields and not re.fullmatch(pattern, fields[name]):
            refuse(name, "it must be three numbers or vectors of three")
    if "spacedirections" not in fields and "spacings" not in fields:
        refuse("spacedirections", "millimeters are not guessed")
