"""Previews: the right side, the right proportions, the stamp."""

from __future__ import annotations

import numpy as np
import pytest

from medcyclegan.pictures import preview
from medcyclegan.volume import Volume

SHAPE = (40, 60, 20)
SPACING = (3.0, 2.0, 4.0)


def marked(codes="RAS", modality="MR"):
    """A grey box in air, bright in its right anterior superior corner, its axes in the order of ``codes``."""
    array = np.zeros(SHAPE, dtype=np.float32)
    array[4:-4, 4:-4, 2:-2] = 100
    array[20:-4, 30:-4, 10:-2] = 200
    order = [next(n for n, pair in enumerate(("RL", "AP", "SI")) if code in pair) for code in codes]
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    array = array.transpose(order)
    for axis, (code, world) in enumerate(zip(codes, order, strict=True)):
        sign = 1 if code in "RAS" else -1
        affine[world, axis] = sign * SPACING[world]
        if sign < 0:
            array = np.flip(array, axis)
            affine[world, 3] = SPACING[world] * (SHAPE[world] - 1)
    return Volume(array, affine, modality=modality)


def quadrants(picture, top, left, height, width):
    """Mean greys of a tile's quadrants: rows top and bottom, columns left and right."""
    pixels = np.asarray(picture.convert("L"))[top : top + height, left : left + width].astype(float)
    rows, columns = height // 2, width // 2
    return np.array(
        [
            [pixels[:rows, :columns].mean(), pixels[:rows, columns:].mean()],
            [pixels[rows:, :columns].mean(), pixels[rows:, columns:].mean()],
        ]
    )


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "LIA", "SAL"])
def test_every_orientation_is_shown_the_same_way(codes):
    first, turned = preview({"input": marked()}), preview({"input": marked(codes)})
    assert first.size == turned.size
    np.testing.assert_array_equal(np.asarray(first), np.asarray(turned))


def test_radiological_display_puts_right_and_anterior_on_the_left():
    picture = preview({"input": marked()})
    longest = max(n * mm for n, mm in zip(SHAPE, SPACING, strict=True))
    width, height = round(120 * 320 / longest), round(120 * 320 / longest)
    left = 4 + (max(width, 320) - width) // 2
    axial = quadrants(picture, 24, left, height, width)
    assert axial.argmax() == 0
    assert axial[0, 0] > 1.5 * axial[1, 1]


def test_proportions_are_those_of_the_patient():
    """A 120 x 120 x 80 mm box: the axial tile is square, the coronal one 2 : 3."""
    box = np.zeros((64, 44, 24), dtype=np.float32)
    box[12:52, 12:32, 2:22] = 1
    picture = preview({"input": Volume(box, np.diag([3.0, 6.0, 4.0, 1.0]), modality="MR")})
    pixels = np.asarray(picture.convert("L")) > 100
    pixels[:, :40] = False
    scale = 320 / (44 * 6)
    height_axial = pixels[24 : 24 + round(264 * scale), picture.width // 2 - 20].sum()
    assert height_axial == pytest.approx(120 * scale, abs=4)
    width_axial = pixels[24 + round(110 * scale)].sum()
    assert width_axial == pytest.approx(120 * scale, abs=6)
    top = 4 + 20 + round(264 * scale) + 20 + 4 + 20
    height_coronal = pixels[top : top + round(96 * scale), picture.width // 2 - 20].sum()
    assert height_coronal == pytest.approx(80 * scale, abs=4)


def test_ct_is_windowed_in_hu():
    array = np.full((30, 30, 30), -1000, dtype=np.int16)
    array[3:-3, 3:-3, 3:-3] = 40
    picture = preview({"input": Volume(array, np.eye(4), modality="CT")})
    pixels = np.asarray(picture.convert("L"))
    assert pixels[24 + 100, 4 + 100] == 128
    assert pixels[24 + 5, 4 + 5] == 0


def test_every_volume_is_a_column_and_the_stamp_is_below():
    one = preview({"input": marked()})
    three = preview({"input": marked(), "synthetic CT": marked(modality="CT"), "uncertainty": marked(modality=None)})
    assert three.width > 2.9 * (one.width - 8)
    stamp = np.asarray(three)[-24:]
    assert (stamp[:, 0] == (96, 16, 16)).all()
    assert (stamp == 235).any()


def test_a_single_slice_is_one_plane():
    plane = Volume(np.eye(32, dtype=np.float32)[:, :, None], np.diag([-1.0, -1.0, 1.0, 1.0]), value_range=(0.0, 1.0))
    picture = preview({"input": plane})
    assert picture.height < 420
    assert picture.width < 340


def test_an_empty_volume_is_shown_black():
    picture = preview({"input": Volume(np.zeros((8, 8, 8), dtype=np.float32), np.eye(4), modality="MR")})
    assert np.asarray(picture.convert("L"))[40, 60] == 0


def test_the_uncertainty_map_is_a_last_column_in_colour():
    volume = marked()
    uncertainty = volume.replace(array=np.where(volume.array > 150, 50, 0).astype(np.float32), modality=None)
    plain = np.asarray(preview({"input": volume}).convert("RGB")).astype(int)
    shown = np.asarray(preview({"input": volume}, uncertainty=uncertainty, unit="HU").convert("RGB")).astype(int)
    assert shown.shape[1] > 1.8 * plain.shape[1]
    body = shown[: shown.shape[0] - 30]
    warm = body[..., 0] - body[..., 2] > 60
    assert not warm[:, : plain.shape[1]].any()
    assert warm[:, plain.shape[1] :].any() or (body[:, plain.shape[1] :] > 250).all(axis=2).any()


@pytest.mark.parametrize("shape", [(9, 1, 1), (1, 9, 1), (1, 1, 9), (1, 1, 1)])
def test_a_line_of_voxels_is_shown_in_every_plane(shape):
    line = Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), np.diag([*SPACING, 1]), modality="MR")
    shown = np.asarray(preview({"input": line, "synthetic": line}, uncertainty=line))
    slab = np.asarray(preview({"input": Volume(np.zeros((9, 9, 1), np.float32), np.eye(4), modality="MR")}))
    assert shown.shape[0] > 3 * 40, "three labelled planes"
    assert slab.shape[0] < 400, "one plane where the others would be lines"
