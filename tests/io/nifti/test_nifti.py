"""NIfTI files are read with the right array and affine, or refused with a remedy."""

from __future__ import annotations

import itertools
import json
import logging
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.phantoms import (
    GRIDS,
    TILTED_GRID,
    Grid,
    linear_error,
    linear_values,
    linear_volume,
    make_affine,
    stored_box,
    write_nifti,
)

from medcyclegan.errors import AmbiguousError, GeometryError, ReadError, UsageError
from medcyclegan.io import ReadOptions, read_volume
from medcyclegan.io.nifti.read import NiftiSource, read_nifti, read_nifti_header
from medcyclegan.volume import Volume

REAL = Path(__file__).resolve().parents[4] / "shared" / "data"
BOX = GRIDS["axial_lps"]
DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def box_volume(grid: Grid = BOX) -> Volume:
    return linear_volume(grid.shape, grid.affine)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("grid", [*GRIDS.values(), TILTED_GRID], ids=[*GRIDS, "tilted"])
def test_every_voxel_is_in_its_place(tmp_path: Path, grid: Grid, version: int, ending: str) -> None:
    volume = linear_volume(grid.shape, grid.affine)
    found = read_nifti(write_nifti(volume, tmp_path / f"a{ending}", version=version))
    assert found.array.dtype == np.float32
    np.testing.assert_array_equal(found.array, volume.array)
    np.testing.assert_allclose(found.affine, volume.affine, rtol=1e-6, atol=1e-6)
    assert linear_error(found) < 2e-3  # an affine in float32, a place up to 2 m from the origin
    assert found.modality is None
    assert isinstance(found.source, NiftiSource)


def test_qform_alone_gives_the_place(tmp_path: Path) -> None:
    for name, grid in GRIDS.items():
        path = write_nifti(linear_volume(grid.shape, grid.affine), tmp_path / f"{name}.nii", sform_code=0)
        assert linear_error(read_nifti(path)) < 5e-3, name


@pytest.mark.parametrize("dtype", DTYPES)
def test_unscaled_values_keep_their_stored_type(tmp_path: Path, dtype: str) -> None:
    volume = stored_box(dtype)
    found = read_nifti(write_nifti(volume, tmp_path / "a.nii.gz"))
    assert found.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.array, volume.array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaled_values_equal_nibabels(tmp_path: Path, dtype: str) -> None:
    path = write_nifti(stored_box(dtype), tmp_path / "a.nii", scl_slope=0.37, scl_inter=-1024.5)
    found = read_nifti(path)
    expected = nib.load(path).get_fdata()
    narrow = dtype in ("u1", "i1", "i2", "u2", "f4")
    assert found.array.dtype == (np.float32 if narrow else np.float64)
    np.testing.assert_allclose(found.array, expected, rtol=6e-8 if narrow else 1e-15)


@pytest.mark.parametrize(
    ("slope", "inter"), [(0.0, 7.0), (float("nan"), 7.0), (1.0, 0.0), (float("nan"), float("nan"))]
)
def test_slopes_that_mean_none(tmp_path: Path, slope: float, inter: float) -> None:
    volume = stored_box()
    found = read_nifti(write_nifti(volume, tmp_path / "a.nii", scl_slope=slope, scl_inter=inter))
    assert found.array.dtype == np.int16
    np.testing.assert_array_equal(found.array, volume.array)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("slope", [1.0, 2.5])
def test_big_endian(tmp_path: Path, version: int, slope: float) -> None:
    image_class = nib.Nifti2Image if version == 2 else nib.Nifti1Image
    values = np.arange(60, dtype=">i2").reshape(3, 4, 5)
    header = image_class.header_class(endianness=">")
    header.set_data_dtype(">i2")
    image = image_class(values, make_affine("LPS"), header)
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    field = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    at = field.template_dtype.fields["scl_slope"][1]
    content[at : at + 4 * version] = np.array(slope, f">f{4 * version}").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    found = read_nifti(tmp_path / "a.nii")
    assert found.array.dtype.isnative
    np.testing.assert_array_equal(found.array, np.arange(60).reshape(3, 4, 5) * slope)
    np.testing.assert_allclose(found.affine, make_affine("LPS"))


def test_the_sform_is_used_and_a_different_qform_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    volume = box_volume()
    with caplog.at_level(logging.WARNING):
        found = read_nifti(write_nifti(volume, tmp_path / "a.nii", qoffset_x=3.0))
    assert linear_error(found) < 1e-3
    assert "differ by up to" in caplog.text
    assert any("the sform is used" in note for note in found.notes)
    caplog.clear()
    with caplog.at_level(logging.WARNING):  # an aligned sform beside a scanner's qform: they may differ
        read_nifti(write_nifti(volume, tmp_path / "b.nii", qoffset_x=3.0, sform_code=4))
    assert caplog.text == ""


AXES = ["".join(letters) for letters in itertools.product("RLAPSI", repeat=3) if len({*"".join(letters).translate(
    str.maketrans("LPI", "RAS"))}) == 3]  # fmt: skip


def test_axes_that_no_header_states_are_refused(tmp_path: Path) -> None:
    path = write_nifti(stored_box(), tmp_path / "a.nii", sform_code=0, qform_code=0)
    with pytest.raises(GeometryError, match=r"sform_code and qform_code are 0.*--assume-axes LAS if its axes point"):
        read_nifti(path)


def test_las_is_what_nibabel_takes_them_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    volume = linear_volume((5, 6, 7), make_affine("RAS", (1, 2, 3)))
    path = write_nifti(volume, tmp_path / "a.nii", sform_code=0, qform_code=0)
    with caplog.at_level(logging.WARNING):
        found = read_nifti(path, ReadOptions(assume_axes="LAS"))
    assert "the axes are taken as LAS (--assume-axes)" in caplog.text
    np.testing.assert_allclose(found.affine, nib.load(path).affine)


@pytest.mark.parametrize("axes", AXES)
def test_the_axes_are_those_that_the_user_states(axes: str, tmp_path: Path) -> None:
    assert len(AXES) == 48
    volume = linear_volume((5, 6, 7), make_affine(axes, (1, 2, 3), origin=(0, 0, 0)))
    path = write_nifti(volume, tmp_path / "a.nii", sform_code=0, qform_code=0)
    found = read_volume(path, assume_axes=axes)
    np.testing.assert_allclose(found.affine[:3, :3], volume.affine[:3, :3])
    np.testing.assert_allclose(found.affine @ (2, 2.5, 3, 1), (0, 0, 0, 1), atol=1e-12)
    assert found.orientation == axes


def test_axes_that_a_header_states_are_not_overruled(tmp_path: Path) -> None:
    for codes in ({"sform_code": 1, "qform_code": 0}, {"sform_code": 0, "qform_code": 1}):
        path = write_nifti(box_volume(), tmp_path / "a.nii", **codes)
        found = read_volume(path, assume_axes="RAS")
        assert found.orientation == "LPS"
        assert found.notes == ()


@pytest.mark.parametrize("axes", ["", "LA", "LASS", "LRA", "las", "XYZ", "LAA"])
def test_invalid_axes_are_refused(axes: str, tmp_path: Path) -> None:
    path = write_nifti(stored_box(), tmp_path / "a.nii", sform_code=0, qform_code=0)
    with pytest.raises(UsageError, match=f"--assume-axes {axes}: three letters"):
        read_volume(path, assume_axes=axes)


@pytest.mark.parametrize(("units", "scale"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)])
def test_units_are_converted_to_millimeters_with_a_warning(tmp_path: Path, units: str, scale: float) -> None:
    place = make_affine("LPS", (1.0, 1.5, 2.0))
    small = place.copy()
    small[:3] /= scale
    volume = Volume(np.zeros((4, 5, 6), np.float32), small if scale < 1 else place)
    stored = nib.Nifti1Image(volume.array, None)
    stored.header.set_sform(small, 1)
    stored.header.set_qform(small, 1)
    stored.header.set_xyzt_units(units)
    nib.save(stored, tmp_path / "a.nii")
    found = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(found.affine, place, rtol=1e-6, atol=1e-6)
    assert bool(found.notes) == (units in ("meter", "micron"))


def test_metres_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"1000 x 1000 x 1000 mm.*correct xyzt_units"):
        read_nifti(write_nifti(stored_box(), tmp_path / "a.nii", units="meter"))


def test_a_pixdim_that_disagrees_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for pixdim in ([1, -1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 1, 1, 1, 1], [1, 2, 2, 2, 1, 1, 1, 1]):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = read_nifti(write_nifti(box_volume(), tmp_path / "a.nii", qform_code=0, pixdim=pixdim))
        assert linear_error(found) < 1e-3
        assert "pixdim says" in caplog.text


def test_a_single_slice_without_a_third_axis(tmp_path: Path) -> None:
    flat = {"srow_x": [-1, 0, 0, 3], "srow_y": [0, -1, 0, 2], "srow_z": [0, 0, 0, 9], "qform_code": 0}
    volume = linear_volume((6, 5, 1), make_affine("LPS", (1, 1, 4)))
    for ndim in (2, 3):
        found = read_nifti(write_nifti(volume, tmp_path / "a.nii", dim=[ndim, 6, 5, 1, 1, 1, 1, 1], **flat))
        assert found.shape == (6, 5, 1)
        np.testing.assert_allclose(np.abs(found.affine[:3, 2]), (0, 0, 4))
        assert "single slice" in found.notes[0]


class TestFourAxes:
    def write(self, folder: Path, count: int = 4) -> tuple[Path, np.ndarray]:
        values = np.random.default_rng(1).integers(-500, 500, (5, 6, 7, count)).astype(np.int16)
        image = nib.Nifti1Image(values, make_affine("LPS"))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, folder / "a.nii.gz")
        return folder / "a.nii.gz", values

    def test_each_volume_by_its_number(self, tmp_path: Path) -> None:
        path, values = self.write(tmp_path)
        for volume in range(4):
            np.testing.assert_array_equal(read_volume(path, volume=volume).array, values[..., volume])

    def test_a_choice_is_required(self, tmp_path: Path) -> None:
        path, _ = self.write(tmp_path)
        with pytest.raises(AmbiguousError, match=r"4 volumes of 5 x 6 x 7 voxels.*--volume N, 0 to 3"):
            read_volume(path)

    @pytest.mark.parametrize(("count", "volume"), [(4, 4), (1, 1)])
    def test_a_number_out_of_range(self, tmp_path: Path, count: int, volume: int) -> None:
        path, _ = self.write(tmp_path, count)
        with pytest.raises(AmbiguousError, match=rf"--volume {volume}: the file has {count} volume"):
            read_volume(path, volume=volume)

    def test_a_fourth_axis_of_one_is_no_choice(self, tmp_path: Path) -> None:
        path, values = self.write(tmp_path, 1)
        np.testing.assert_array_equal(read_volume(path).array, values[..., 0])

    def test_damage_in_another_volume_is_found(self, tmp_path: Path) -> None:
        path, _ = self.write(tmp_path)
        content = bytearray(path.read_bytes())
        content[-600] ^= 16
        path.write_bytes(content)
        with pytest.raises(ReadError, match="damaged"):
            read_volume(path, volume=0)


def test_nothing_in_the_source_names_a_patient(tmp_path: Path) -> None:
    secret = b"DOE^JANE"
    image = nib.Nifti1Image(stored_box().array, BOX.affine)
    for field in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
        image.header[field] = secret
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", secret))
    nib.save(image, tmp_path / "a.nii.gz")
    found = read_nifti(tmp_path / "a.nii.gz")
    assert isinstance(found.source, NiftiSource)
    assert secret not in found.source.header.binaryblock
    assert len(found.source.header.extensions) == 0
    np.testing.assert_array_equal(found.array, stored_box().array)


def test_the_path_stays_out_of_the_notes(tmp_path: Path) -> None:
    path = write_nifti(stored_box(), tmp_path / "DOE_JANE.nii", sform_code=0, qform_code=0)
    assert "DOE" not in " ".join(read_nifti(path, ReadOptions(assume_axes="LPS")).notes)


@pytest.mark.parametrize(
    ("content", "modality"),
    [({"Modality": "MR"}, "MR"), ({"Modality": "CT"}, "CT"), ({}, None), ({"Modality": "x" * 99}, None), ([1], None)],
)
def test_modality_from_the_bids_sidecar(tmp_path: Path, content: object, modality: str | None) -> None:
    (tmp_path / "sub-01_T1w.json").write_text(json.dumps(content))
    assert read_nifti(write_nifti(stored_box(), tmp_path / "sub-01_T1w.nii.gz")).modality == modality


def test_a_broken_sidecar_is_logged(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    assert "sidecar" in read_nifti(write_nifti(stored_box(), tmp_path / "a.nii")).notes[0]


def test_the_header_is_read_without_the_voxels(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 30000, (90, 90, 90)).astype(np.int16)
    path = write_nifti(Volume(values, BOX.affine), tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-40])  # the voxels are damaged, which the header does not know
    header = read_nifti_header(path, ReadOptions())
    assert (header.shape, header.volumes, header.dtype) == (values.shape, 1, np.int16)
    np.testing.assert_allclose(header.affine, BOX.affine)


def test_reading_takes_one_copy_of_the_voxels(tmp_path: Path) -> None:
    array = np.zeros((256, 256, 400), np.int16)
    array[::7] = 3
    path = write_nifti(Volume(array, np.eye(4)), tmp_path / "a.nii.gz")
    code = (
        "import resource, sys; from pathlib import Path; from medcyclegan.io.nifti.read import read_nifti\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "volume = read_nifti(Path(sys.argv[1]))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / volume.array.nbytes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert float(done.stdout) < 1.4


def _real_niftis() -> list[Path]:
    return sorted((REAL / "nifti").rglob("*.nii*")) if REAL.is_dir() else []


@pytest.mark.real
@pytest.mark.skipif(not _real_niftis(), reason="no real scans in ../shared/data")
def test_real_files_equal_nibabels() -> None:
    for path in _real_niftis():
        image = nib.load(path)
        found = read_volume(path)
        np.testing.assert_allclose(found.array, image.get_fdata(), rtol=1e-7, err_msg=path.name)
        np.testing.assert_allclose(found.affine, image.affine, rtol=1e-12, atol=1e-12, err_msg=path.name)


def test_linear_phantom_agrees_with_nibabel(tmp_path: Path) -> None:
    grid = GRIDS["oblique"]
    path = write_nifti(linear_volume(grid.shape, grid.affine), tmp_path / "a.nii")
    image = nib.load(path)
    np.testing.assert_allclose(image.get_fdata(), linear_values(grid.shape, image.affine), atol=1e-3)
