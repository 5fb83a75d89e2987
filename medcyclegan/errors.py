"""The exceptions of medcyclegan.

Every refusal of this package is a subclass of :class:`MedCycleGANError`; its text is one line that
names the value, the rule it breaks and the remedy::

    MedCycleGANError            anything that medcyclegan refuses or cannot do
    ├── UsageError              the command line itself is wrong (exit code 2)
    ├── ConfigError             a configuration file: unknown key, value out of its range
    ├── VolumeError             an input volume
    │   ├── ReadError           a file cannot be read: missing, damaged, an unknown format
    │   ├── GeometryError       its position in space is uncertain: gaps, tilt, a singular affine
    │   ├── AmbiguousError      it contains several volumes: an option must select one
    │   └── IntensityError      its values: NaN, a CT that is not in HU, a constant image
    │       └── ModalityError   it is of another modality than the model's domain
    ├── WriteError              an output: it exists, it cannot be written, its format cannot hold it
    ├── IncompleteError         a translation was written, but not its quality, uncertainty map or preview
    ├── StoreError              a slice store: missing, incomplete, made with other settings
    ├── TrainingError           a run cannot start, continue or be resumed
    ├── ModelError              a model folder: missing, damaged, or unsuitable
    └── MissingExtraError       an optional dependency is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Self

__all__ = [
    "AmbiguousError",
    "ConfigError",
    "GeometryError",
    "IncompleteError",
    "IntensityError",
    "MedCycleGANError",
    "MissingExtraError",
    "ModalityError",
    "ModelError",
    "ReadError",
    "StoreError",
    "TrainingError",
    "UsageError",
    "VolumeError",
    "WriteError",
    "nearest",
    "one_line",
]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of the ``known`` names that is most like the misspelled ``name``, or None.

    Upper and lower case, ``_`` and ``-`` count as equal.
    """
    plain = {entry.lower().replace("_", "-"): entry for entry in known}
    near = difflib.get_close_matches(name.lower().replace("_", "-"), plain, n=1)
    return plain[near[0]] if near else None


def one_line(text: object) -> str:
    """Return ``text`` on one line that is safe to print on a terminal.

    Error messages contain file names and values of DICOM headers, but must not contain their line breaks and control
    characters. Runs of white space become one space, other unprintable characters ``\\xNN``.
    """
    joined = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)


class MedCycleGANError(Exception):
    """Anything that medcyclegan refuses or cannot do; ``str(error)`` is one line.

    ``remedy``
        What the user can do about it. It ends the line, after a colon; empty if the message has none.
    ``options``
        The options that would accept the input, by their Python names: ``{"assume_axes": "LAS"}``.
    """

    exit_code = 1

    def __init__(self, message: object, *, remedy: str = "", options: Mapping[str, Any] | None = None) -> None:
        super().__init__(one_line(f"{message}: {remedy}" if remedy else message))
        self.remedy = one_line(remedy)
        self.options = dict(options or {})

    @property
    def problem(self) -> str:
        """The message without the remedy."""
        return str(self).removesuffix(f": {self.remedy}") if self.remedy else str(self)

    @classmethod
    def from_error(cls, where: str, error: MedCycleGANError) -> Self:
        """Return an error of this class that says ``where`` before the text of another, with its remedy and options."""
        found = cls(f"{where}{error}")
        found.remedy, found.options = error.remedy, error.options
        return found


class UsageError(MedCycleGANError):
    """The command line, or the arguments of a call, are wrong in themselves."""

    exit_code = 2


class ConfigError(MedCycleGANError):
    """A configuration holds an unknown key or a value out of its range."""


class VolumeError(MedCycleGANError):
    """An input volume is refused."""


class ReadError(VolumeError):
    """A file cannot be read: missing, damaged, or in an unknown format."""


class GeometryError(VolumeError):
    """The volume's position in space is uncertain."""


class AmbiguousError(VolumeError):
    """The input contains several volumes and an option must select one."""


class IntensityError(VolumeError):
    """The volume's values are unsuitable for the request."""


class ModalityError(IntensityError):
    """The volume is of another modality than the domain of the model that it was given to."""


class WriteError(MedCycleGANError):
    """An output exists already, cannot be written, or cannot hold the volume."""


class IncompleteError(MedCycleGANError):
    """The output was written, but not everything else that was requested with it."""


class StoreError(MedCycleGANError):
    """A slice store is missing, incomplete, or was made with other settings."""


class TrainingError(MedCycleGANError):
    """A training run cannot start, continue, or be resumed."""


class ModelError(MedCycleGANError):
    """A model folder is missing, damaged, or unsuitable for the request."""


class MissingExtraError(MedCycleGANError):
    """An optional dependency is not installed."""
