"""One call that writes a volume in the format that the name's ending says."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from medcyclegan.errors import WriteError
from medcyclegan.io.streams import LARGEST_RATIO
from medcyclegan.storage import check_space
from medcyclegan.volume import Volume

__all__ = ["check_output_format", "check_writable", "write_volume"]

_ENDINGS = (".nii", ".nii.gz", ".mha", ".nrrd", ".png", ".jpg", ".jpeg")
_PACKED = (".gz", ".mha", ".nrrd")
_WRITTEN = (
    ".nii.gz, .nii, .mha, .nrrd (.png and .jpg for what was read from a picture); a name without an ending is a folder "
    "for a DICOM series"
)


def write_volume(
    volume: Volume,
    path: str | PathLike[str],
    *,
    template: str | PathLike[str] | None = None,
    deidentify: bool = False,
) -> None:
    """Write ``volume`` on exactly its grid; an existing file is replaced.

    The ending says the format: ``.nii.gz``, ``.nii``, ``.mha``, ``.nrrd``, and ``.png``, ``.jpg`` or
    ``.jpeg`` for a slice that came from a picture. A name without an ending means a folder for a derived
    DICOM series (an existing one is replaced only if it holds nothing but such a series). For that alone
    ``template`` is meant: a folder with the DICOM series whose patient and study the output belongs to,
    needed where ``volume`` was not read from DICOM. ``deidentify`` leaves the patient and the study out of a DICOM
    series (extra ``deid``); other formats hold neither.

    The file appears whole under its name or not at all, and only after it was read back and found equal
    to the volume. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    path = Path(path)
    check_output_format(path)
    name = path.name.lower()
    if not path.suffix:
        from medcyclegan.io.dicom.write.series import write_dicom_series

        lender = None if template is None else Path(template)
        write_dicom_series(volume, path, template=lender, deidentify=deidentify)
        return
    _check_no_template(path, template)
    if name.endswith((".nii", ".nii.gz")):
        from medcyclegan.io.nifti.write import write_nifti

        write_nifti(volume, path)
    elif name.endswith((".mha", ".nrrd")):
        from medcyclegan.io.itk.read import write_itk

        write_itk(volume, path)
    else:
        from medcyclegan.io.images import write_image

        write_image(volume, path)


def check_output_format(path: Path) -> None:
    """Refuse a name whose ending says no format that is written here, before any work.

    A name without an ending, which means a folder for a DICOM series, is refused where something else lies there.
    Raises :class:`~medcyclegan.errors.WriteError`.
    """
    if path.name in ("", ".."):
        raise WriteError(f"{path}: a folder that is there is never the output: name a new file or folder")
    if not path.suffix:
        if path.exists():
            from medcyclegan.io.dicom.write.series import check_replaceable

            check_replaceable(path)
    elif not path.name.lower().endswith(_ENDINGS):
        raise WriteError(f"{path}: its ending says no format that is written here: {_WRITTEN}")


def check_writable(
    volume: Volume,
    path: str | PathLike[str],
    *,
    template: str | PathLike[str] | None = None,
    deidentify: bool = False,
) -> None:
    """Refuse, before any work, an input whose translation could not be written to ``path``.

    ``volume`` is the input with the output's modality and range of values. A DICOM series needs a patient and a study,
    from the input or from ``template``; pictures, ``.mha`` and ``.nrrd`` do not hold every grid. Raises
    :class:`~medcyclegan.errors.WriteError`.
    """
    path = Path(path)
    ending = path.suffix.lower()
    _check_space(volume, path)
    if not path.suffix:
        from medcyclegan.io.dicom.write.series import check_dicom_input

        check_dicom_input(volume, None if template is None else Path(template), deidentify=deidentify)
        return
    _check_no_template(path, template)
    if ending in (".mha", ".nrrd"):
        from medcyclegan.io.itk.read import check_itk

        check_itk(volume, path)
    elif ending not in (".nii", ".gz"):
        from medcyclegan.io.images import check_image

        check_image(volume, path)


def _check_space(volume: Volume, path: Path) -> None:
    """Refuse what cannot fit on the disk. How well voxels will pack nobody knows, but there is a limit to it."""
    ending = path.suffix.lower()
    size = volume.array.size * (2 if volume.modality == "CT" or not ending else 4)
    if ending in _PACKED:
        check_space(path, size // LARGEST_RATIO, path.name, at_most=size)
    elif ending in ("", ".nii"):
        check_space(path, size, path.name)


def _check_no_template(path: Path, template: str | PathLike[str] | None) -> None:
    if template is not None:
        raise WriteError(f"{path}: a DICOM template serves a DICOM series only: leave it out, or name a folder")
