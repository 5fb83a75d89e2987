"""Generators with several slices as channels: shapes, and reduction to the middle slice."""

import pytest
import torch

from medcyclegan.config import Generator, Networks
from medcyclegan.networks import build_cyclegan, build_generator, keep_middle_slice, middle_slice, with_context

KINDS = [
    {"kind": "resnet", "blocks": 1},
    {"kind": "resnet", "blocks": 1, "upsampling": "resize"},
    {"kind": "unet"},
    {"kind": "unet", "upsampling": "resize"},
    {"kind": "subpixel_unet"},
]


def noise(channels: int) -> torch.Tensor:
    return torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("context", [3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_all_slices_are_translated_and_the_middle_one_can_be_alone(kind, context) -> None:
    network = build_generator(Generator(filters=4, context_slices=context, **kind), 32).eval()
    slices = noise(context)
    with torch.no_grad():
        expected = network(slices)
        assert expected.shape == slices.shape
        alone = keep_middle_slice(network)(slices)
    assert alone.shape == (2, 1, 32, 32)
    torch.testing.assert_close(alone, middle_slice(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("discriminator", [{"kind": "patch", "layers": 2}, {"kind": "classifier"}])
def test_discriminators_see_all_slices(discriminator) -> None:
    config = Networks.model_validate(
        {
            "generator": {"filters": 2, "blocks": 1, "context_slices": 3},
            "discriminator": {"filters": 4, **discriminator},
        }
    )
    networks = build_cyclegan(config, 32, 0)
    slices = noise(3)
    before = networks.D_A(slices)
    slices[:, 2] *= -1
    assert not torch.allclose(networks.D_A(slices), before)


def test_the_middle_of_one_is_itself() -> None:
    image = noise(1)
    assert torch.equal(middle_slice(image), image)


@pytest.mark.parametrize("context", [3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_of_single_slices_becomes_one_with_context(kind, context) -> None:
    single = build_generator(Generator(filters=4, **kind), 32).eval()
    wide = build_generator(Generator(filters=4, context_slices=context, **kind), 32).eval()
    wide.load_state_dict(with_context(single.state_dict(), wide))
    slices = noise(context)
    with torch.no_grad():
        expected = single(middle_slice(slices))
        torch.testing.assert_close(wide(slices), expected.expand_as(slices), rtol=0, atol=1e-6)
