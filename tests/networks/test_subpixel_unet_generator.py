"""The subpixel U-Net: its layers, its sizes, and that single pixels reach the output."""

import pytest
import torch
from torch import nn

from medcyclegan.config import Generator
from medcyclegan.errors import ConfigError
from medcyclegan.networks import InstanceNorm, SubpixelUnetGenerator, UnetGenerator, build_generator, subpixel_levels


def test_layers_at_256() -> None:
    network = build_generator(Generator(kind="subpixel_unet", filters=32), 256)
    down = [m for m in network.down.modules() if isinstance(m, nn.Conv2d)]
    up = [m for m in network.up.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.stride[0]) for m in down] == [
        (1, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2),
        (128, 128, 1), (128, 128, 2), (128, 128, 1), (128, 128, 2), (128, 128, 1),
    ]  # fmt: skip
    assert [(m.in_channels, m.out_channels) for m in up] == [
        (256, 128), (128, 128), (256, 128), (128, 128), (192, 64), (64, 64), (96, 32), (32, 32),
    ]  # fmt: skip
    assert network.last[0].out_channels == 4
    assert [m.kernel_size for m in network.enlarge] == [(2, 2)] * 4


def test_only_the_first_convolution_has_no_norm() -> None:
    kinds = [type(m).__name__ for m in SubpixelUnetGenerator(filters=2).down[0]]
    assert kinds == ["Conv2d", "LeakyReLU", "Conv2d", "InstanceNorm", "LeakyReLU"]
    network = SubpixelUnetGenerator(filters=2)
    assert sum(isinstance(m, InstanceNorm) for m in network.modules()) == 17


@pytest.mark.parametrize(("size", "levels"), [(8, 2), (16, 3), (32, 4), (64, 5), (256, 5), (320, 5)])
def test_the_deepest_level_has_at_least_two_pixels(size: int, levels: int) -> None:
    assert subpixel_levels(size) == levels
    network = SubpixelUnetGenerator(filters=2, levels=levels)
    features = torch.rand(1, 1, size, size)
    for layer in network.down:
        features = layer(features)
    assert features.shape[-1] == size // 2**levels >= 2
    assert network(torch.rand(1, 1, size, size)).shape == (1, 1, size, size)


@pytest.mark.parametrize(("size", "remedy"), [(6, "8 or 12"), (72, "64 or 96"), (250, "224 or 256")])
def test_sizes_that_cannot_be_halved_are_refused(size: int, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"slices of {size} pixels.*{remedy}.*resnet"):
        build_generator(Generator(kind="subpixel_unet"), size)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_a_larger_canvas_works(upsampling) -> None:
    network = SubpixelUnetGenerator(filters=2, levels=3, upsampling=upsampling)
    assert network(torch.zeros(2, 1, 24, 40)).shape == (2, 1, 24, 40)


def test_single_pixels_can_reach_the_output_unlike_in_a_resized_unet() -> None:
    """Independent noise in every pixel: a network without a path at full resolution can only blur it."""
    subpixel = left_after_copying(SubpixelUnetGenerator(filters=16, levels=2))
    resized = left_after_copying(UnetGenerator(filters=16, levels=2, dropout=0.0, upsampling="resize"))
    assert subpixel < 0.15
    assert resized > 0.25


def left_after_copying(network: nn.Module) -> float:
    """Train the network to return its input, and return the part of the variance that it loses."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(300):
        image = torch.rand(4, 1, 16, 16) - 0.5
        error = (network(image) - image).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return float(error.detach() / image.var())
