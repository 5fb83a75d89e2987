"""Panels and PNG bytes: every tile shows the slice it is labelled with."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medcyclegan.pictures import comparison_panel, png_bytes, training_panel

NAMES = ("real_A", "fake_B", "rec_A", "idt_A", "real_B", "fake_A", "rec_B", "idt_B")


def flat_slices(size=256):
    return {name: np.full((size, size), -1 + n / 4, dtype=np.float32) for n, name in enumerate(NAMES)}


def middle_greys(panel, rows, columns):
    """The grey in the middle of each tile of an evenly divided panel."""
    pixels = np.asarray(panel.convert("L"))
    centres = [
        [int((n + 0.5) * length / parts) for n in range(parts)]
        for length, parts in zip(pixels.shape, (rows, columns), strict=True)
    ]
    return pixels[np.ix_(*centres)]


def test_training_panel_is_a_above_b_from_real_to_identity():
    greys = middle_greys(training_panel(flat_slices(), ("t1", "t2")), 2, 4)
    np.testing.assert_array_equal(greys.ravel(), np.rint(np.arange(8) / 8 * 255).astype(np.uint8))


def test_training_panel_without_identity_has_three_columns():
    images = {name: plane for name, plane in flat_slices().items() if not name.startswith("idt")}
    panel = training_panel(images, ("t1", "t2"))
    assert panel.width < training_panel(flat_slices(), ("t1", "t2")).width
    assert middle_greys(panel, 2, 3).ravel().tolist() == [0, 32, 64, 128, 159, 191]


def test_training_panel_titles_each_tile_differently():
    panel = np.asarray(training_panel(flat_slices(), ("t1", "t2")).convert("L"))
    titles = [panel[top : top + 20, 4 + n * 260 : 260 + n * 260] for top in (4, 284) for n in range(4)]
    assert all((title > 150).sum() > 50 for title in titles)
    assert len({title.tobytes() for title in titles}) == 8


def test_small_slices_are_enlarged_without_changing_their_rows():
    ramp = np.tile(np.linspace(-1, 1, 32, dtype=np.float32)[:, None], (1, 32))
    panel = training_panel(dict.fromkeys(NAMES, ramp), ("t1", "t2"))
    assert panel.width > 4 * 190
    column = np.asarray(panel.convert("L"))[30:200, 100].astype(int)
    assert (np.diff(column) >= 0).all()


def test_comparison_shows_the_absolute_error_in_heat():
    row = {"input": np.zeros((64, 64)), "fake": np.full((64, 64), 3.0), "truth": np.full((64, 64), 5.0)}
    ranges = {"input": (-1.0, 1.0), "fake": (0.0, 10.0), "truth": (0.0, 10.0)}
    panel = comparison_panel([row, row], ranges=ranges, error_range=2.0, unit="HU")
    assert middle_greys(panel, 2, 4).tolist() == [[128, 76, 128, 255]] * 2
    dark = comparison_panel([{**row, "fake": row["truth"]}], ranges=ranges, error_range=2.0)
    assert middle_greys(dark, 1, 4)[0, 3] == 0


def test_png_bytes_hold_the_picture_and_are_the_same_each_time():
    panel = training_panel(flat_slices(64), ("t1", "t2"))
    data = png_bytes(panel)
    assert data == png_bytes(panel)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(panel))


def test_a_panel_without_its_slices_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="max"):
        training_panel({}, ("t1", "t2"))


def test_further_planes_have_their_own_columns() -> None:
    names = ("input", "fake", "other", "truth")
    row = {name: np.full((8, 8), value, np.float32) for name, value in zip(names, (0.0, 0.2, 0.9, 0.2), strict=True)}
    ranges = dict.fromkeys(names, (0.0, 1.0))
    three, four = (comparison_panel([row], ranges=ranges, error_range=1.0, names=own) for own in (names[::3], names))
    assert four.width > three.width
    white = [np.asarray(image.convert("L"))[three.height // 2 :].max() for image in (three, four)]
    assert white[0] < 100 < 200 < white[1]
