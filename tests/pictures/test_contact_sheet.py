"""Contact sheets: evenly spaced slices, a row a case, no names."""

from __future__ import annotations

import numpy as np

from medcyclegan.pictures import contact_sheet


def ramp_stack(slices, height=64, width=64):
    """Slice k is flat, from -1 (first) to 1 (last)."""
    levels = np.linspace(-1, 1, slices, dtype=np.float16)
    return np.broadcast_to(levels[:, None, None], (slices, height, width))


def row_greys(sheet, row, columns):
    pixels = np.asarray(sheet.convert("L")).astype(int)
    left = sheet.width - columns * 100
    return pixels[4 + row * 100 + 48, [left + 100 * n + 48 for n in range(columns)]]


def test_slices_ascend_evenly_from_left_to_right():
    greys = row_greys(contact_sheet([ramp_stack(120)]), 0, 12)
    np.testing.assert_allclose(greys, (np.arange(12) + 0.5) / 12 * 255, atol=3)


def test_a_short_case_shows_each_slice_once():
    sheet = contact_sheet([ramp_stack(120), ramp_stack(3)])
    greys = row_greys(sheet, 1, 12)
    assert greys[:3].tolist() == [0, 128, 255]
    assert (greys[3:] == 24).all()


def test_labels_replace_the_numbers():
    plain = contact_sheet([ramp_stack(5)] * 2)
    assert contact_sheet([ramp_stack(5)] * 2, labels=["1", "2"]).tobytes() == plain.tobytes()
    other = contact_sheet([ramp_stack(5)] * 2, labels=["1", "9"])
    assert other.size == plain.size
    pixels, others = np.asarray(plain), np.asarray(other)
    assert (pixels[:100] == others[:100]).all()
    assert (pixels[100:] != others[100:]).any()
    assert contact_sheet([ramp_stack(5)], labels=["0a1b2c3d"]).width > plain.width


def test_proportions_are_kept():
    bright = np.ones((1, 32, 64), dtype=np.float32)
    pixels = np.asarray(contact_sheet([bright]).convert("L"))
    lit = pixels == 255
    assert abs(lit.any(axis=0)[20:].sum() - 2 * lit[:, 30:].any(axis=1).sum()) <= 2


def test_many_cases_are_thinned_and_the_sheet_states_it():
    one = contact_sheet([ramp_stack(2)] * 40, columns=2)
    many = contact_sheet([ramp_stack(2)] * 400, columns=2)
    assert many.height == one.height + 20
    assert (np.asarray(many)[-20:] == 235).any()


def test_only_the_slices_shown_are_read(tmp_path):
    path = tmp_path / "stack.npy"
    np.save(path, np.asarray(ramp_stack(50)))
    from_disk = contact_sheet([np.load(path, mmap_mode="r")], columns=5)
    assert from_disk.tobytes() == contact_sheet([ramp_stack(50)], columns=5).tobytes()
