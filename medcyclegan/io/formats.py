"""The table of file formats: the endings of their names, and the functions that read, write, check and inspect them.

A new format is one entry of ``FORMATS`` and the module that it names. The functions are named by ``module:function``
and imported when they are first called, so that listing the formats imports no imaging library.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from medcyclegan.io.header import VolumeHeader
    from medcyclegan.io.options import ReadOptions
    from medcyclegan.volume import Volume

__all__ = [
    "FORMATS",
    "PAIR_ENDINGS",
    "READABLE",
    "SIDECAR_ENDINGS",
    "VOLUME_ENDINGS",
    "WRITTEN_ENDINGS",
    "FileFormat",
    "Format",
    "ending_of",
    "find_output_format",
    "format_of_ending",
    "format_of_name",
    "output_ending",
    "readable_endings",
]

Format = Literal["dicom", "nifti", "image", "itk"]


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """One file format.

    ``name``
        The short name, as in ``FoundVolume.kind``.
    ``endings``
        The endings that are read, by the name of the format as messages print it.
    ``written``
        The endings that are written, the usual one first; ``packed`` are those whose voxels are compressed. A DICOM
        series is a folder, so its name has no ending.
    ``reader``, ``inspector``, ``writer``, ``checker``
        ``module:function`` of the functions behind :meth:`read`, :meth:`read_header`, :meth:`write` and :meth:`check`;
        an empty ``checker`` means that every volume fits.
    """

    name: Format
    endings: Mapping[str, tuple[str, ...]]
    written: tuple[str, ...]
    packed: tuple[str, ...]
    reader: str
    inspector: str
    writer: str
    checker: str = ""

    @property
    def holds_series(self) -> bool:
        """Whether an output is a folder with a DICOM series, which may take its patient from a template."""
        return "" in self.written

    def load(self) -> None:
        """Import the reader."""
        _load(self.reader)

    def read(self, path: Path, options: ReadOptions) -> Volume:
        """Read the volume at ``path``."""
        volume: Volume = _load(self.reader)(path, options)
        return volume

    def read_header(self, path: Path, options: ReadOptions) -> VolumeHeader:
        """Read the header of a file alone; the files of a DICOM series are inspected together instead."""
        header: VolumeHeader = _load(self.inspector)(path, options)
        return header

    def write(self, volume: Volume, path: Path, **series_options: Any) -> None:
        """Write ``volume``; ``series_options``: ``template``, ``deidentify`` and ``pseudonyms``, for a DICOM series."""
        _load(self.writer)(volume, path, **series_options)

    def check(self, volume: Volume, path: Path, **series_options: Any) -> None:
        """Refuse an input whose translation the format cannot hold; raises WriteError."""
        if self.checker:
            _load(self.checker)(volume, path, **series_options)


_IO = "medcyclegan.io"
FORMATS: dict[Format, FileFormat] = {
    entry.name: entry
    for entry in (
        FileFormat(
            name="nifti",
            endings={"NIfTI": (".nii", ".nii.gz")},
            written=(".nii.gz", ".nii"),
            packed=(".nii.gz",),
            reader=f"{_IO}.nifti.read:read_nifti",
            inspector=f"{_IO}.nifti.read:read_nifti_header",
            writer=f"{_IO}.nifti.write:write_nifti",
        ),
        FileFormat(
            name="dicom",
            endings={"DICOM": (".dcm", ".dicom", ".ima")},
            written=("",),
            packed=(),
            reader=f"{_IO}.dicom.read.volume:read_dicom_series",
            inspector=f"{_IO}.dicom.inspect:inspect_dicom",
            writer=f"{_IO}.dicom.write.series:write_dicom_series",
            checker=f"{_IO}.dicom.write.series:check_dicom_input",
        ),
        FileFormat(
            name="itk",
            endings={"MetaImage": (".mha", ".mhd"), "NRRD": (".nrrd",)},
            written=(".mha", ".nrrd"),
            packed=(".mha", ".nrrd"),
            reader=f"{_IO}.itk.read:read_itk",
            inspector=f"{_IO}.itk.read:read_itk_header",
            writer=f"{_IO}.itk.write:write_itk",
            checker=f"{_IO}.itk.write:check_itk",
        ),
        FileFormat(
            name="image",
            endings={"PNG": (".png",), "JPEG": (".jpg", ".jpeg")},
            written=(".png", ".jpg", ".jpeg"),
            packed=(),
            reader=f"{_IO}.images:read_image",
            inspector=f"{_IO}.images:read_image_header",
            writer=f"{_IO}.images:write_image",
            checker=f"{_IO}.images:check_image",
        ),
    )
}

_BY_ENDING: dict[str, Format] = {
    ending: entry.name for entry in FORMATS.values() for endings in entry.endings.values() for ending in endings
}
#: Of files that hold the header or the voxels alone.
PAIR_ENDINGS = (".hdr", ".img", ".hdr.gz", ".img.gz")
#: Of files that may accompany any volume.
SIDECAR_ENDINGS = {".json", ".bval", ".bvec", ".tsv", ".csv", ".txt", ".md"}
#: Of output files, for every volume (all but pictures): a list for messages and checks.
VOLUME_ENDINGS = tuple(e for entry in FORMATS.values() if entry.name != "image" for e in entry.written if e)
#: Of all output files.
WRITTEN_ENDINGS = tuple(e for entry in FORMATS.values() for e in entry.written if e)
#: What is read, for messages: ``NIfTI, DICOM, MetaImage, NRRD, PNG, JPEG``.
READABLE = ", ".join(name for entry in FORMATS.values() for name in entry.endings)


def readable_endings() -> str:
    """Return what is read with the endings, for messages: ``NIfTI (.nii, .nii.gz), a folder of DICOM, ...``."""
    return ", ".join(
        "a folder of DICOM" if entry.holds_series else f"{name} ({', '.join(endings)})"
        for entry in FORMATS.values()
        for name, endings in entry.endings.items()
    )


def ending_of(path: Path) -> str:
    """Return the ending of a name in lower case, both parts of ``.nii.gz``."""
    name = path.name.lower()
    return "".join(Path(name).suffixes[-2:]) if name.endswith(".gz") else Path(name).suffix


def format_of_ending(ending: str) -> Format | None:
    """Return the format whose files have this ending; None for any other ending."""
    return _BY_ENDING.get(ending)


def format_of_name(path: Path) -> Format | None:
    """Return the format that a name implies: None for sidecars, DICOM for an unknown ending."""
    ending = ending_of(path)
    if ending in SIDECAR_ENDINGS:
        return None
    return format_of_ending(ending) or ("nifti" if ending in PAIR_ENDINGS else "dicom")


def output_ending(path: Path, kind: str) -> str:
    """Return the ending of an output in the format of the input ``path`` of format ``kind``; "" for a DICOM series.

    A format that is only read is written in the usual one of its kind: ``.mhd`` as ``.mha``.
    """
    written = next(entry.written for entry in FORMATS.values() if entry.name == kind)
    ending = ending_of(path)
    return ending if ending in written else written[0]


def find_output_format(path: Path) -> FileFormat | None:
    """Return the format in which ``path`` is written, by the end of its name; None if there is no such format."""
    if not path.suffix:
        return next(entry for entry in FORMATS.values() if entry.holds_series)
    name = path.name.lower()
    return next((f for f in FORMATS.values() if any(e and name.endswith(e) for e in f.written)), None)


def _load(function: str) -> Any:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)
