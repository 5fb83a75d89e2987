"""The U-Net generator against section 6.1.1 of Isola et al. 2017."""

import pytest
import torch
from torch import nn

from medcyclegan.config import Generator
from medcyclegan.errors import ConfigError
from medcyclegan.networks import InstanceNorm, UnetGenerator, build_generator, unet_levels


def test_layers_at_256_are_those_of_the_paper() -> None:
    network = build_generator(Generator(kind="unet"), 256)
    down = [m for m in network.down.modules() if isinstance(m, nn.Conv2d)]
    up = [m for m in [*network.up.modules(), *network.last.modules()] if isinstance(m, nn.ConvTranspose2d)]
    assert [m.out_channels for m in down] == [64, 128, 256, 512, 512, 512, 512, 512]
    assert [m.out_channels for m in up] == [512, 512, 512, 512, 256, 128, 64, 1]
    assert [m.in_channels for m in up] == [512, 1024, 1024, 1024, 1024, 512, 256, 128]
    assert {(m.kernel_size, m.stride) for m in [*down, *up]} == {((4, 4), (2, 2))}
    assert [any(isinstance(m, nn.Dropout) for m in block) for block in network.up] == [True] * 3 + [False] * 4
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout)} == {0.5}


def test_no_norm_in_the_first_layer_and_at_1_x_1() -> None:
    network = build_generator(Generator(kind="unet"), 256)
    has_norm = [any(isinstance(m, InstanceNorm) for m in layer.modules()) for layer in network.down]
    assert has_norm == [False] + [True] * 6 + [False]
    assert all(any(isinstance(m, InstanceNorm) for m in block) for block in network.up)


def test_dropout_comes_after_the_norm() -> None:
    kinds = [type(m).__name__ for m in UnetGenerator(filters=2).up[0]]
    assert kinds == ["ReLU", "ConvTranspose2d", "InstanceNorm", "Dropout"]


@pytest.mark.parametrize(("size", "levels"), [(32, 5), (64, 6), (128, 7), (256, 8), (512, 8), (768, 8)])
def test_the_bottleneck_is_one_pixel_up_to_256(size: int, levels: int) -> None:
    assert unet_levels(size) == levels
    network = UnetGenerator(filters=2, levels=levels)
    features = torch.zeros(1, 1, size, size)
    for layer in network.down:
        features = layer(features)
    assert features.shape[-1] == max(1, size // 256)
    assert network(torch.zeros(1, 1, size, size)).shape == (1, 1, size, size)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_a_larger_canvas_works(upsampling) -> None:
    network = UnetGenerator(filters=2, levels=5, upsampling=upsampling)
    assert network(torch.zeros(2, 1, 64, 96)).shape == (2, 1, 64, 96)


@pytest.mark.parametrize(("size", "remedy"), [(96, "64 or 128"), (384, "256 or 512")])
def test_sizes_that_cannot_be_halved_are_refused(size: int, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"slices of {size} pixels.*{remedy}.*resnet"):
        build_generator(Generator(kind="unet"), size)


def test_every_skip_reaches_the_output() -> None:
    torch.manual_seed(0)
    network = UnetGenerator(filters=2, levels=5, dropout=0.0)
    image = torch.randn(1, 1, 32, 32)
    outputs: list[torch.Tensor] = []
    for layer in network.down:
        layer.register_forward_hook(lambda module, args, output: outputs.append(output) or output.retain_grad())
    network(image).square().sum().backward()
    assert len(outputs) == 5
    assert all(output.grad is not None and output.grad.abs().sum() > 0 for output in outputs)


def test_dropout_is_random_in_training_only() -> None:
    network = UnetGenerator(filters=4, levels=5)
    image = torch.rand(1, 1, 32, 32)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))
