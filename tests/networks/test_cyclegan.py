"""The four networks: initial weights, which do not depend on global random state."""

import pytest
import torch

from medcyclegan.config import Discriminator, Generator, Networks
from medcyclegan.networks import (
    build_cyclegan,
    build_discriminator,
    build_generator,
    canvas_multiple,
    levels_of_weights,
    weight_levels,
    weight_settings,
)

SMALL = Networks(generator=Generator(filters=8, blocks=2), discriminator=Discriminator(filters=8))


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build_cyclegan(SMALL, 64, seed=5).state_dict()
    torch.manual_seed(2)
    again = build_cyclegan(SMALL, 64, seed=5).state_dict()
    other = build_cyclegan(SMALL, 64, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["G_AB.encoder.1.weight"], other["G_AB.encoder.1.weight"])


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build_cyclegan(SMALL, 64, seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_weights_are_normal_with_the_published_spread_and_biases_zero() -> None:
    for kind in ("unet", "subpixel_unet", "resnet"):
        networks = build_cyclegan(SMALL.model_copy(update={"generator": Generator(kind=kind, filters=8)}), 64, seed=0)
        for name, parameter in networks.state_dict().items():
            if name.endswith("bias"):
                assert parameter.abs().max() == 0
            elif parameter.numel() > 5000:
                assert abs(float(parameter.std()) - 0.02) < 0.002
                assert abs(float(parameter.mean())) < 0.002


def test_parameters_are_sorted_by_their_network() -> None:
    networks = build_cyclegan(SMALL, 64, seed=0)
    generators, discriminators = list(networks.generator_parameters()), list(networks.discriminator_parameters())
    assert len(generators) == len(list(networks.G_AB.parameters())) + len(list(networks.G_BA.parameters()))
    assert len(discriminators) == len(list(networks.D_A.parameters())) + len(list(networks.D_B.parameters()))
    assert not {id(p) for p in generators} & {id(p) for p in discriminators}
    assert len(generators) + len(discriminators) == len(list(networks.parameters()))


def test_a_classifier_and_a_unet_are_built_from_the_configuration() -> None:
    config = Networks(
        generator=Generator(kind="unet", filters=4), discriminator=Discriminator(kind="classifier", filters=4)
    )
    networks = build_cyclegan(config, 64, seed=0)
    assert type(networks.G_AB).__name__ == "UnetGenerator"
    assert networks.D_A(networks.G_AB(torch.zeros(1, 1, 64, 64))).shape == (1, 1)


@pytest.mark.parametrize(("kind", "multiple"), [("resnet", 4), ("unet", 64), ("subpixel_unet", 32)])
def test_canvas_multiples_are_those_that_the_generators_accept(kind, multiple) -> None:
    config = Generator(kind=kind, filters=2, blocks=1)
    assert canvas_multiple(config, 64) == multiple
    canvas = torch.zeros(1, 1, 64 + multiple, 64)
    assert build_generator(config, 64).eval()(canvas).shape == canvas.shape


@pytest.mark.parametrize(
    ("kind", "size", "own", "levels"),
    [
        ("resnet", 64, {"blocks": 6}, None),
        ("resnet", 256, {"blocks": 9}, None),
        ("unet", 64, {}, 6),
        ("subpixel_unet", 32, {}, 4),
        ("subpixel_unet", 256, {}, 5),
    ],
)
def test_settings_and_levels_determine_the_weights(kind, size, own, levels) -> None:
    config = Generator(kind=kind, filters=2, upsampling="resize")
    shared = {"kind": kind, "filters": 2, "upsampling": "resize"}
    assert weight_settings(config, size) == shared | own
    assert weight_levels(config, size) == levels
    names = build_generator(config, size).state_dict()
    assert levels_of_weights(config, names) == levels


def test_a_kind_that_is_not_handled_raises() -> None:
    generator = Generator().model_copy(update={"kind": "transformer"})
    discriminator = Discriminator().model_copy(update={"kind": "transformer"})
    for call in (
        lambda: build_generator(generator, 64),
        lambda: canvas_multiple(generator, 64),
        lambda: weight_settings(generator, 64),
        lambda: weight_levels(generator, 64),
        lambda: levels_of_weights(generator, []),
        lambda: build_discriminator(discriminator, 64),
    ):
        with pytest.raises(AssertionError, match="transformer"):
            call()
