"""The head mask against synthetic heads of known extent."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medcyclegan.errors import IntensityError
from medcyclegan.metrics import erode_mm, head_mask
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume, tissue_index
from medcyclegan.volume import Volume


@pytest.fixture(scope="module")
def head():
    return make_head(6)


def dice(first, second):
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.parametrize("image", [t1_volume, t2_volume, ct_volume])
def test_it_covers_the_head_and_nothing_else(head, image):
    tissue = head.fractions[tissue_index("air")] < 0.5
    whole = np.stack([ndimage.binary_fill_holes(tissue[:, :, k]) for k in range(tissue.shape[2])], axis=2)
    mask = head_mask(image(head))
    assert mask.dtype == np.bool_
    assert dice(mask, whole) > 0.97
    brain = head.fractions[tissue_index("white matter")] > 0.9
    assert mask[brain].all()


def test_a_couch_is_left_out(head):
    volume = ct_volume(head)
    array = volume.array.copy()
    array[:, 1:3, :] = 200
    with_couch = head_mask(volume.replace(array=array))
    assert not with_couch[:, 1:3].any()
    assert dice(with_couch, head_mask(volume)) > 0.99


def test_a_single_slice_is_filled():
    head = make_head(6, shape=(96, 120, 3))
    volume = t1_volume(head)
    one = Volume(volume.array[:, :, 1:2], volume.affine, modality="MR")
    mask = head_mask(one)
    assert mask.shape == (96, 120, 1)
    assert mask[48, 60, 0]
    assert ndimage.binary_fill_holes(mask[:, :, 0]).sum() == mask.sum()


def test_a_large_volume_is_masked_on_a_coarser_grid(head):
    volume = t1_volume(head)
    large = Volume(volume.array.repeat(3, 0).repeat(3, 1), volume.affine @ np.diag([1 / 3, 1 / 3, 1, 1]), modality="MR")
    mask = head_mask(large)
    assert mask.shape == large.shape
    assert dice(mask, head_mask(volume).repeat(3, 0).repeat(3, 1)) > 0.97


def test_a_constant_volume_is_refused():
    with pytest.raises(IntensityError, match="constant"):
        head_mask(Volume(np.zeros((5, 5, 5)), np.eye(4)))


def test_erosion_is_in_millimetres():
    mask = np.zeros((21, 21, 21), dtype=bool)
    mask[2:19, 2:19, 2:19] = True
    eroded = erode_mm(mask, (1.0, 2.0, 4.0), 3.5)
    assert [int(eroded.any(axis=tuple(n for n in range(3) if n != axis)).sum()) for axis in range(3)] == [11, 15, 17]


def test_erosion_stops_at_the_edge_of_the_grid():
    mask = np.ones((9, 9, 9), dtype=bool)
    assert erode_mm(mask, (1, 1, 1), 3).all()
    mask[0] = False
    assert erode_mm(mask, (1, 1, 1), 3)[4:].all()
    assert not erode_mm(mask, (1, 1, 1), 3)[:4].any()


@pytest.mark.parametrize(("modality", "inside"), [("MR", True), ("CT", False)])
def test_dark_tissue_counts_in_mr_and_not_in_ct(modality, inside):
    """Otsu's threshold is halfway between air and bright tissue: half of it includes dark tissue, in MR alone."""
    array = np.full((40, 40, 12), -200.0 if modality == "CT" else 0.0, dtype=np.float32)
    low, high = (0.0, 200.0) if modality == "CT" else (200.0, 400.0)
    array[8:32, 8:32, 2:10] = high
    array[16:24, 32:39, 4:8] = low - 60.0 if modality == "CT" else 150.0
    mask = head_mask(Volume(array, np.diag([1.0, 1.0, 1.0, 1.0]), modality=modality))
    assert mask[10:30, 10:30, 3:9].all()
    assert mask[18:22, 37, 5:7].all() == inside


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 4.0), (4.0, 1.0, 1.0), (1.0, 4.0, 1.0)])
@pytest.mark.parametrize(("gap_mm", "closed"), [(6, True), (12, False)])
def test_gaps_are_closed_up_to_a_width_in_mm(spacing_mm, gap_mm, closed):
    """The gap, open on three sides, is across each axis in turn; its width is the same in mm."""
    for axis in range(3):
        shape = [round(64 / mm) for mm in spacing_mm]
        array = np.zeros(shape, dtype=np.float32)
        array[tuple(slice(n // 8, n - n // 8) for n in shape)] = 100.0
        width = max(1, round(gap_mm / spacing_mm[axis]))
        if width * spacing_mm[axis] > 8 and closed:
            continue
        start = shape[axis] // 2
        cut = [slice(None)] * 3
        cut[axis] = slice(start, start + width)
        other = (axis + 1) % 3
        cut[other] = slice(0, shape[other] // 2)
        array[tuple(cut)] = 0.0
        mask = head_mask(Volume(array, np.diag([*spacing_mm, 1.0]), modality="MR"))
        middle = [n // 2 for n in shape]
        middle[axis], middle[other] = start, shape[other] // 4
        assert mask[tuple(middle)] == closed, (axis, spacing_mm)
