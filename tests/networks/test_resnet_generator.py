"""The ResNet generator against section 7.2 of Zhu et al. 2017."""

import pytest
import torch
from torch import nn

from medcyclegan.config import Generator
from medcyclegan.networks import ResnetGenerator, build_generator


def layers_of(network: nn.Module) -> list[tuple[str, int, int, int, int]]:
    """Return (kind, channels in, channels out, kernel, stride) of each convolution, in order."""
    return [
        (type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
        for m in network.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]


@pytest.mark.parametrize(("size", "blocks"), [(256, 9), (132, 9), (128, 6), (64, 6)])
def test_layers_are_those_of_the_paper(size: int, blocks: int) -> None:
    network = build_generator(Generator(), size)
    assert layers_of(network) == [
        ("Conv2d", 1, 64, 7, 1),
        ("Conv2d", 64, 128, 3, 2),
        ("Conv2d", 128, 256, 3, 2),
        *[("Conv2d", 256, 256, 3, 1)] * (2 * blocks),
        ("ConvTranspose2d", 256, 128, 3, 2),
        ("ConvTranspose2d", 128, 64, 3, 2),
        ("Conv2d", 64, 1, 7, 1),
    ]
    kinds = [type(m).__name__ for m in network.modules()]
    assert kinds.count("InstanceNorm") == 3 + 2 * blocks + 2
    assert kinds.count("ReLU") == 3 + blocks + 2
    assert kinds.count("ReflectionPad2d") == 2 + 2 * blocks


def test_parameter_count_of_the_published_size() -> None:
    # One channel in and out, and no bias before a norm: 11,365,633 with these 5,248 biases.
    assert sum(p.numel() for p in build_generator(Generator(), 256).parameters()) == 11_360_385


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (3, 1, 36, 52)])
def test_output_has_the_shape_and_the_range_of_the_input(upsampling, shape) -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(filters=4, blocks=2, upsampling=upsampling)
    output = network(torch.rand(shape) * 2 - 1)
    assert output.shape == shape
    assert output.abs().max() <= 1


def test_resize_replaces_transposed_convolutions() -> None:
    kinds = {kind for kind, *_ in layers_of(ResnetGenerator(4, 1, "resize"))}
    assert kinds == {"Conv2d"}


def test_a_block_adds_its_input() -> None:
    network = ResnetGenerator(filters=2, blocks=1)
    with torch.no_grad():
        for parameter in network.blocks.parameters():
            parameter.zero_()
    features = torch.randn(1, 8, 8, 8)
    assert torch.equal(network.blocks(features), features)


def test_images_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(1)
    network = ResnetGenerator(filters=4, blocks=1).double()
    images = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    together = network(images)
    apart = torch.cat([network(images[:1]), network(images[1:])])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12)


def test_autocast_leaves_the_output_in_the_format_of_the_input() -> None:
    network = ResnetGenerator(filters=4, blocks=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.zeros(1, 1, 32, 32)).dtype == torch.float32
