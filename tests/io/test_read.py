"""Reading any format: the choice of the reader, the options, and voxels that are not finite."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.phantoms import GRIDS, head_ct, linear_volume, write_nifti

from medcyclegan.errors import IntensityError, ReadError, UsageError
from medcyclegan.io import find_format, read_volume, write_volume
from medcyclegan.volume import Volume

BOX = GRIDS["axial_lps"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"none\.nii\.gz: no such file or folder"):
        read_volume(tmp_path / "none.nii.gz")


def test_paths_may_be_text_and_links(tmp_path: Path) -> None:
    volume = linear_volume(BOX.shape, BOX.affine)
    path = write_nifti(volume, tmp_path / "a.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(path)
    np.testing.assert_array_equal(read_volume(str(tmp_path / "link.nii.gz")).array, volume.array)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png"])
def test_a_file_without_an_ending_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    if name == "a.png":
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / name)
    else:
        write_nifti(linear_volume(BOX.shape, BOX.affine), tmp_path / name)
    (tmp_path / name).rename(tmp_path / "unnamed")
    assert read_volume(tmp_path / "unnamed").shape == ((5, 4, 1) if name == "a.png" else BOX.shape)


def test_dicom_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(300))
    assert find_format(tmp_path / "IM0001") == "dicom"
    assert find_format(tmp_path) == "dicom"


@pytest.mark.parametrize("name", ["scan.xyz", "scan", "scan.tif", "scan.mgz"])
def test_an_unknown_format(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else" * 40)
    with pytest.raises(ReadError, match=r"neither its name nor its content.*convert it first"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["scan.hdr", "scan.img", "scan.img.gz"])
def test_a_pair_of_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(400))
    with pytest.raises(ReadError, match=r"\.hdr/\.img pair.*convert the pair to \.nii\.gz"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["empty.nii", "empty.nii.gz", "empty.mha", "empty.png", "empty"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ReadError):
        read_volume(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "without files"),
        ([".hidden"], "without files"),
        (["a.png", "b.jpg", "notes.txt"], r"\.jpg, \.png files and no DICOM: name the file"),
        (["deeper/sub-01_T1w.nii.gz", "deeper/sub-01_T1w.json"], r"\.nii\.gz files and no DICOM"),
    ],
)
def test_a_folder_of_something_else(tmp_path: Path, names: list[str], reason: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ReadError, match=reason):
        read_volume(tmp_path)


def test_options_that_concern_dicom(tmp_path: Path) -> None:
    path = write_nifti(linear_volume(BOX.shape, BOX.affine), tmp_path / "a.nii")
    with pytest.raises(ReadError, match=r"--series 1\.2\.3: the file is not a DICOM series"):
        read_volume(path, series="1.2.3")
    found = read_volume(path, split_by="EchoTime", allow_gap=True, allow_gap_mm=9, resample_tilt=True)
    assert [note.split()[0] for note in found.notes] == ["--split-by", "--allow-gap", "--allow-gap-mm"]


@pytest.mark.parametrize("options", [{"volume": -1}, {"nan": "drop"}, {"max_voxels": 0}])
def test_options_that_no_volume_could_fit(tmp_path: Path, options: dict) -> None:
    with pytest.raises(UsageError, match="--"):
        read_volume(tmp_path, **options)


class TestVoxelsThatAreNotFinite:
    def write(self, folder: Path, ending: str) -> Path:
        array = linear_volume(BOX.shape, BOX.affine).array.copy()
        array[2, 3, 4], array[0, 0, 0], array[5, 5, 9] = np.nan, np.inf, -np.inf
        path = folder / f"a{ending}"
        if ending == ".mha":
            import SimpleITK as sitk  # noqa: N813

            sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.T)), str(path))
            return path
        return write_nifti(Volume(array, BOX.affine), path)

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha"])
    def test_they_are_refused(self, tmp_path: Path, ending: str) -> None:
        with pytest.raises(IntensityError, match=r"3 of 1680 voxels are not finite.*--nan fill"):
            read_volume(self.write(tmp_path, ending))

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha"])
    def test_they_are_filled_with_the_smallest_value(
        self, tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        expected = linear_volume(BOX.shape, BOX.affine).array.copy()
        holes = np.zeros(BOX.shape, bool)
        holes[2, 3, 4] = holes[0, 0, 0] = holes[5, 5, 9] = True
        expected[holes] = expected[~holes].min()
        with caplog.at_level(logging.WARNING):
            found = read_volume(self.write(tmp_path, ending), nan="fill")
        np.testing.assert_array_equal(found.array, expected)
        assert "3 of 1680 voxels" in caplog.text
        assert "3 of 1680 voxels" in found.notes[-1]

    def test_a_volume_without_finite_voxels_is_refused(self, tmp_path: Path) -> None:
        path = write_nifti(Volume(np.full(BOX.shape, np.nan, np.float32), BOX.affine), tmp_path / "a.nii")
        with pytest.raises(IntensityError, match="nothing is left"):
            read_volume(path, nan="fill")


def test_importing_is_quick_and_light() -> None:
    code = (
        "import sys, medcyclegan.io\n"
        "heavy = {'torch', 'monai', 'SimpleITK', 'nibabel', 'pydicom', 'highdicom', 'PIL', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_reading_a_nifti_imports_no_network_library(tmp_path: Path) -> None:
    write_volume(head_ct(), tmp_path / "a.nii.gz")
    code = (
        "import sys; from medcyclegan import read_volume; read_volume(sys.argv[1])\n"
        "assert not {'torch', 'monai'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.nii.gz")], check=True, timeout=30)
