"""Properties of any run: the rate never rises, and pools do not depend on the number of processes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from medcyclegan.data import Stream
from medcyclegan.training.schedule import rate_factor
from medcyclegan.training.update.image_pool import ImagePool


@given(steps=st.integers(1, 10**6), data=st.data())
def test_the_rate_only_falls_and_never_to_nothing(steps, data):
    one, other = sorted(data.draw(st.tuples(*[st.integers(0, steps - 1)] * 2)))
    assert 0 < rate_factor(other, steps, "linear") <= rate_factor(one, steps, "linear") <= 1
    assert rate_factor(0, steps, "linear") == 1
    assert rate_factor(one, steps, "constant") == 1


@given(size=st.integers(0, 9), world=st.sampled_from([1, 2, 3]), seed=st.integers(0, 999), steps=st.integers(1, 12))
def test_pools_shared_out_show_what_one_pool_shows(size, world, seed, steps):
    batch, share = 6, 6 // world
    whole = ImagePool(size, batch, seed, Stream.POOL_A)
    parts = [
        ImagePool(size, batch, seed, Stream.POOL_A, first_place=rank * share, places=share) for rank in range(world)
    ]
    for step in range(steps):
        fakes = torch.arange(float(batch)).reshape(batch, 1, 1, 1) + 100 * step
        shown = whole.exchange(fakes, step)
        own = [pool.exchange(fakes[rank * share :][:share], step) for rank, pool in enumerate(parts)]
        assert torch.equal(torch.cat(own), shown)
        if size == 0:
            assert torch.equal(shown, fakes)
