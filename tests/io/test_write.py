"""Writing keeps every header field and voxel, and files are complete or absent."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from support.phantoms import (
    GRIDS,
    TILTED_GRID,
    Grid,
    head_mr,
    linear_error,
    linear_volume,
    make_affine,
    write_nifti,
)

from medcyclegan.errors import GeometryError, WriteError
from medcyclegan.io import read_volume, streams, write_volume
from medcyclegan.volume import Volume

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
#: What the voxels' type and the free text decide; every other field is the input's.
OWN_FIELDS = {"datatype", "bitpix", "scl_slope", "scl_inter", "cal_min", "cal_max", "vox_offset"}
TEXT_FIELDS = {"descrip", "aux_file", "intent_name", "db_name", "data_type"}


def differing_fields(before: Path, after: Path) -> set[str]:
    """Return the names of the header fields that differ, regardless of the byte order."""
    first, second = nib.load(before).header, nib.load(after).header
    raw_first, raw_second = raw_header(before), raw_header(after)
    assert type(first) is type(second)
    return {
        name
        for name in first.keys()  # noqa: SIM118 - nibabel's headers iterate otherwise
        if not np.array_equal(raw_first[name], raw_second[name], equal_nan=raw_first[name].dtype.kind == "f")
    }


def raw_header(path: Path) -> Any:
    """Return the header as stored in the file, because nibabel's loader repairs some fields."""
    with nib.openers.ImageOpener(path) as file:
        content = file.read(540)
    order = "<" if int(np.frombuffer(content, "<i4", 1)[0]) in (348, 540) else ">"
    size = int(np.frombuffer(content, f"{order}i4", 1)[0])
    header_class = nib.Nifti1Header if size == 348 else nib.Nifti2Header
    return header_class(content[:size], order, check=False)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("sform_code", "qform_code"), [(0, 0), (1, 0), (0, 1), (2, 1), (4, 4), (5, 2)])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4", "f8"])
def test_the_header_comes_back_field_by_field(
    tmp_path: Path, dtype: str, sform_code: int, qform_code: int, version: int, ending: str
) -> None:
    grid = GRIDS["oblique"]
    volume = Volume(np.random.default_rng(0).integers(0, 99, grid.shape).astype(dtype), grid.affine)
    before = write_nifti(
        volume, tmp_path / f"in{ending}", version=version, sform_code=sform_code, qform_code=qform_code,
        units="mm", dim_info=57, slice_code=3, slice_duration=0.07, slice_end=9, toffset=1.5, intent_code=5,
        cal_max=9.0, descrip=b"DOE^JANE", aux_file=b"/home/doe",
    )  # fmt: skip
    found = read_volume(before, assume_axes="LAS")
    write_volume(found, tmp_path / f"out{ending}")
    assert differing_fields(before, tmp_path / f"out{ending}") - OWN_FIELDS - TEXT_FIELDS == set()
    image = nib.load(tmp_path / f"out{ending}")
    np.testing.assert_array_equal(image.get_fdata(), volume.array)
    np.testing.assert_array_equal(image.affine, nib.load(before).affine)
    assert image.get_data_dtype() == np.float32
    assert b"DOE" not in raw_header(tmp_path / f"out{ending}").binaryblock
    assert b"doe" not in raw_header(tmp_path / f"out{ending}").binaryblock


@pytest.mark.parametrize("axes", ["LAS", "RSP", "IAL"])
def test_axes_that_the_user_stated_come_back_unstated(axes: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype("f4")
    before = write_nifti(Volume(values, make_affine(axes, (1, 2, 3))), tmp_path / "a.nii", sform_code=0, qform_code=0)
    found = read_volume(before, assume_axes=axes)
    write_volume(found, tmp_path / "b.nii")
    assert differing_fields(before, tmp_path / "b.nii") - OWN_FIELDS - TEXT_FIELDS == set()
    with pytest.raises(GeometryError, match="--assume-axes"):
        read_volume(tmp_path / "b.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii", assume_axes=axes).affine, found.affine)


@pytest.mark.parametrize("units", ["meter", "micron", "unknown"])
def test_other_units_are_kept(tmp_path: Path, units: str) -> None:
    scale = {"meter": 1000.0, "micron": 0.001, "unknown": 1.0}[units]
    stored_affine = make_affine("LPS", (1, 1, 2))
    stored_affine[:3] /= scale
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    image.header.set_sform(stored_affine, 1)
    image.header.set_qform(stored_affine, 1)
    image.header.set_xyzt_units(units)
    nib.save(image, tmp_path / "in.nii")
    write_volume(read_volume(tmp_path / "in.nii"), tmp_path / "out.nii")
    assert differing_fields(tmp_path / "in.nii", tmp_path / "out.nii") <= {"descrip"}


@pytest.mark.parametrize("name", ["one_slice", "axial_lps"])
def test_shape_is_the_inputs_even_of_length_one(tmp_path: Path, name: str) -> None:
    i, j, k = GRIDS[name].shape
    volume = linear_volume(GRIDS[name].shape, GRIDS[name].affine)
    dims = [[4, i, j, k, 1, 1, 1, 1], [5, i, j, k, 1, 1, 1, 1]] + ([[2, i, j, 1, 1, 1, 1, 1]] if k == 1 else [])
    for dim in dims:
        before = write_nifti(volume, tmp_path / "in.nii", dim=dim)
        write_volume(read_volume(before), tmp_path / "out.nii", overwrite=True)
        assert nib.load(tmp_path / "out.nii").shape == tuple(dim[1 : dim[0] + 1])


def test_one_volume_of_a_4d_file_gets_a_3d_header(tmp_path: Path) -> None:
    values = np.arange(3 * 4 * 5 * 2, dtype=np.int16).reshape(3, 4, 5, 2)
    image = nib.Nifti1Image(values, make_affine("LPS"))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "in.nii")
    write_volume(read_volume(tmp_path / "in.nii", volume=1), tmp_path / "out.nii")
    out = nib.load(tmp_path / "out.nii")
    assert out.shape == (3, 4, 5)
    np.testing.assert_array_equal(out.get_fdata(), values[..., 1])
    assert differing_fields(tmp_path / "in.nii", tmp_path / "out.nii") - OWN_FIELDS - TEXT_FIELDS <= {"dim", "pixdim"}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_volume_from_another_program_has_the_right_position(tmp_path: Path, grid: Grid, ending: str) -> None:
    volume = linear_volume(grid.shape, grid.affine)
    write_volume(volume, tmp_path / f"a{ending}")
    found = read_volume(tmp_path / f"a{ending}")
    assert found.shape == volume.shape
    assert linear_error(found) < 2e-3
    np.testing.assert_allclose(found.affine, volume.affine, rtol=1e-6, atol=1e-7)
    if "nii" in ending:
        image = nib.load(tmp_path / f"a{ending}")
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
        np.testing.assert_allclose(image.get_qform(), grid.affine, atol=1e-3)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert found.notes == ()


def test_a_shear_is_in_the_sform_alone(tmp_path: Path) -> None:
    volume = linear_volume(TILTED_GRID.shape, TILTED_GRID.affine)
    write_volume(volume, tmp_path / "a.nii.gz")
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(header.get_zooms(), volume.spacing_mm, rtol=1e-6)
    found = read_volume(tmp_path / "a.nii.gz")
    assert linear_error(found) < 1e-3
    assert "sheared affine (15 degrees" in found.notes[-1]


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_shear_is_refused_where_it_cannot_be_held(tmp_path: Path, ending: str) -> None:
    with pytest.raises(WriteError, match=r"15 degrees.*\.nii\.gz file, or read with --resample-tilt"):
        write_volume(linear_volume(TILTED_GRID.shape, TILTED_GRID.affine), tmp_path / f"a{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_ct_is_whole_numbers(tmp_path: Path, ending: str) -> None:
    values = np.array([-1024.5, -0.5, 0.5, 1.5, 2.5, 3071.2, -32768.4, 32767.4]).reshape(2, 2, 2)
    for array in (values, values.astype(np.float32), np.rint(values).astype(np.int64)):
        write_volume(Volume(array, np.eye(4), modality="CT"), tmp_path / f"a{ending}", overwrite=True)
        found = read_volume(tmp_path / f"a{ending}")
        assert found.array.dtype == np.int16
        np.testing.assert_array_equal(found.array, np.rint(array))


@pytest.mark.parametrize("order", ["C", "F"])
def test_equal_volumes_give_equal_bytes(tmp_path: Path, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = head_mr()
    write_volume(volume, tmp_path / "a.nii.gz")
    time.sleep(1.1)  # a gzip header counts seconds
    other = volume.replace(array=np.asarray(volume.array, order=order))
    write_volume(other, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert b"nii" not in (tmp_path / "a.nii.gz").read_bytes()[:40]  # no name in the gzip header
    monkeypatch.setattr(streams, "fast_gzip", None)
    write_volume(other, tmp_path / "c.nii.gz")
    np.testing.assert_array_equal(nib.load(tmp_path / "c.nii.gz").get_fdata(), volume.array)


def test_writing_takes_little_memory(tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy as np; from medcyclegan import Volume, write_volume\n"
        "volume = Volume(np.ones((256, 256, 400), np.float32), np.eye(4))\n"
        "write_volume(Volume(np.ones((4, 4, 4)), np.eye(4)), sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "write_volume(volume, sys.argv[1], overwrite=True)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / volume.array.nbytes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.nii.gz")], capture_output=True, text=True, timeout=60, check=True
    )
    assert float(done.stdout) < 0.4


def _real_niftis() -> list[Path]:
    return sorted((REAL / "nifti").rglob("*.nii*")) if REAL.is_dir() else []


@pytest.mark.real
@pytest.mark.skipif(not _real_niftis(), reason="no real scans in ../shared/data")
def test_real_files_come_back(tmp_path: Path) -> None:
    for number, path in enumerate(_real_niftis()):
        found = read_volume(path)
        out = tmp_path / f"{number}{'.nii.gz' if number % 6 == 0 else '.nii'}"
        write_volume(found, out)
        assert differing_fields(path, out) - OWN_FIELDS - TEXT_FIELDS == set(), path.name
        image = nib.load(out)
        np.testing.assert_array_equal(image.affine, nib.load(path).affine)
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), found.array)
        out.unlink()
