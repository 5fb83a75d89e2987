"""Properties of sampling: passes contain all slices, processes share each batch."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import slice_rows

from medcyclegan.data import Sampling, SliceIndex, UnpairedSlices
from medcyclegan.data.unpaired import HEIGHT_BAND


class Names:
    """A reader that returns the number of a slice instead of the slice."""

    def read_image(self, row, place):
        return torch.full((1, 1, 2), 1000.0 * int(row.case, 16) + place) + torch.tensor([0.0, 0.5])


def sampled(rows_A, rows_B, **sampling):
    return UnpairedSlices(rows_A, rows_B, Names(), Sampling(**sampling))


@given(rows=slice_rows("t1"), other=slice_rows("t2"), seed=st.integers(0, 2**32 - 1), passes=st.integers(0, 3))
def test_each_pass_shows_every_slice_once(rows, other, seed, passes):
    slices = sampled(rows, other, seed=seed)
    for side, count in enumerate((len(slices.slices_A), len(slices.slices_B))):
        seen = [slices.sample(passes * count + i).slices[side] for i in range(count)]
        assert sorted(seen) == list(range(count))


@given(
    rows=slice_rows("t1"), other=slice_rows("t2"), seed=st.integers(0, 999), step=st.integers(0, 500),
    world=st.sampled_from([1, 2, 3, 4]), pairing=st.sampled_from(["uniform", "height"]),
)  # fmt: skip
def test_processes_share_out_the_batch_of_one(rows, other, seed, step, world, pairing):
    settings = {"seed": seed, "batch_size": 12, "flip_probability": 0.5, "pairing": pairing}
    whole = sampled(rows, other, **settings).batch(step)
    parts = [sampled(rows, other, **settings, rank=rank, world=world).batch(step) for rank in range(world)]
    for side in (0, 1):
        assert torch.equal(torch.cat([part[side] for part in parts]), whole[side])


@given(rows=slice_rows("t1"), other=slice_rows("t2"), seed=st.integers(0, 999), i=st.integers(0, 10**6))
def test_pairs_by_height_are_within_the_band_or_nearest(rows, other, seed, i):
    slices = sampled(rows, other, seed=seed, pairing="height")
    a, b = slices.sample(i).slices
    heights = slices.slices_B.heights
    distance = abs(heights[b] - slices.slices_A.heights[a])
    assert distance < HEIGHT_BAND + 1e-9 or distance == abs(heights - slices.slices_A.heights[a]).min()


@given(rows=slice_rows("t1"), count=st.integers(1, 60))
def test_an_index_finds_every_slice_and_spreads_over_all(rows, count):
    index = SliceIndex(rows)
    found = [index.find(number) for number in range(len(index))]
    assert found == [(row, place) for row in index.rows for place in range(len(row.slices))]
    spread = index.spread(count)
    assert len(spread) == min(count, len(index))
    assert sorted(set(spread)) == spread
    assert 0 <= spread[0] <= spread[-1] < len(index)
