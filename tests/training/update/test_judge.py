"""The loss of a discriminator with its optional terms."""

import pytest
import torch
from torch import nn

from medcyclegan.config import Losses
from medcyclegan.training.update.judge import judge
from medcyclegan.training.update.losses import discriminator_loss
from medcyclegan.training.update.warps import draw_warps, warped


def images(count: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return tuple(torch.rand(count, 1, 8, 8, generator=random) * 2 - 1 for _ in range(3))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 1, 3))


@pytest.mark.parametrize("form", ["lsgan", "log"])
def test_inputs_take_their_share_of_the_negatives(form):
    net, (real, fake, other) = network(), images()
    plain = discriminator_loss(net(real), net(fake), form)
    negative = discriminator_loss(net(real), net(other), form)
    loss, penalty = judge(net, real, fake, other, Losses(adversarial=form))
    torch.testing.assert_close(loss, plain)
    assert penalty is None
    loss, _ = judge(net, real, fake, other, Losses(adversarial=form, input_negatives=0.25))
    torch.testing.assert_close(loss, 0.75 * plain + 0.25 * negative)


def test_the_penalty_is_the_squared_gradient_at_real_images():
    real, fake, other = images()
    weights = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)

    class Linear(nn.Module):
        def forward(self, x):
            return (x * weights).sum(dim=(1, 2, 3), keepdim=True)

    _, penalty = judge(Linear(), real, fake, other, Losses(gradient_penalty=3.0))
    torch.testing.assert_close(penalty, weights.square().sum())


def test_the_penalty_trains_the_discriminator_and_not_the_images():
    net, (real, fake, other) = network(), images()
    _, penalty = judge(net, real, fake, other, Losses(gradient_penalty=1.0, input_negatives=0.5))
    penalty.backward()
    assert net[0].weight.grad.abs().sum() > 0
    assert real.grad is None


def test_each_image_has_its_own_warp():
    net, (real, fake, other) = network(), images()
    warps = draw_warps(0, 0, 4, 1.0)
    loss, _ = judge(net, real, fake, other, Losses(), (warps,))
    expected = discriminator_loss(net(warped(real, warps[:2])), net(warped(fake, warps[2:])), "lsgan")
    torch.testing.assert_close(loss, expected)
