"""MetaImage and NRRD: the geometry is that of SimpleITK, checksums are verified, unclear headers are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from support.itk_files import to_image, write_mha, write_nrrd
from support.phantoms import GRIDS, LPS_RAS, TILTED_GRID, Grid, head_ct, linear_error, linear_volume, make_affine

from medcyclegan.errors import AmbiguousError, GeometryError, MedCycleGANError, ReadError
from medcyclegan.io import ReadOptions, read_volume, write_volume
from medcyclegan.io.inspect import inspect_paths

ENDINGS = [".mha", ".nrrd", ".mhd"]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_every_voxel_is_in_its_place(tmp_path: Path, grid: Grid, ending: str, packed: bool) -> None:
    volume = linear_volume(grid.shape, grid.affine)
    sitk.WriteImage(to_image(volume), str(tmp_path / f"a{ending}"), useCompression=packed)
    found = read_volume(tmp_path / f"a{ending}")
    assert found.shape == grid.shape
    np.testing.assert_array_equal(found.array, volume.array)
    np.testing.assert_allclose(found.affine, volume.affine, atol=1e-12, rtol=1e-12)
    assert linear_error(found) < 1e-3
    assert found.notes == ()


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_stored_types_are_kept(tmp_path: Path, dtype: str, ending: str) -> None:
    values = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(dtype)
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(values.T)), str(tmp_path / f"a{ending}"))
    found = read_volume(tmp_path / f"a{ending}")
    assert found.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.array, values)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_what_we_write_simpleitk_reads(tmp_path: Path, ending: str) -> None:
    grid = GRIDS["oblique"]
    volume = head_ct(grid.shape, grid.affine)
    write_volume(volume, tmp_path / f"a{ending}")
    image = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    assert image.GetPixelID() == sitk.sitkInt16
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, volume.array)
    for index in ((0, 0, 0), (3, 5, 7)):
        place = LPS_RAS[:3, :3] @ image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(place, (volume.affine @ [*index, 1])[:3], atol=1e-9)


VALUES = np.random.default_rng(4).integers(-1000, 1000, (4, 5, 6)).astype("<i2")


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_metaimage_by_hand(tmp_path: Path, modality: str) -> None:
    found = read_volume(write_mha(tmp_path / "a.mha", {"Modality": f"MET_MOD_{modality}"}, VALUES))
    np.testing.assert_array_equal(found.array, VALUES)
    np.testing.assert_allclose(found.affine, LPS_RAS @ make_affine("RAS", (1, 2, 3), origin=(10, 20, 30)))
    assert found.modality == modality


def test_big_endian(tmp_path: Path) -> None:
    big = {"BinaryDataByteOrderMSB": "True"}
    found = read_volume(write_mha(tmp_path / "a.mha", big, VALUES.astype(">i2")))
    np.testing.assert_array_equal(found.array, VALUES)
    assert found.array.dtype.isnative


def test_four_axes(tmp_path: Path) -> None:
    values = np.arange(4 * 5 * 6 * 3, dtype="<i2").reshape(4, 5, 6, 3)
    identity = " ".join("1" if n % 5 == 0 else "0" for n in range(16))
    size = {"NDims": "4", "DimSize": "4 5 6 3"}
    fields = size | {"TransformMatrix": identity, "Offset": "1 2 3 0", "ElementSpacing": "1 1 2 9"}
    path = write_mha(tmp_path / "a.mha", fields, values)
    with pytest.raises(AmbiguousError, match=r"3 volumes.*--volume N, 0 to 2"):
        read_volume(path)
    with pytest.raises(AmbiguousError, match="--volume 3"):
        read_volume(path, volume=3)
    for volume in range(3):
        found = read_volume(path, volume=volume)
        np.testing.assert_array_equal(found.array, values[..., volume])
        assert found.spacing_mm == (1, 1, 2)


def test_two_axes_are_one_slice_with_a_warning(tmp_path: Path) -> None:
    fields = {"NDims": "2", "DimSize": "4 5", "TransformMatrix": "1 0 0 1", "Offset": "3 4", "ElementSpacing": "2 2"}
    found = read_volume(write_mha(tmp_path / "a.mha", fields, VALUES[..., 0]))
    assert found.shape == (4, 5, 1)
    assert found.spacing_mm == (2, 2, 1)
    assert "two axes" in found.notes[0]


def test_an_origin_that_is_not_stated_is_reported(tmp_path: Path) -> None:
    found = read_volume(write_mha(tmp_path / "a.mha", {"Offset": None}, VALUES))
    assert "origin at 0" in found.notes[0]


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_axes_that_no_header_states(tmp_path: Path, ending: str) -> None:
    """ITK assumes LPS for these without a warning."""
    path = tmp_path / f"a{ending}"
    if ending == ".mha":
        write_mha(path, {"TransformMatrix": None}, VALUES)
    else:
        write_nrrd(path, {"space": None, "space directions": None, "space origin": None, "spacings": "1 2 3"}, VALUES)
    with pytest.raises(GeometryError, match=r"its header has no (TransformMatrix|space), so .*--assume-axes LPS if"):
        read_volume(path)
    (row,) = inspect_paths([path], ReadOptions()).volumes
    assert (row.verdict, row.options) == ("ok with options", ("--assume-axes LPS",))
    for axes in ("LPS", "RAS", "SLA"):
        found = read_volume(path, assume_axes=axes)
        np.testing.assert_allclose(found.affine[:3, :3], make_affine(axes, (1, 2, 3))[:3, :3])
        assert f"taken as {axes} (--assume-axes)" in " ".join(found.notes)
        np.testing.assert_array_equal(found.array, VALUES)
    origin = read_volume(path, assume_axes="RAS").affine[:3, 3]
    np.testing.assert_allclose(origin, read_volume(path, assume_axes="LPS").affine[:3, 3])
    np.testing.assert_allclose(origin, LPS_RAS[:3, :3] @ sitk.ReadImage(path).GetOrigin())


MHA_REFUSED = {
    "no spacing": ({"ElementSpacing": None}, "millimeters are not guessed"),
    "zero spacing": ({"ElementSpacing": "1 0 3"}, "above 0"),
    "negative spacing": ({"ElementSpacing": "1 -2 3"}, "above 0"),
    "two spacings": ({"ElementSpacing": "1 2"}, "3 finite numbers"),
    "offset of nan": ({"Offset": "nan 0 0"}, "3 finite numbers"),
    "direction of zero": ({"TransformMatrix": "0 0 0 0 1 0 0 0 1"}, "not of length 1"),
    "singular": ({"TransformMatrix": "0 1 0 0 1 0 0 0 1"}, "singular"),
    "direction too long": ({"TransformMatrix": "1 0 0 0 2 0 0 0 1"}, "not of length 1"),
    "no axes": ({"NDims": None}, "NDims is missing"),
    "five axes": ({"NDims": "5"}, "NDims is 5"),
    "a channel": ({"ElementNumberOfChannels": "3"}, "one number per voxel"),
    "a slope": ({"ElementToIntensityFunctionSlope": "2"}, "ITK ignores this scaling"),
    "text": ({"BinaryData": "False"}, "as text"),
    "header size": ({"HeaderSize": "-1"}, "skipped header"),
    "micrometres": ({"DistanceUnits": "um"}, "only mm"),
    "cut short": ({"DimSize": "4 5 7"}, "cut short"),
    "too long": ({"DimSize": "4 5 5"}, "bytes follow the last voxel"),
    "not compressed": ({"CompressedData": "True"}, "damaged"),
    "elsewhere": ({"ElementDataFile": "../b.raw"}, "same folder"),
    "missing raw": ({"ElementDataFile": "b.raw"}, "same folder"),
    "list": ({"ElementDataFile": "LIST"}, "same folder"),
    "scene": ({"ObjectType": "Scene"}, "only images"),
}  # fmt: skip


@pytest.mark.parametrize("case", MHA_REFUSED)
def test_a_metaimage_that_cannot_be_believed(tmp_path: Path, case: str) -> None:
    fields, reason = MHA_REFUSED[case]
    path = write_mha(tmp_path / "a.mha", fields, VALUES)
    with pytest.raises(MedCycleGANError, match=reason) as refusal:
        read_volume(path)
    assert str(refusal.value).startswith(str(path))


@pytest.mark.parametrize(
    ("space", "sign"),
    [("left-posterior-superior", (-1, -1)), ("LPS", (-1, -1)), ("right-anterior-superior", (1, 1)), ("LAS", (-1, 1))],
)
def test_nrrd_spaces(tmp_path: Path, space: str, sign: tuple[int, int]) -> None:
    found = read_volume(write_nrrd(tmp_path / "a.nrrd", {"space": space}, VALUES))
    np.testing.assert_array_equal(found.array, VALUES)
    expected = np.diag([*sign, 1, 1]) @ make_affine("RAS", (1, 2, 3), origin=(10, 20, 30))
    np.testing.assert_allclose(found.affine, expected)


def test_a_sheared_nrrd_is_kept_with_a_warning(tmp_path: Path) -> None:
    volume = linear_volume(TILTED_GRID.shape, TILTED_GRID.affine)
    vectors = " ".join("({},{},{})".format(*column) for column in (LPS_RAS @ volume.affine)[:3, :3].T)
    origin = "({},{},{})".format(*(LPS_RAS @ volume.affine)[:3, 3])
    fields = {"type": "float", "sizes": "12 14 10", "space directions": vectors, "space origin": origin}
    path = write_nrrd(tmp_path / "a.nrrd", fields, volume.array)
    found = read_volume(path)
    assert linear_error(found) < 1e-3
    assert "sheared affine (15 degrees" in found.notes[0]
    with pytest.raises(GeometryError, match="--resample-tilt works on DICOM series only"):
        read_volume(path, resample_tilt=True)


NRRD_REFUSED = {
    "no directions": ({"space directions": None}, "millimeters are not guessed"),
    "two vectors": ({"space directions": "(1,0,0) (0,2,0)"}, "vectors of three"),
    "lost number": ({"space origin": "(10,,30)"}, "vectors of three"),
    "nan": ({"space origin": "(nan,0,0)"}, "vectors of three"),
    "directions in no space": ({"space": None}, "RAS, LAS and LPS"),
    "scanner": ({"space": "scanner-xyz"}, "RAS, LAS and LPS"),
    "metres": ({"space units": '"m" "m" "m"'}, "only mm"),
    "old range": ({"old min": "0"}, "ITK ignores this scaling"),
    "skip": ({"byte skip": "2"}, "follow the header"),
    "detached": ({"data file": "a.raw"}, "follow the header"),
    "ascii": ({"encoding": "ascii"}, "raw and gzip"),
    "bzip2": ({"encoding": "bzip2"}, "raw and gzip"),
    "vectors": ({"kinds": "vector domain domain"}, "each axis must be spatial"),
    "four axes": ({"dimension": "4", "sizes": "4 5 6 1"}, "three axes"),
    "cut short": ({"sizes": "4 5 7"}, "cut short"),
    "too long": ({"sizes": "4 5 5"}, "bytes follow the last voxel"),
    "type": ({"type": "block"}, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", NRRD_REFUSED)
def test_a_nrrd_that_cannot_be_believed(tmp_path: Path, case: str) -> None:
    fields, reason = NRRD_REFUSED[case]
    path = write_nrrd(tmp_path / "a.nrrd", fields, VALUES)
    with pytest.raises(MedCycleGANError, match=reason) as refusal:
        read_volume(path)
    assert str(refusal.value).startswith(str(path))


def test_a_nrrd_origin_that_is_not_stated_is_reported(tmp_path: Path) -> None:
    found = read_volume(write_nrrd(tmp_path / "a.nrrd", {"space origin": None}, VALUES))
    assert len(found.notes) == 1
    assert found.spacing_mm == (1, 2, 3)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_no_flipped_bit_in_packed_voxels_goes_unseen(tmp_path: Path, ending: str) -> None:
    """SimpleITK returns a full-size image for most of these damaged .mha files."""
    path = tmp_path / f"a{ending}"
    write_volume(head_ct((10, 12, 8)), path)
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    first = len(content) - 900
    refused = 0
    for at in [*generator.integers(first, len(content) - 8, 100), *range(len(content) - 8, len(content))]:
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(ReadError):
            read_volume(path)
        refused += 1
    for cut in (1, 4, 100):
        path.write_bytes(content[:-cut])
        with pytest.raises(ReadError):
            read_volume(path)
    path.write_bytes(content + b"rubbish")
    with pytest.raises(ReadError):
        read_volume(path)
    assert refused == 108


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_max_voxels(tmp_path: Path, ending: str) -> None:
    write_volume(head_ct((4, 5, 6)), tmp_path / f"a{ending}")
    with pytest.raises(ReadError, match=r"4 x 5 x 6 = 120 voxels, more than 119.*--max-voxels 120"):
        read_volume(tmp_path / f"a{ending}", max_voxels=119)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd"])
def test_a_file_of_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(range(256)) * 9)
    with pytest.raises(ReadError, match=r"not a|not a MetaImage field"):
        read_volume(tmp_path / name)
