"""Head masks that are computed from images, and their difference."""

import torch

from medcyclegan.training.update.masks import mask_loss, soft_mask


def head(value: float, size: int = 32) -> torch.Tensor:
    picture = torch.full((1, 1, size, size), -1.0)
    picture[..., 8:24, 8:24] = value
    return picture


def test_a_mask_does_not_depend_on_the_contrast():
    mask = soft_mask(head(0.2))
    assert mask.shape == (1, 1, 4, 4)
    assert mask[0, 0, 1:3, 1:3].min() > 0.99
    assert mask[0, 0, 0].max() < 0.06
    assert mask_loss(head(-0.3), head(0.9)) < 1e-3


def test_a_head_in_another_place_costs():
    moved = head(0.2).roll(8, dims=3)
    loss = mask_loss(moved.requires_grad_(True), head(0.2))
    assert 0.2 < loss < 0.3, "4 of 16 blocks"
    loss.backward()
    assert moved.grad.abs().sum() > 0
