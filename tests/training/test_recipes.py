"""The shipped configurations, number by number, as networks, losses, optimizers and schedules."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medcyclegan.config import load_config, shipped_configs
from medcyclegan.networks import (
    ClassifierDiscriminator,
    InstanceNorm,
    PatchDiscriminator,
    ResnetGenerator,
    UnetGenerator,
    build_cyclegan,
)
from medcyclegan.training.schedule import rate_factor
from medcyclegan.training.update.step import CycleGANStep, build_step


def build(name: str) -> CycleGANStep:
    config = load_config(name)
    return build_step(config, build_cyclegan(config.networks, config.slicing.size, 0), torch.device("cpu"), "fp32")


def optimiser_of(step: CycleGANStep) -> tuple[float, tuple[float, float]]:
    groups = [*step.optimizer_G.param_groups, *step.optimizer_D.param_groups]
    assert len(groups) == 2
    (rate,), (betas,) = {group["lr"] for group in groups}, {tuple(group["betas"]) for group in groups}
    assert type(step.optimizer_G) is type(step.optimizer_D) is torch.optim.Adam
    assert {group["weight_decay"] for group in groups} == {0}
    return rate, betas


def blocks_of(generator: nn.Module) -> int:
    assert isinstance(generator, ResnetGenerator)
    return len(generator.blocks)


def layers_of(network: nn.Module) -> list[tuple[int | float | str, ...]]:
    """Return every layer as (kind, channels in, channels out, kernel, stride), (kind, channels) or (kind, number)."""
    layers: list[tuple[int | float | str, ...]] = []
    for m in network.modules():
        kind = type(m).__name__
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            layers.append((kind, m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]))
        elif isinstance(m, InstanceNorm):
            layers.append((kind, m.channels))
        elif isinstance(m, nn.Linear):
            layers.append((kind, m.in_features, m.out_features))
        elif isinstance(m, nn.ReflectionPad2d):
            layers.append((kind, m.padding[0]))
        elif isinstance(m, nn.Dropout):
            layers.append((kind, m.p))
        elif isinstance(m, nn.LeakyReLU):
            layers.append((kind, m.negative_slope))
        elif not list(m.children()):
            layers.append((kind,))
    return layers


def conv(*numbers: int) -> tuple[int | str, ...]:
    return ("Conv2d", *numbers)


def up(*numbers: int) -> tuple[int | str, ...]:
    return ("ConvTranspose2d", *numbers)


def norm(channels: int) -> tuple[int | str, ...]:
    return ("InstanceNorm", channels)


RELU, LEAKY = ("ReLU",), ("LeakyReLU", 0.2)
PAD_3, PAD_1, DROPOUT = ("ReflectionPad2d", 3), ("ReflectionPad2d", 1), ("Dropout", 0.5)
RESNET_9 = [
    *(PAD_3, conv(1, 64, 7, 1), norm(64), RELU),
    *(conv(64, 128, 3, 2), norm(128), RELU),
    *(conv(128, 256, 3, 2), norm(256), RELU),
    *9 * (PAD_1, conv(256, 256, 3, 1), norm(256), RELU, PAD_1, conv(256, 256, 3, 1), norm(256)),
    *(up(256, 128, 3, 2), norm(128), RELU),
    *(up(128, 64, 3, 2), norm(64), RELU),
    *(PAD_3, conv(64, 1, 7, 1)),
]
PATCHGAN = [
    *(conv(1, 64, 4, 2), LEAKY),
    *(conv(64, 128, 4, 2), norm(128), LEAKY),
    *(conv(128, 256, 4, 2), norm(256), LEAKY),
    *(conv(256, 512, 4, 1), norm(512), LEAKY),
    conv(512, 1, 4, 1),
]
UNET_8 = [
    conv(1, 64, 4, 2),
    *(LEAKY, conv(64, 128, 4, 2), norm(128)),
    *(LEAKY, conv(128, 256, 4, 2), norm(256)),
    *(LEAKY, conv(256, 512, 4, 2), norm(512)),
    *3 * (LEAKY, conv(512, 512, 4, 2), norm(512)),
    *(LEAKY, conv(512, 512, 4, 2)),
    *(RELU, up(512, 512, 4, 2), norm(512), DROPOUT),
    *2 * (RELU, up(1024, 512, 4, 2), norm(512), DROPOUT),
    *(RELU, up(1024, 512, 4, 2), norm(512)),
    *(RELU, up(1024, 256, 4, 2), norm(256)),
    *(RELU, up(512, 128, 4, 2), norm(128)),
    *(RELU, up(256, 64, 4, 2), norm(64)),
    *(RELU, up(128, 1, 4, 2)),
]
CLASSIFIER = [
    *(conv(1, 64, 4, 2), LEAKY),
    *(conv(64, 128, 4, 2), norm(128), LEAKY),
    *(conv(128, 256, 4, 2), norm(256), LEAKY),
    *(conv(256, 512, 4, 2), norm(512), LEAKY),
    *(conv(512, 512, 4, 2), norm(512), LEAKY),
    ("Linear", 512, 1),
]


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [("ct-mr", RESNET_9, PATCHGAN), ("t1-t2", UNET_8, CLASSIFIER), ("default", RESNET_9, PATCHGAN)],
)
def test_every_layer_of_the_recipes(name: str, generator: list, discriminator: list) -> None:
    networks = build(name).networks
    assert layers_of(networks.G_AB) == layers_of(networks.G_BA) == generator
    # MONAI puts a dropout of 0 and identities between them.
    found = [
        [layer for layer in layers_of(network) if layer not in (("Identity",), ("Dropout", 0.0))]
        for network in (networks.D_A, networks.D_B)
    ]
    assert found == [discriminator, discriminator]


@pytest.mark.parametrize("name", ["ct-mr", "t1-t2", "default"])
def test_nothing_beyond_the_recipes_is_on(name: str) -> None:
    config, step = load_config(name), build(name)
    assert (config.losses.structure, config.training.gradient_clip, config.training.ema_decay) == ("none", None, None)
    assert (config.training.pairing, config.training.max_steps) == ("uniform", None)
    assert step.gradient_clip is None
    assert step.averages is None
    kernels = torch.cat([p.flatten() for p in step.networks.parameters() if p.dim() == 4])
    assert kernels.std().item() == pytest.approx(0.02, rel=0.01)
    assert kernels.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert all(not p.any() for n, p in step.networks.named_parameters() if n.endswith("bias"))


def test_ct_mr() -> None:
    config, step = load_config("ct-mr"), build("ct-mr")
    networks, losses, training = step.networks, config.losses, config.training
    assert blocks_of(networks.G_AB) == blocks_of(networks.G_BA) == 9
    assert [m.out_channels for m in networks.G_AB.encoder if isinstance(m, nn.Conv2d)] == [64, 128, 256]
    assert isinstance(networks.D_A, PatchDiscriminator)
    assert networks.D_A(torch.zeros(1, 1, 256, 256)).shape == (1, 1, 30, 30)
    assert (losses.adversarial, losses.adversarial_weight, losses.discriminator_weight) == ("log", 1, 0.5)
    assert (losses.cycle_weight, losses.identity_weight) == (10, 0)
    assert optimiser_of(step) == (2e-4, (0.5, 0.999))
    assert rate_factor(999, 1000, training.schedule) == 1
    assert (training.epochs, training.batch_size, config.seed, training.flip_probability) == (10, 1, 0, 0)
    assert (config.slicing.fit, config.slicing.size) == ("stretch", 256)
    assert (training.panel_every, training.checkpoint_epochs, training.pool_size) == (100, 1, 50)


def test_t1_t2() -> None:
    config, step = load_config("t1-t2"), build("t1-t2")
    networks, losses, training = step.networks, config.losses, config.training
    assert isinstance(networks.G_AB, UnetGenerator)
    assert isinstance(networks.G_BA, UnetGenerator)
    assert len(networks.G_AB.down) == 8
    assert {m.p for m in networks.G_AB.modules() if isinstance(m, nn.Dropout)} == {0.5}
    assert isinstance(networks.D_B, ClassifierDiscriminator)
    assert networks.D_B(torch.zeros(2, 1, 256, 256)).shape == (2, 1)
    assert (losses.adversarial, losses.adversarial_weight, losses.discriminator_weight) == ("log", 1, 0.5)
    assert (losses.cycle_weight, losses.identity_weight) == (1, 1)
    assert optimiser_of(step) == (2e-4, (0.5, 0.999))
    assert [rate_factor(s, 1000, training.schedule) for s in (0, 499, 750, 999)] == [1, 1, 0.5, 0.002]
    assert (training.epochs, training.batch_size, config.seed, training.flip_probability) == (200, 1, 0, 0.5)
    assert (config.slicing.fit, config.slicing.size) == ("stretch", 256)
    assert (training.panel_every, training.checkpoint_epochs, training.pool_size) == (100, 5, 50)


def test_default() -> None:
    config, step = load_config("default"), build("default")
    losses, training = config.losses, config.training
    assert blocks_of(step.networks.G_AB) == 9
    assert isinstance(step.networks.D_A, PatchDiscriminator)
    assert (losses.adversarial, losses.adversarial_weight, losses.discriminator_weight) == ("lsgan", 1, 0.5)
    assert (losses.cycle_weight, losses.identity_weight) == (10, 5)
    assert optimiser_of(step) == (2e-4, (0.5, 0.999))
    assert [rate_factor(s, 1000, training.schedule) for s in (0, 499, 750)] == [1, 1, 0.5]
    assert (training.epochs, training.batch_size, config.seed, training.flip_probability) == (200, 1, 0, 0.5)
    assert (config.slicing.fit, config.slicing.pixel_mm) == ("physical", 1.0)
    assert (training.panel_every, training.checkpoint_epochs, training.keep_last) == (100, 5, 2)


def test_six_blocks_for_small_slices() -> None:
    networks = load_config("default").networks
    assert blocks_of(build_cyclegan(networks, 128, 0).G_AB) == 6


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_configuration_takes_a_step(name: str) -> None:
    """With 4 filters and 64 pixels, for speed; the shapes are tested above."""
    config = load_config(name)
    generator = config.networks.generator.model_copy(update={"filters": 4})
    discriminator = config.networks.discriminator.model_copy(update={"filters": 4})
    networks = config.networks.model_copy(update={"generator": generator, "discriminator": discriminator})
    step = build_step(config, build_cyclegan(networks, 64, 0), torch.device("cpu"), "fp32")
    images = torch.zeros(config.training.batch_size, 1, 64, 64)
    losses = step(SimpleNamespace(state=SimpleNamespace(iteration=1)), (images, images))
    assert all(torch.isfinite(loss) for loss in losses.values())
