"""Rows of the ``manifest.jsonl`` of a slice store: one JSON object per volume, without patient data."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from medcyclegan.errors import StoreError

__all__ = [
    "DOMAIN_NAME",
    "KEY_FILE",
    "MANIFEST",
    "PATIENT_SOURCES",
    "Registration",
    "SliceRow",
    "Split",
    "PatientSource",
    "check_store",
    "load_manifest",
    "row_from_json",
    "rows_to_text",
    "stack_file",
]

MANIFEST = "manifest.jsonl"
#: The private file of a store that says which volume is which; it is never copied (``slicing/key_file.py``).
KEY_FILE = ".names.csv"

Split = Literal["train", "validation", "test"]
#: How the patient of a volume was determined.
PatientSource = Literal["split file", "PatientID", "BIDS", "image set", "folder", "name", "doubtful", "same image"]
#: A description of each source.
PATIENT_SOURCES: Mapping[PatientSource, str] = {
    "split file": "from a split file",
    "PatientID": "from DICOM PatientID",
    "BIDS": "from the BIDS label sub-",
    "image set": "from the name in a public image set",
    "folder": "guessed from the name of the folder",
    "name": "guessed from the name of the volume",
    "doubtful": "not clear from the names: all of these volumes count as one patient",
    "same image": "from the image, which is (nearly) the same as one with another name",
}
#: Fields that are left out of a line if they are empty.
_IF_ANY = ("registration", "likeness", "origin")

#: Valid names of domains; the name becomes a folder.
DOMAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclasses.dataclass(frozen=True)
class Registration:
    """The rigid registration of a volume to another volume of the patient.

    ``onto``: the case of the other volume. ``matrix``: 4 x 4, from points of this volume to those of the other one,
    both RAS+ mm; ``rotation_degrees``, ``shift_mm``: its angle, and the displacement of the center. ``before``,
    ``after``: Mattes mutual information in nats. ``overlap``: the Dice coefficient of the masks of the two heads.
    ``agreement``: the normalized mutual information inside the head.
    ``refused``: why the result was rejected, so that the volume was sliced on its own grid; empty if it was accepted.
    Without a result there are no numbers.
    """

    onto: str
    matrix: tuple[tuple[float, ...], ...] | None = None
    rotation_degrees: float | None = None
    shift_mm: float | None = None
    before: float | None = None
    after: float | None = None
    overlap: float | None = None
    agreement: float | None = None
    refused: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{8,64}", self.onto):
            raise ValueError("the case of a registration must be a hexadecimal hash")
        if self.matrix is not None and [len(line) for line in self.matrix] != [4, 4, 4, 4]:
            raise ValueError("the matrix of a registration must be 4 x 4")
        if self.matrix is None and not self.refused:
            raise ValueError("an accepted registration must have a matrix")


@dataclasses.dataclass(frozen=True)
class SliceRow:
    """Metadata of the slices of one volume.

    ``domain``: the name of its folder. ``case``, ``patient``: keyed hashes. ``split``: by patient. ``file``: the stack,
    relative to the store; its shape is ``(len(slices), size, size)``, axes (slice, row, column): rows to posterior,
    columns to patient left. ``shape``: of the source volume ``(I, J, K)``; ``affine``: its matrix from voxel indices to
    RAS+ mm, 4 x 4. ``slices``: the kept indices along the superior axis of the volume; ``heights``: the position of
    each between the lowest (0) and the highest (1) kept slice. ``pixel_mm``: actual pixel size of rows and columns of
    the stack. ``scaling``: :meth:`IntensityScaling.to_dict`. ``preparation``: the requested size, fit, pixel_mm,
    foreground and dtype. ``input``: a keyed hash that changes when the input does. ``cropped``: whether the field of
    view is larger than the slices, which were cropped around the foreground. ``content``: the SHA-256 of the values of
    the stack, which determines the order of slices, so that the same volumes are trained on in the same order
    regardless of the store's key. ``patient_source``: how the patient was determined. ``registration``: how the volume
    was brought onto the grid of another one; ``shape``, ``affine`` and ``slices`` are then of that grid. None if this
    was not tried. Only in the internal rows of a store: ``likeness``, by which the same image is found under another
    name, and ``origin``, keyed hashes of the folder in which the volume was found and of its parent folder.
    """

    domain: str
    case: str
    patient: str
    split: Split
    file: str
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, float, float, float], ...]
    slices: tuple[int, ...]
    heights: tuple[float, ...]
    pixel_mm: tuple[float, float]
    modality: str | None
    scaling: Mapping[str, Any]
    preparation: Mapping[str, Any]
    input: str
    cropped: bool
    notes: tuple[str, ...] = ()
    content: str = dataclasses.field(kw_only=True)
    patient_source: PatientSource = dataclasses.field(kw_only=True)
    registration: Registration | None = None
    likeness: str = ""
    origin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{8,64}", self.case) or not re.fullmatch(r"[0-9a-f]{8,64}", self.patient):
            raise ValueError("case and patient must be hexadecimal hashes")
        if not re.fullmatch(r"[0-9a-f]{64}", self.content):
            raise ValueError("content must be a SHA-256")
        if not DOMAIN_NAME.fullmatch(self.domain):
            raise ValueError(f"the domain {self.domain[:80]!r} must be a plain name")
        if self.file != f"{self.domain}/{self.case}.npy":
            raise ValueError(f"the file {self.file!r} must be <domain>/<case>.npy")
        if self.split not in ("train", "validation", "test"):
            raise ValueError(f"the split {self.split!r} must be train, validation or test")
        if self.patient_source not in get_args(PatientSource):
            raise ValueError(f"the source {self.patient_source!r} of the patient is not known")
        if not self.slices or len(self.slices) != len(self.heights):
            raise ValueError("slices and heights must be of one length, and not empty")

    @property
    def frame(self) -> str:
        """The case in whose coordinates the slices are: the one onto which the volume was brought, else its own."""
        return self.case if self.registration is None or self.registration.refused else self.registration.onto

    @property
    def is_registered(self) -> bool:
        """Whether the volume was brought onto the grid of another one."""
        return self.registration is not None and not self.registration.refused

    def to_json(self) -> str:
        """Return the row as one line of JSON, without a registration and the fields of internal rows if empty."""
        fields = {key: value for key, value in dataclasses.asdict(self).items() if key not in _IF_ANY or value}
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def stack_file(store: Path, row: SliceRow) -> Path:
    """Return the path of a row's stack, which is inside the store.

    Raises :class:`~medcyclegan.errors.StoreError` if a link leads out of the store.
    """
    path = store / row.file
    if path.resolve().parent != store.resolve() / row.domain:
        raise StoreError(f"{path} leads out of the slice store by a link: copy the stack itself into it")
    return path


def rows_to_text(rows: Iterable[SliceRow]) -> str:
    """Return the text of a manifest: one row per line, in the order of domain and case."""
    return "".join(row.to_json() + "\n" for row in sorted(rows, key=lambda row: (row.domain, row.case)))


def row_from_json(text: str) -> SliceRow:
    """Parse a row; raises ValueError or TypeError for anything else."""
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise TypeError("a row must be a JSON object")
    numbers = fields["affine"]
    fields["affine"] = tuple(tuple(float(value) for value in line) for line in numbers)
    if [len(line) for line in fields["affine"]] != [4, 4, 4, 4]:
        raise ValueError("the affine must be 4 x 4")
    shape = tuple(int(n) for n in fields["shape"])
    pixel = tuple(float(n) for n in fields["pixel_mm"])
    if len(shape) != 3 or len(pixel) != 2 or not isinstance(fields["preparation"], dict):
        raise ValueError("shape, pixel_mm or preparation is malformed")
    if not isinstance(fields["cropped"], bool):
        raise TypeError("cropped must be true or false")
    fields.update(shape=shape, pixel_mm=pixel)
    fields["slices"] = tuple(int(k) for k in fields["slices"])
    fields["heights"] = tuple(float(h) for h in fields["heights"])
    fields["notes"] = tuple(str(note) for note in fields["notes"])
    if fields.get("registration") is not None:
        fields["registration"] = _registration_of(fields["registration"])
    fields["origin"] = tuple(str(part) for part in fields.get("origin", ()))
    return SliceRow(**fields)


def _registration_of(fields: Mapping[str, Any]) -> Registration:
    matrix = fields["matrix"]
    lines = None if matrix is None else tuple(tuple(float(value) for value in line) for line in matrix)
    return Registration(**{**fields, "matrix": lines})


def check_store(store: Path) -> None:
    """Raise :class:`~medcyclegan.errors.StoreError` if the folder ``store`` has no manifest; rows are not read."""
    if (store / MANIFEST).exists():
        return
    if store.is_dir() and any(store.iterdir()):
        raise StoreError(f"{store} has no {MANIFEST}: its slicing did not finish; run slice-volumes again")
    raise StoreError(f"{store}: no slice store here: run medcyclegan slice-volumes first, or name it")


def load_manifest(store: Path) -> list[SliceRow]:
    """Read the rows of the slice store in folder ``store``.

    Raises :class:`~medcyclegan.errors.StoreError` if there is no store, if its slicing did not finish, or if a line is
    not a row.
    """
    file = store / MANIFEST
    try:
        if file.exists() and not file.is_file():
            raise StoreError(f"{file} is not a regular file: slice again")
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        check_store(store)
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{file} cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(row_from_json(line))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StoreError(f"{file}, line {number}: not a row of a slice store ({error}): slice again") from None
    if not rows:
        raise StoreError(f"{file} is empty: no volume was sliced; run slice-volumes on readable volumes")
    return rows
