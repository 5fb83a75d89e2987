"""The warps of what the discriminators see."""

import numpy as np
import pytest
import torch

from medcyclegan.training.update.warps import draw_warps, seen, warped

NOTHING = torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 9.0, 9.0]])


def image(size: int = 16) -> torch.Tensor:
    return torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_warp_is_a_function_of_the_seed_and_its_number():
    whole = draw_warps(3, 10, 6, 0.5)
    assert torch.equal(whole[2:4], draw_warps(3, 12, 2, 0.5))
    assert not torch.equal(whole, draw_warps(4, 10, 6, 0.5))


def test_the_probability_is_that_of_each_part():
    warps = draw_warps(0, 0, 2000, 0.3)
    moved = (warps[:, 2] != 0).double().mean()
    covered = (warps[:, 6] < 2).double().mean()
    assert abs(moved - 0.3) < 0.04
    assert abs(covered - 0.3) < 0.04
    assert torch.equal(draw_warps(0, 0, 5, 0.0), NOTHING.repeat(5, 1))


def test_warps_stay_small():
    warps = draw_warps(0, 0, 2000, 1.0).double()
    scale = (warps[:, 0] ** 2 + warps[:, 1] ** 2).sqrt()
    assert 0.08 < scale.log2().std() < 0.22
    angle = torch.atan2(warps[:, 3], warps[:, 0]).abs()
    assert np.radians(13) < angle.max() <= np.radians(15.001)
    assert 0.24 < warps[:, [2, 5]].abs().max() <= 0.25, "an eighth of the edge, in units of half the edge"


def test_an_image_that_is_not_warped_stays_as_it_is():
    torch.testing.assert_close(warped(image(), NOTHING), image(), rtol=0, atol=1e-5)
    assert seen(image(), ()) is not None
    untouched = image()
    assert seen(untouched, ()) is untouched


def test_a_shift_moves_the_image_and_fills_with_air():
    # By a quarter of the half edge: 2 of 16 pixels, to the left.
    shifted = warped(image(), torch.tensor([[1.0, 0.0, 0.25, 0.0, 1.0, 0.0, 9.0, 9.0]]))
    torch.testing.assert_close(shifted[..., :14], image()[..., 2:], rtol=0, atol=1e-5)
    assert torch.equal(shifted[..., 14:], torch.full((1, 1, 16, 2), -1.0))


def test_the_covered_square_is_air():
    covered = warped(image(), torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, -1.0]]))
    assert torch.equal(covered[..., :2, 6:10], torch.full((1, 1, 2, 4), -1.0)), "the top, in the middle"
    torch.testing.assert_close(covered[..., 3:, :], image()[..., 3:, :], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_pass_through(dtype):
    source = image().to(dtype).requires_grad_(True)
    warped(source, draw_warps(1, 0, 1, 1.0)).float().square().sum().backward()
    assert source.grad.abs().sum() > 0
