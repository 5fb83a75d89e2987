"""NIfTI files that are damaged, cut short, or larger than they claim."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.phantoms import (
    stored_box,
    write_nifti,
)

from medcyclegan.errors import MedCycleGANError, ReadError, VolumeError
from medcyclegan.io import read_volume, streams
from medcyclegan.io.nifti.read import read_nifti

REFUSED = {
    "not NIfTI": ({"sizeof_hdr": 1234}, "not a NIfTI file"),
    "Analyze": ({"magic": b""}, "Analyze 7.5"),
    "pair": ({"magic": b"ni1"}, r"\.hdr/\.img pair"),
    "no axes": ({"dim": [0, 12, 14, 10, 1, 1, 1, 1]}, "2 to 7 axes"),
    "eight axes": ({"dim": [8, 12, 14, 10, 1, 1, 1, 1]}, "2 to 7 axes"),
    "negative axis": ({"dim": [3, 12, -14, 10, 1, 1, 1, 1]}, "axis of length -14"),
    "five axes": ({"dim": [5, 12, 14, 2, 1, 5, 1, 1]}, "more than four axes"),
    "too large": ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, r"--max-voxels 27000000000000"),
    "shorter than its header": ({"dim": [3, 12, 14, 11, 1, 1, 1, 1]}, "cut short"),
    "longer than its header": ({"dim": [3, 12, 14, 9, 1, 1, 1, 1]}, "bytes follow the last voxel"),
    "offset too small": ({"vox_offset": 300}, "vox_offset is 300"),
    "offset too large": ({"vox_offset": 3e9}, "vox_offset is 3e"),
    "offset not whole": ({"vox_offset": 352.5}, "vox_offset"),
    "offset not a number": ({"vox_offset": np.nan}, "vox_offset"),
    "RGB": ({"datatype": 128}, "RGB"),
    "complex": ({"datatype": 32}, "complex"),
    "long double": ({"datatype": 1536}, "128-bit float"),
    "unknown type": ({"datatype": 17}, "unknown type"),
    "infinite slope": ({"scl_slope": np.inf}, "scl_slope"),
    "slope without intercept": ({"scl_slope": 2.0, "scl_inter": np.nan}, "scl_inter"),
    "sform code": ({"sform_code": 77}, "sform_code is 77"),
    "qform code": ({"qform_code": -1}, "qform_code is -1"),
    "singular": ({"srow_x": [0, 0, 0, 1]}, "singular"),
    "sform of NaN": ({"srow_x": [np.nan, 0, 0, 1]}, "singular, huge or not finite"),
    "huge spacing": ({"srow_x": [-1e6, 0, 0, 1]}, "no scan has voxels beyond"),
    "unit": ({"xyzt_units": 5}, "xyzt_units is 5"),
    "bad quaternion": ({"sform_code": 0, "quatern_b": 1.0, "quatern_c": 1.0}, "qform is not valid"),
    "qfac": ({"sform_code": 0, "pixdim": [3, 1, 1, 1, 1, 1, 1, 1]}, "qform is not valid"),
    "negative pixdim, qform": ({"sform_code": 0, "pixdim": [1, -1, 1, 1, 1, 1, 1, 1]}, "qform is not valid"),
    "zero pixdim, qform": ({"sform_code": 0, "pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "singular"),
    "zero pixdim alone": ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "above 0 mm"),
}  # fmt: skip


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_header_that_cannot_be_believed(tmp_path: Path, case: str, ending: str) -> None:
    fields, reason = REFUSED[case]
    path = write_nifti(stored_box(), tmp_path / f"a{ending}", **fields)
    with pytest.raises(VolumeError, match=reason) as refusal:
        read_nifti(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("fast", [True, False])
def test_no_flipped_bit_in_a_gzip_gives_wrong_voxels(
    tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        monkeypatch.setattr(streams, "fast_gzip", None)
    volume = stored_box()
    path = write_nifti(volume, tmp_path / "a.nii.gz")
    content = path.read_bytes()
    refused = right = 0
    generator = np.random.default_rng(0)
    for at in [*range(24), *generator.integers(24, len(content) - 8, 120), *range(len(content) - 8, len(content))]:
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            found = read_nifti(path)
        except VolumeError:
            refused += 1
            continue
        np.testing.assert_array_equal(found.array, volume.array)
        np.testing.assert_allclose(found.affine, volume.affine)
        right += 1
    assert refused >= 128  # all but the gzip header's time, name flags and system
    assert right <= 24


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("cut", [1, 8, 9, 500])
def test_a_gzip_cut_short(tmp_path: Path, fast: bool, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(streams, "fast_gzip", None)
    path = write_nifti(stored_box(), tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ReadError, match="damaged or cut short"):
        read_nifti(path)


def test_both_gzip_libraries_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(stored_box(), tmp_path / "a.nii.gz")
    fast = read_nifti(path).array
    monkeypatch.setattr(streams, "fast_gzip", None)
    np.testing.assert_array_equal(read_nifti(path).array, fast)


def test_rubbish_behind_the_voxels(tmp_path: Path) -> None:
    for ending in (".nii", ".nii.gz"):
        path = write_nifti(stored_box(), tmp_path / f"a{ending}")
        path.write_bytes(path.read_bytes() + b"rubbish")
        with pytest.raises(ReadError):
            read_nifti(path)


def test_a_gzip_of_two_parts_is_one_file(tmp_path: Path) -> None:
    volume = stored_box()
    content = write_nifti(volume, tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content[:999]) + gzip.compress(content[999:]))
    np.testing.assert_array_equal(read_nifti(tmp_path / "b.nii.gz").array, volume.array)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    volume = stored_box()
    plain = write_nifti(volume, tmp_path / "a.nii")
    packed = write_nifti(volume, tmp_path / "b.nii.gz")
    plain.rename(tmp_path / "plain.nii.gz")
    packed.rename(tmp_path / "packed.nii")
    for name in ("plain.nii.gz", "packed.nii"):
        found = read_volume(tmp_path / name)
        np.testing.assert_array_equal(found.array, volume.array)
        assert "unlike its name" in found.notes[0]


def test_a_gzip_bomb_takes_no_memory(tmp_path: Path) -> None:
    """A few MB that unpack to 4 GB: refused by what the header claims, in a process that may hold 1 GB."""
    header = nib.Nifti1Header()
    header.set_data_shape((64, 64, 64))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    part = gzip.compress(bytes(1 << 26), 9)
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4)) + part * 64)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from medcyclegan.io.nifti.read import read_nifti; from medcyclegan.errors import ReadError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_nifti(Path(sys.argv[1]))\n"
        "except ReadError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    message, kilobytes = done.stdout.strip().splitlines()
    assert "bytes follow the last voxel" in message
    assert int(kilobytes) < 64 * 1024


def test_a_claim_that_the_file_cannot_hold_takes_no_memory(tmp_path: Path) -> None:
    path = write_nifti(stored_box(), tmp_path / "a.nii.gz", dim=[3, 1290, 1290, 1290, 1, 1, 1, 1])
    with pytest.raises(ReadError, match=r"1290 x 1290 x 1290 voxels needs 4\d+ bytes"):
        read_nifti(path)


def test_max_voxels_counts_all_axes(tmp_path: Path) -> None:
    path = write_nifti(stored_box(), tmp_path / "a.nii.gz")
    with pytest.raises(ReadError, match=r"12 x 14 x 10 = 1680 voxels, more than 1679.*--max-voxels 1680"):
        read_volume(path, max_voxels=1679)
    assert read_volume(path, max_voxels=1680).shape == (12, 14, 10)


def test_random_damage_is_refused_or_is_in_numbers_that_cannot_be_checked(tmp_path: Path) -> None:
    """600 flips in an uncompressed header: never a traceback, never another shape or type size."""
    volume = stored_box()
    path = write_nifti(volume, tmp_path / "a.nii")
    content = path.read_bytes()
    generator = np.random.default_rng(3)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(600):
        damaged = bytearray(content)
        damaged[int(generator.integers(352))] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            found = read_nifti(path)
        except MedCycleGANError:
            outcomes["refused"] += 1
            continue
        assert found.array.dtype.itemsize in (2, 4)  # 4: a slope appeared
        assert found.array.size == volume.array.size
        outcomes["read"] += 1
    assert min(outcomes.values()) > 30
