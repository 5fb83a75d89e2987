"""One call that writes a volume in the format that the name's ending says."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from medcyclegan.errors import WriteError
from medcyclegan.volume import Volume

__all__ = ["check_output_format", "write_volume"]

_ENDINGS = (".nii", ".nii.gz", ".mha", ".nrrd", ".png", ".jpg", ".jpeg")
_WRITTEN = ".nii.gz, .nii, .mha, .nrrd (.png and .jpg for what was read from a picture)"


def write_volume(volume: Volume, path: str | PathLike[str], *, template: str | PathLike[str] | None = None) -> None:
    """Write ``volume`` on exactly its grid; an existing file is replaced.

    The ending says the format: ``.nii.gz``, ``.nii``, ``.mha``, ``.nrrd``, and ``.png``, ``.jpg`` or
    ``.jpeg`` for a slice that came from a picture. A name without an ending means a folder for a derived
    DICOM series, for which alone ``template`` (a folder with the series that it is derived from) is meant.

    The file appears whole under its name or not at all, and only after it was read back and found equal
    to the volume. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    path = Path(path)
    check_output_format(path)
    name = path.name.lower()
    if template is not None:
        raise WriteError(f"{path}: a DICOM template serves a DICOM series only: leave it out, or name a folder")
    if name.endswith((".nii", ".nii.gz")):
        from medcyclegan.io.nifti_write import write_nifti

        write_nifti(volume, path)
    elif name.endswith((".mha", ".nrrd")):
        from medcyclegan.io.other import write_itk

        write_itk(volume, path)
    else:
        from medcyclegan.io.images import write_image

        write_image(volume, path)


def check_output_format(path: Path) -> None:
    """Refuse a name whose ending says no format that is written here, before any work.

    Raises :class:`~medcyclegan.errors.WriteError`.
    """
    if not path.suffix:
        raise WriteError(
            f"{path} has no ending, which means a DICOM series; writing DICOM comes in a later version: "
            "name a .nii.gz file"
        )
    if not path.name.lower().endswith(_ENDINGS):
        raise WriteError(f"{path}: its ending says no format that is written here: {_WRITTEN}")
