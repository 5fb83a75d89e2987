"""Samples are a pure function of seed and number; batches contain the slices of their samples."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from support.stores import make_row, make_store

from medcyclegan.data import HEIGHT_BAND, Sampling, Stream, UnpairedSlices, random_at, unpaired
from medcyclegan.manifest import SliceRow

SIZE = 32


def coded_stack(domain_code: int, volume: int, count: int) -> np.ndarray:
    """Return identifiable slices: two pixels hold volume and slice numbers, and the left half is dark."""
    stack = np.zeros((count, SIZE, SIZE), dtype=np.float16)
    stack[:, :, : SIZE // 2] = -0.5
    stack[:, 0, :] = domain_code / 8
    stack[:, 1, :] = volume / 8
    stack[:, 2, :] = np.arange(count)[:, None] / 64
    return stack


@pytest.fixture
def rows(tmp_path: Path) -> list[SliceRow]:
    stacks = {
        "t1": [coded_stack(1, volume, count) for volume, count in enumerate((5, 3, 9))],
        "t2": [coded_stack(2, volume, count) for volume, count in enumerate((4, 7))],
    }
    return make_store(tmp_path, stacks)


def build(rows: list[SliceRow], store: Path, **sampling) -> UnpairedSlices:
    return UnpairedSlices(
        [r for r in rows if r.domain == "t1"], [r for r in rows if r.domain == "t2"], store, Sampling(**sampling)
    )


def decode(images: torch.Tensor) -> list[tuple[float, float, float]]:
    return [(float(i[0, 0, 0]) * 8, float(i[0, 1, 0]) * 8, float(i[0, 2, 0]) * 64) for i in images]


def test_samples_do_not_depend_on_what_was_drawn_before(rows, tmp_path) -> None:
    forwards = build(rows, tmp_path, seed=3, flip_probability=0.5)
    backwards = build(list(reversed(rows)), tmp_path, seed=3, flip_probability=0.5)
    numbers = list(range(100))
    first = [forwards.sample(i) for i in numbers]
    second = [backwards.sample(i) for i in reversed(numbers)]
    assert first == second[::-1]
    assert first != [build(rows, tmp_path, seed=4, flip_probability=0.5).sample(i) for i in numbers]


def test_batches_are_those_of_a_run_that_was_never_interrupted(rows, tmp_path) -> None:
    whole = build(rows, tmp_path, batch_size=3, flip_probability=0.5)
    expected = [whole.batch(step) for step in range(12)]
    resumed = build(rows, tmp_path, batch_size=3, flip_probability=0.5)
    for step in (7, 8, 9, 10, 11):
        for ours, theirs in zip(resumed.batch(step), expected[step], strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("stream", [0, 1])
def test_every_slice_comes_once_a_pass_and_in_a_new_order(rows, tmp_path, stream) -> None:
    slices = build(rows, tmp_path)
    count = len((slices.slices_A, slices.slices_B)[stream])
    passes = [[slices.sample(i).slices[stream] for i in range(p * count, (p + 1) * count)] for p in range(4)]
    assert all(sorted(one) == list(range(count)) for one in passes)
    assert len({tuple(one) for one in passes}) == 4


def test_an_epoch_passes_once_through_the_larger_domain(rows, tmp_path) -> None:
    assert build(rows, tmp_path).epoch_length == 17
    assert build(rows, tmp_path, batch_size=4).epoch_length == 5


def test_a_batch_holds_the_slices_that_its_samples_name(rows, tmp_path) -> None:
    slices = build(rows, tmp_path, batch_size=4)
    real_A, real_B = slices.batch(2)
    assert real_A.shape == real_B.shape == (4, 1, SIZE, SIZE)
    assert real_A.dtype == real_B.dtype == torch.float32
    assert type(real_A) is torch.Tensor
    for offset, (code_A, code_B) in enumerate(zip(decode(real_A), decode(real_B), strict=True)):
        sample = slices.sample(8 + offset)
        row_A, place_A = slices.slices_A.find(sample.slices[0])
        row_B, place_B = slices.slices_B.find(sample.slices[1])
        ends_A, ends_B = row_A.scaling["upper"], row_B.scaling["upper"]  # 100 + number of the volume
        assert code_A == (1, ends_A - 100, place_A)
        assert code_B == (2, ends_B - 100, place_B)


def test_flips_mirror_left_and_right_for_each_domain_apart(rows, tmp_path) -> None:
    slices = build(rows, tmp_path, batch_size=200, flip_probability=0.3)
    flips = [slices.sample(i).flips for i in range(200)]
    for images, flipped in zip(slices.batch(0), zip(*flips, strict=True), strict=True):
        dark_left = images[:, 0, 5, 0] < images[:, 0, 5, -1]
        assert dark_left.tolist() == [not f for f in flipped]
        assert 0.2 < sum(flipped) / 200 < 0.4
    assert len(set(flips)) == 4
    assert not any(any(build(rows, tmp_path).sample(i).flips) for i in range(50))
    assert all(all(build(rows, tmp_path, flip_probability=1.0).sample(i).flips) for i in range(50))


@pytest.mark.parametrize("pairing", ["uniform", "height"])
def test_processes_share_out_the_batch_of_one(rows, tmp_path, pairing) -> None:
    one = build(rows, tmp_path, batch_size=4, flip_probability=0.5, pairing=pairing)
    shares = [
        build(rows, tmp_path, batch_size=4, flip_probability=0.5, pairing=pairing, rank=r, world=2) for r in (0, 1)
    ]
    for step in (0, 9):
        whole = one.batch(step)
        parts = [share.batch(step) for share in shares]
        for domain in (0, 1):
            assert torch.equal(whole[domain], torch.cat([part[domain] for part in parts]))
    assert shares[0].epoch_length == one.epoch_length


def test_pairing_by_height_stays_within_the_band(tmp_path) -> None:
    rows = [
        make_row("t1", 0, (40, SIZE, SIZE)),
        make_row("t2", 0, (60, SIZE, SIZE)),
        make_row("t2", 1, (50, SIZE, SIZE)),
    ]
    slices = build(rows, tmp_path, pairing="height")
    differences, seen = [], Counter()
    for i in range(2000):
        sample = slices.sample(i)
        height_A = slices.slices_A.heights[sample.slices[0]]
        differences.append(slices.slices_B.heights[sample.slices[1]] - height_A)
        seen[sample.slices[1]] += 1
    assert max(np.abs(differences)) <= HEIGHT_BAND
    # Equally often below and above, up to both ends of the band.
    assert min(differences) < -0.9 * HEIGHT_BAND
    assert max(differences) > 0.9 * HEIGHT_BAND
    assert abs(np.mean(differences)) < HEIGHT_BAND / 20
    assert 0.45 < np.mean(np.array(differences) > 0) < 0.55
    assert len(seen) == 110


def test_the_band_is_as_wide_below_as_above(tmp_path) -> None:
    """Heights of B are in steps of 0.01; whether the edges of the band belong to it depends on rounding."""
    rows = [make_row("t1", 0, (11, SIZE, SIZE)), make_row("t2", 0, (101, SIZE, SIZE))]
    slices = build(rows, tmp_path, pairing="height")
    chosen = {round(100 * slices.slices_B.heights[slices._slice_at_height(0.5, n / 1000)]) for n in range(1000)}
    assert chosen - {45, 55} == set(range(46, 55))


def test_slices_of_one_height_are_in_the_order_of_the_index(tmp_path) -> None:
    """With an unstable sort, another machine might order them differently and draw another slice."""
    rows = [make_row("t1", 0, (3, SIZE, SIZE)), *(make_row("t2", number, (7, SIZE, SIZE)) for number in range(40))]
    slices = build(rows, tmp_path, pairing="height")
    heights = slices.slices_B.heights
    assert slices._by_height.tolist() == sorted(range(len(heights)), key=lambda number: heights[number])


def test_a_pass_is_shuffled_once(rows, tmp_path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(
        unpaired,
        "random_at",
        lambda seed, stream, counter: drawn.append((stream, counter)) or random_at(seed, stream, counter),
    )
    slices = build(rows, tmp_path)
    for i in range(34):
        slices.sample(i)
    of_A = [counter for stream, counter in drawn if stream == Stream.PASS_A]
    of_B = [counter for stream, counter in drawn if stream == Stream.PASS_B]
    assert (of_A, of_B) == ([0, 1], [0, 1, 2, 3])


def test_random_numbers_do_not_change_from_version_to_version() -> None:
    """The same seed gives the same samples in every version, on every machine."""
    words = [
        random_at(seed, stream, counter).bit_generator.random_raw(2).tolist()
        for seed, stream, counter in ((0, Stream.SAMPLE, 0), (7, Stream.POOL_B, 0), (7, Stream.POOL_B, 12345))
    ]
    assert words == [
        [213000021201967259, 4455796210202625458],
        [10178753427918985433, 385477333659443678],
        [3279099501880363934, 15068510813730458814],
    ]


def test_pairing_by_height_takes_the_nearest_where_the_band_is_empty(tmp_path) -> None:
    rows = [make_row("t1", 0, (11, SIZE, SIZE)), make_row("t2", 0, (2, SIZE, SIZE))]
    slices = build(rows, tmp_path, pairing="height")
    for i in range(22):
        sample = slices.sample(i)
        height = slices.slices_A.heights[sample.slices[0]]
        assert slices.slices_B.heights[sample.slices[1]] == (0.0 if height <= 0.5 else 1.0)


def test_uniform_pairing_does_not_look_at_heights(tmp_path) -> None:
    rows = [make_row("t1", 0, (40, SIZE, SIZE)), make_row("t2", 0, (40, SIZE, SIZE))]
    slices = build(rows, tmp_path)
    pairs = [slices.sample(i).slices for i in range(2000)]
    assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 0.1
