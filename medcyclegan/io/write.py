"""Write a volume in the format that the ending of the name selects."""

from __future__ import annotations

import dataclasses
from os import PathLike
from pathlib import Path
from typing import Any

from medcyclegan.errors import UsageError, WriteError
from medcyclegan.io.formats import VOLUME_ENDINGS, WRITTEN_ENDINGS, FileFormat, find_output_format
from medcyclegan.io.sidecar import announced, check_new_translation, derivation_record, is_made_by_us, sidecar_path
from medcyclegan.io.streams import LARGEST_RATIO
from medcyclegan.storage import check_output, check_space
from medcyclegan.volume import Volume

__all__ = ["check_output_format", "SeriesOptions", "check_writable", "write_output", "write_volume"]

_PICTURES = [ending for ending in WRITTEN_ENDINGS if ending not in VOLUME_ENDINGS]


@dataclasses.dataclass(frozen=True)
class SeriesOptions:
    """The options for writing a DICOM series, as in :func:`write_volume`."""

    template: str | PathLike[str] | None = None
    deidentify: bool = False
    pseudonyms: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.pseudonyms is not None and not self.deidentify:
            raise UsageError(
                f"--pseudonyms {self.pseudonyms}: a pseudonym replaces the patient", remedy="add --deidentify"
            )

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the functions that write and check a series."""
        paths = {"template": self.template, "pseudonyms": self.pseudonyms}
        given = {name: None if path is None else Path(path) for name, path in paths.items()}
        return {**given, "deidentify": self.deidentify}

    def check_unused(self, path: Path) -> None:
        """Refuse a template for the file ``path``, which is not a series."""
        if self.template is not None:
            raise WriteError(
                f"{path}: a DICOM template is only for a DICOM series", remedy="leave it out, or name a folder"
            )


def write_volume(
    volume: Volume,
    path: str | PathLike[str],
    *,
    template: str | PathLike[str] | None = None,
    deidentify: bool = False,
    pseudonyms: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write ``volume`` on exactly its grid, and for a translated volume its sidecar, the JSON file next to it.

    The ending selects the format, by the table :data:`~medcyclegan.io.formats.FORMATS`; picture formats only hold a
    slice that was read from a picture. A name without an ending is a folder for a derived DICOM series; an existing one
    is replaced only if it contains nothing but such a series. ``template``, for a series only: the folder of the DICOM
    series from which patient and study are copied, needed if ``volume`` was not read from DICOM. ``deidentify`` leaves
    the patient and the study out of a DICOM series (extra ``deid``); other formats store neither. With ``pseudonyms``,
    a key file, the patient gets a pseudonym instead. An existing output or sidecar is replaced only with ``overwrite``.

    The file appears under its name complete or not at all, and only after it has been read back and found equal
    to the volume. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    path = Path(path)
    options = SeriesOptions(template, deidentify, pseudonyms)
    check_output_format(path)
    if volume.derivation is not None:
        check_new_translation(path, overwrite=overwrite)
        with announced(path, derivation_record(volume.derivation)):
            write_output(volume, path, options)
        return
    check_output(path, overwrite=overwrite)
    stale = is_made_by_us(path)
    if stale and not overwrite:
        raise WriteError(
            f"{sidecar_path(path)} says that {path.name} is synthetic, and this volume was not translated",
            remedy="name another output, or pass overwrite=True to replace the volume and remove that file",
        )
    write_output(volume, path, options)
    if stale:
        sidecar_path(path).unlink(missing_ok=True)


def write_output(volume: Volume, path: Path, options: SeriesOptions | None = None) -> None:
    """Write ``volume`` like :func:`write_volume`, but replace an existing file and leave the sidecar to the caller."""
    options = options or SeriesOptions()
    check_output_format(path)
    output = _output_format(path)
    if output.holds_series:
        output.write(volume, path, **options.arguments())
        return
    options.check_unused(path)
    output.write(volume, path)


def check_output_format(path: Path) -> None:
    """Refuse a name whose ending is not of a format that is written here, before any work.

    A name without an ending, a folder for a DICOM series, is refused if something else exists there.
    Raises :class:`~medcyclegan.errors.WriteError`.
    """
    if path.name in ("", ".."):
        raise WriteError(
            f"{path}: an existing folder is never the output",
            remedy="name a new file or folder",
        )
    if _output_format(path).holds_series and path.exists():
        from medcyclegan.io.dicom.write.series import check_replaceable

        check_replaceable(path)


def _output_format(path: Path) -> FileFormat:
    output = find_output_format(path)
    if output is None:
        raise WriteError(
            f"{path}: its ending is not of a format that is written here",
            remedy=f"{', '.join(VOLUME_ENDINGS)} ({', '.join(_PICTURES)} for what was read from a picture); a name "
            "without an ending is a folder for a DICOM series",
        )
    return output


def check_writable(volume: Volume, path: str | PathLike[str], options: SeriesOptions | None = None) -> None:
    """Refuse, before any work, an input whose translation could not be written to ``path``.

    ``volume`` is the input with the modality and value range of the output. A DICOM series needs a patient and a study,
    from the input or from a template; some formats cannot store every grid. Raises
    :class:`~medcyclegan.errors.WriteError`.
    """
    path = Path(path)
    options = options or SeriesOptions()
    output = _output_format(path)
    _check_space(volume, path, output)
    if output.holds_series:
        output.check(volume, path, **options.arguments())
        return
    options.check_unused(path)
    output.check(volume, path)


def _check_space(volume: Volume, path: Path, output: FileFormat) -> None:
    """Refuse an output that cannot fit on the disk; of compressed voxels only the smallest possible size is known."""
    if output.name == "image":
        return
    size = volume.array.size * (2 if volume.modality == "CT" or output.holds_series else 4)
    if path.name.lower().endswith(output.packed):
        check_space(path, size // LARGEST_RATIO, path.name, at_most=size)
    else:
        check_space(path, size, path.name)
