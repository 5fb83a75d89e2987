"""Synthetic series are valid DICOM with the right geometry and are read back voxel for voxel."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from support import phantoms

from medcyclegan.errors import WriteError
from medcyclegan.io import read_volume
from medcyclegan.io.dicom.write.synthetic import write_made_series
from medcyclegan.phantom import ct_volume, make_head, t2_volume
from medcyclegan.volume import Volume


@pytest.mark.parametrize("orientation", ["RAS", "LPS"])
@pytest.mark.parametrize("image", [t2_volume, ct_volume])
def test_it_reads_back(tmp_path, image, orientation):
    volume = image(make_head(1, shape=(30, 40, 5), spacing_mm=(6.0, 5.0, 9.0), orientation=orientation))
    write_made_series(volume, tmp_path / "series", number=7, description="MADE T2")
    back = read_volume(tmp_path / "series")
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-6)
    np.testing.assert_array_equal(back.array, np.rint(volume.array))
    assert back.modality == volume.modality


def test_an_oblique_grid_keeps_its_place(tmp_path):
    affine = phantoms.make_affine("LPS", (1.2, 1.3, 5.0), origin=(40, 50, -60), rotation_degrees=(10, -7, 20))
    volume = phantoms.linear_volume((9, 8, 7), affine, offset=4000)
    rounded = volume.replace(array=np.rint(volume.array), modality="MR")
    write_made_series(rounded, tmp_path / "series", number=1, description="oblique")
    back = read_volume(tmp_path / "series")
    np.testing.assert_allclose(back.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(back.array, rounded.array)


@pytest.mark.parametrize("image", [t2_volume, ct_volume])
def test_dciodvfy_finds_nothing(tmp_path, image):
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy is not installed")
    volume = image(make_head(1, shape=(20, 20, 3), spacing_mm=(8.0, 10.0, 30.0)))
    write_made_series(volume, tmp_path / "series", number=2, description="MADE")
    for file in (tmp_path / "series").iterdir():
        said = subprocess.run([validator, "-new", file], capture_output=True, text=True, check=False).stderr
        assert "Error" not in said
        assert "Warning" not in said
    consistent = subprocess.run(
        [shutil.which("dcentvfy"), *(tmp_path / "series").iterdir()], capture_output=True, text=True, check=False
    )
    assert consistent.stderr == ""


def test_it_is_marked_as_synthetic(tmp_path):
    volume = t2_volume(make_head(1, shape=(20, 20, 2), spacing_mm=(8.0, 10.0, 30.0)))
    write_made_series(volume, tmp_path / "series", number=3, description="MADE")
    image = pydicom.dcmread(tmp_path / "series" / "slice-0002.dcm")
    assert image.SyntheticData == "YES"
    assert image.PatientID == "MADE-0003"
    assert "Made" in str(image.PatientName)
    assert len(image.SOPInstanceUID) <= 64


def test_the_same_call_writes_the_same_bytes_and_another_number_other_uids(tmp_path):
    volume = t2_volume(make_head(1, shape=(20, 20, 2), spacing_mm=(8.0, 10.0, 30.0)))
    for name, number in (("a", 1), ("b", 1), ("c", 2)):
        write_made_series(volume, tmp_path / name, number=number, description="MADE")
    first, again, other = ((tmp_path / name / "slice-0001.dcm").read_bytes() for name in "abc")
    assert first == again
    uids = [pydicom.dcmread(tmp_path / name / "slice-0001.dcm").StudyInstanceUID for name in "ac"]
    assert uids[0] != uids[1]
    assert first != other


def test_what_it_cannot_hold_is_refused(tmp_path):
    array = np.zeros((4, 4, 2), dtype=np.float32)
    with pytest.raises(WriteError, match="modality None"):
        write_made_series(Volume(array, np.eye(4)), tmp_path / "a", number=1, description="")
    with pytest.raises(WriteError, match="16 bits hold"):
        write_made_series(Volume(array - 5, np.eye(4), modality="MR"), tmp_path / "b", number=1, description="")
    sheared = np.eye(4)
    sheared[1, 2] = 0.3
    with pytest.raises(WriteError, match="perpendicular"):
        write_made_series(Volume(array, sheared, modality="MR"), tmp_path / "c", number=1, description="")
    assert list(tmp_path.iterdir()) == []
