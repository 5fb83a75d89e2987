"""Stacks that match their rows are read, others are refused by name; few are open at a time."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.stores import make_row, make_store

from medcyclegan.data import SliceIndex, StackReader, check_stacks, stacks
from medcyclegan.data.stacks import open_stack
from medcyclegan.errors import StoreError


def stack(value: float, count: int = 3, size: int = 32) -> np.ndarray:
    return np.full((count, size, size), value, dtype=np.float32)


def test_index_finds_every_slice_of_every_row() -> None:
    rows = [make_row("t1", number, (count, 32, 32)) for number, count in enumerate((2, 1, 4))]
    index = SliceIndex(rows)
    found = [index.find(number) for number in range(len(index))]
    assert len(index) == 7
    assert found == [(row, place) for row in index.rows for place in range(len(row.slices))]
    assert index.heights.tolist() == [row.heights[place] for row, place in found]


@pytest.mark.parametrize(("count", "expected"), [(1, [5]), (2, [2, 7]), (10, list(range(10))), (50, list(range(10)))])
def test_spread_is_even_and_never_repeats(count: int, expected: list[int]) -> None:
    assert SliceIndex([make_row("t1", 0, (10, 32, 32))]).spread(count) == expected


def test_slices_are_read_as_float32_copies(tmp_path: Path) -> None:
    (row,) = make_store(tmp_path, {"t1": [stack(0.5)]})
    image = StackReader(tmp_path).read(row, 1)
    assert image.dtype == np.float32
    assert image.shape == (32, 32)
    assert (image == 0.5).all()
    image[:] = 0  # must not reach the file
    assert (StackReader(tmp_path).read(row, 1) == 0.5).all()


def test_many_stacks_do_not_exhaust_the_open_files(tmp_path: Path) -> None:
    rows = make_store(tmp_path, {"t1": [stack(number / 256, count=1) for number in range(200)]})
    before = len(os.listdir("/proc/self/fd"))
    reader = StackReader(tmp_path)
    for _ in range(2):
        for row in rows:
            assert reader.read(row, 0)[0, 0] == (row.scaling["upper"] - 100) / 256
    assert len(os.listdir("/proc/self/fd")) - before <= 66


def test_a_stack_is_opened_once_and_the_one_used_longest_ago_is_closed_first(tmp_path: Path, monkeypatch) -> None:
    rows = make_store(tmp_path, {"t1": [stack(number / 8, count=1) for number in range(6)]})
    opened = []
    monkeypatch.setattr(stacks, "_MOST_OPEN", 4)
    monkeypatch.setattr(stacks, "open_stack", lambda store, row: opened.append(row) or open_stack(store, row))
    reader = StackReader(tmp_path)
    for number in (0, 1, 2, 3, 0, 3, 0):
        assert reader.read(rows[number], 0)[0, 0] == number / 8
    assert opened == rows[:4]
    reader.read(rows[4], 0)  # in the place of 1
    for number in (0, 2, 3, 4):
        assert reader.read(rows[number], 0)[0, 0] == number / 8
    assert opened == rows[:5]
    reader.read(rows[1], 0)
    assert opened == [*rows[:5], rows[1]]


def test_check_returns_the_size(tmp_path: Path) -> None:
    assert check_stacks(tmp_path, make_store(tmp_path, {"t1": [stack(0)]})) == 32
    assert check_stacks(tmp_path, make_store(tmp_path, {"t1": [stack(0)], "t2": [stack(1)]})) == 32


def damage_nothing_left(path: Path) -> None:
    path.unlink()


def damage_cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_no_array(path: Path) -> None:
    path.write_bytes(b"not an array" * 50)


def damage_other_shape(path: Path) -> None:
    np.save(path, stack(0, count=2).astype(np.float16))


def damage_other_type(path: Path) -> None:
    np.save(path, stack(0).astype(np.int16))


def damage_objects(path: Path) -> None:
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_nothing_left, "is missing"),
        (damage_cut_short, "is damaged"),
        (damage_no_array, "is damaged"),
        (damage_other_shape, r"holds float16 \(2, 32, 32\).*\(3, 32, 32\)"),
        (damage_other_type, "holds int16"),
        (damage_objects, "is damaged"),
    ],
)
def test_a_stack_that_differs_from_its_row_is_refused_by_name(tmp_path: Path, damage, reason: str) -> None:
    rows = make_store(tmp_path, {"t1": [stack(0), stack(1)]})
    damage(tmp_path / rows[1].file)
    with pytest.raises(StoreError, match=f"{rows[1].case}.npy {reason}.*slice-volumes again"):
        check_stacks(tmp_path, rows)
    with pytest.raises(StoreError, match=f"{rows[1].case}.npy {reason}"):
        StackReader(tmp_path).read(rows[1], 0)


@pytest.mark.parametrize(("key", "value"), [("size", 64), ("fit", "stretch"), ("pixel_mm", 2.0)])
def test_stacks_made_in_different_ways_are_refused(tmp_path: Path, key: str, value: object) -> None:
    rows = make_store(tmp_path, {"t1": [stack(0)]})
    other = make_row("t1", 1, (3, 32, 32), preparation={**rows[0].preparation, key: value})
    np.save(tmp_path / other.file, stack(0))
    with pytest.raises(StoreError, match=f"with {key} {value}, others with {rows[0].preparation[key]}: slice all"):
        check_stacks(tmp_path, [*rows, other])


def test_an_image_has_one_channel(tmp_path: Path) -> None:
    (row,) = make_store(tmp_path, {"t1": [np.arange(4, dtype=np.float32)[:, None, None] / 4 + np.zeros((4, 32, 32))]})
    image = StackReader(tmp_path).read_image(row, 3)
    assert image.shape == (1, 32, 32)
    assert (image == 0.75).all()
