"""PNG and JPEG: the range of the bit depth, the orientation, and damaged files."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.phantoms import head_ct

from medcyclegan.errors import AmbiguousError, MedCycleGANError, ReadError, WriteError
from medcyclegan.io import read_volume, write_volume
from medcyclegan.io.images import IMAGE_AFFINE
from medcyclegan.volume import Volume

ROWS, COLUMNS = 24, 30
_y, _x = np.mgrid[:ROWS, :COLUMNS]
GREY8 = (_y * 8 + _x).astype(np.uint8)
GREY16 = (_y * 2500 + _x).astype(np.uint16)


def save(values: np.ndarray, path: Path, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize(("values", "highest"), [(GREY8, 255), (GREY16, 65535), (GREY16 // 100, 65535)])
def test_grey_png(tmp_path: Path, values: np.ndarray, highest: int) -> None:
    found = read_volume(save(values, tmp_path / "a.png"))
    assert found.shape == (COLUMNS, ROWS, 1)
    assert found.array.dtype == values.dtype
    np.testing.assert_array_equal(found.array[..., 0].T, values)
    assert found.value_range == (0, highest)  # the type's, whatever the picture holds
    assert found.modality is None
    np.testing.assert_array_equal(found.affine, np.diag([-1, -1, 1, 1]))
    assert found.orientation == "LPS"  # first row anterior, first column the patient's right
    assert found.notes == ()


def test_grey_jpeg(tmp_path: Path) -> None:
    found = read_volume(save(GREY8, tmp_path / "a.JPEG", quality=100))
    assert np.abs(found.array[..., 0].T.astype(int) - GREY8).max() <= 4
    assert found.value_range == (0, 255)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_grey_stored_as_colour_loses_nothing(tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = read_volume(save(GREY8, tmp_path / "a.png", mode))
    np.testing.assert_array_equal(found.array[..., 0].T, GREY8)
    assert caplog.text == ""
    assert "without loss" in found.notes[0]


def test_color_becomes_luminance_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    colours = np.dstack([GREY8, GREY8 // 2, GREY8 // 3])
    with caplog.at_level(logging.WARNING):
        found = read_volume(save(colours, tmp_path / "a.png"))
    assert "luminance" in caplog.text
    expected = colours @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(found.array[..., 0].T - expected).max() <= 1


def test_transparency_is_dropped_with_a_warning(tmp_path: Path) -> None:
    layers = np.dstack([GREY8, GREY8, GREY8, GREY8])
    found = read_volume(save(layers, tmp_path / "a.png"))
    assert "transparency" in found.notes[0]
    np.testing.assert_array_equal(found.array[..., 0].T, GREY8)


def test_black_and_white(tmp_path: Path) -> None:
    found = read_volume(save((GREY8 > 99).astype(np.uint8) * 255, tmp_path / "a.png", "1"))
    np.testing.assert_array_equal(found.array[..., 0].T, (GREY8 > 99) * 255)
    assert found.value_range == (0, 255)


def test_a_turned_photograph_is_put_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    found = read_volume(save(GREY8, tmp_path / "a.jpg", quality=100, exif=exif))
    assert np.abs(found.array[..., 0].T.astype(int) - np.rot90(GREY8, -1)).max() <= 4
    assert "EXIF" in found.notes[0]


def test_16_bit_colour_is_refused_not_cut_to_8(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = b"".join(b"\0" + row.astype(">u2").repeat(3).tobytes() for row in GREY16)
    header = struct.pack(">IIBBBBB", COLUMNS, ROWS, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(ReadError, match="save it as 16-bit grayscale"):
        read_volume(tmp_path / "a.png")


def test_an_animated_picture_is_refused(tmp_path: Path) -> None:
    first, second = Image.fromarray(GREY8), Image.fromarray(255 - GREY8)
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    with pytest.raises(ReadError, match="2 pictures in one file"):
        read_volume(tmp_path / "a.png")


@pytest.mark.parametrize("values", [GREY8, GREY16], ids=["8", "16"])
def test_no_damage_to_a_png_gives_wrong_pixels(tmp_path: Path, values: np.ndarray) -> None:
    path = save(values, tmp_path / "a.png")
    content = path.read_bytes()
    refused = 0
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(read_volume(path).array[..., 0].T, values)
        except MedCycleGANError:
            refused += 1
    assert refused > 0.8 * len(content)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_cut_short(tmp_path: Path, name: str) -> None:
    path = save(GREY8, tmp_path / name)
    content = path.read_bytes()
    for keep in (0, 10, len(content) // 2, len(content) - 14):
        path.write_bytes(content[:keep])
        with pytest.raises(ReadError, match="damaged"):
            read_volume(path)


def test_a_picture_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"GIF89a" + bytes(99))
    with pytest.raises(ReadError, match="not a PNG or JPEG picture"):
        read_volume(tmp_path / "a.png")


def test_size_is_checked_before_it_is_decoded(tmp_path: Path) -> None:
    path = save(np.zeros((12000, 12000), np.uint8), tmp_path / "a.png")  # beyond Pillow's own warning
    with pytest.raises(ReadError, match=r"12000 x 12000 pixels, more than 1000000.*--max-voxels 144000000"):
        read_volume(path, max_voxels=10**6)


def test_volume_numbers_do_not_apply(tmp_path: Path) -> None:
    path = save(GREY8, tmp_path / "a.png")
    assert read_volume(path, volume=0).shape == (COLUMNS, ROWS, 1)
    with pytest.raises(AmbiguousError, match="one volume"):
        read_volume(path, volume=1)


@pytest.mark.parametrize("values", [GREY8, GREY16], ids=["8", "16"])
def test_a_png_comes_back(tmp_path: Path, values: np.ndarray) -> None:
    found = read_volume(save(values, tmp_path / "in.png"))
    write_volume(found, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == ("L" if values is GREY8 else "I;16")
        np.testing.assert_array_equal(np.asarray(image), values)


def test_values_are_rounded_and_clipped(tmp_path: Path) -> None:
    values = np.array([[-3.0, 0.5, 1.5, 254.6, 300.0]], np.float32).T[..., None]
    write_volume(Volume(values, IMAGE_AFFINE, value_range=(0, 255)), tmp_path / "a.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.png").array.ravel(), [0, 0, 2, 255, 255])


def test_a_jpeg_goes_out(tmp_path: Path) -> None:
    write_volume(read_volume(save(GREY8, tmp_path / "in.png")), tmp_path / "out.jpg")
    assert np.abs(read_volume(tmp_path / "out.jpg").array[..., 0].T.astype(int) - GREY8).max() <= 8


def test_a_picture_becomes_a_volume_file(tmp_path: Path) -> None:
    found = read_volume(save(GREY16, tmp_path / "in.png"))
    write_volume(found, tmp_path / "out.nii.gz")
    back = read_volume(tmp_path / "out.nii.gz")
    assert back.shape == found.shape
    np.testing.assert_array_equal(back.array, found.array)
    np.testing.assert_array_equal(back.affine, found.affine)


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({"value_range": None}, "a.png", "read from a picture"),
        ({"value_range": (0, 4095)}, "a.png", "read from a picture"),
        ({"array": np.zeros((3, 3, 2))}, "a.png", "read from a picture"),
        ({"affine": np.eye(4)}, "a.png", "position in space"),
        ({"array": np.full((3, 3, 1), np.nan)}, "a.png", "not finite"),
        ({"value_range": (0, 65535)}, "a.jpg", "16: name a .png"),
    ],
)
def test_what_a_picture_cannot_hold(tmp_path: Path, changes: dict, name: str, reason: str) -> None:
    volume = Volume(np.zeros((3, 3, 1)), IMAGE_AFFINE, value_range=(0, 255)).replace(**changes)
    with pytest.raises(WriteError, match=reason):
        write_volume(volume, tmp_path / name)
    with pytest.raises(WriteError, match="read from a picture"):
        write_volume(head_ct(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
