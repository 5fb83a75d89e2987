"""The four networks of a CycleGAN, built from the configuration with reproducible weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from medcyclegan.config import Discriminator, Generator, Networks
from medcyclegan.errors import ConfigError
from medcyclegan.networks.discriminators import ClassifierDiscriminator, PatchDiscriminator
from medcyclegan.networks.resnet_generator import ResnetGenerator, resnet_blocks
from medcyclegan.networks.unet_generator import UnetGenerator, unet_levels

__all__ = ["CycleGAN", "build_cyclegan", "build_discriminator", "build_generator"]

#: Standard deviation of the initial weights (Zhu et al. 2017, section 7.1).
_WEIGHT_STD = 0.02


class CycleGAN(nn.Module):
    """Two generators, ``G_AB`` (A to B) and ``G_BA``, and two discriminators, ``D_A`` and ``D_B``.

    A container: it holds the networks' state and sorts their parameters; the training step says how
    they work together.
    """

    def __init__(self, G_AB: nn.Module, G_BA: nn.Module, D_A: nn.Module, D_B: nn.Module) -> None:
        super().__init__()
        self.G_AB = G_AB
        self.G_BA = G_BA
        self.D_A = D_A
        self.D_B = D_B

    def generator_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of ``G_AB``, then of ``G_BA``."""
        yield from self.G_AB.parameters()
        yield from self.G_BA.parameters()

    def discriminator_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of ``D_A``, then of ``D_B``."""
        yield from self.D_A.parameters()
        yield from self.D_B.parameters()


def build_generator(config: Generator, size: int) -> nn.Module:
    """Build a generator for slices of ``size`` x ``size`` pixels: ``(N, C, H, W)`` to the same shape.

    C is ``config.context_slices``. With 3 or 5 it translates a slice and its neighbours all together,
    rather than their middle one alone: what comes out can then be translated back, so the cycle and the
    identity term stay one pass each, and discriminators see whether slices fit together. Translation
    keeps the middle one (:func:`~medcyclegan.networks.keep_middle_slice`).
    It reads larger canvases too: multiples of 4 for ``resnet``, of 2**levels (256) for ``unet``.
    ``identity`` returns its input. Raises :class:`~medcyclegan.errors.ConfigError` where ``size`` does
    not fit the network.
    """
    if config.kind == "identity":
        return nn.Identity()
    if config.kind == "unet":
        return UnetGenerator(
            config.filters, unet_levels(size), config.dropout, config.upsampling, config.context_slices
        )
    blocks = config.blocks or resnet_blocks(size)
    return ResnetGenerator(config.filters, blocks, config.upsampling, config.context_slices)


def build_discriminator(config: Discriminator, size: int, channels: int = 1) -> nn.Module:
    """Build a discriminator for ``channels`` slices of ``size`` x ``size`` pixels; its output are logits.

    Raises :class:`~medcyclegan.errors.ConfigError` where ``size`` does not fit the network.
    """
    if config.kind == "classifier":
        return ClassifierDiscriminator(size, config.filters, channels)
    return PatchDiscriminator(size, config.filters, config.layers, channels)


def build_cyclegan(config: Networks, size: int, seed: int) -> CycleGAN:
    """Build the four networks with weights that depend on ``seed`` alone, on the CPU.

    Convolutions and linear layers get weights from N(0, 0.02) and biases of 0. The global random
    state is left as it was. Raises :class:`~medcyclegan.errors.ConfigError` for generators that have
    nothing to train.
    """
    if config.generator.kind == "identity":
        raise ConfigError("networks.generator.kind = 'identity' has nothing to train: take resnet or unet")
    with torch.random.fork_rng(devices=[]):
        networks = CycleGAN(
            G_AB=build_generator(config.generator, size),
            G_BA=build_generator(config.generator, size),
            D_A=build_discriminator(config.discriminator, size, config.generator.context_slices),
            D_B=build_discriminator(config.discriminator, size, config.generator.context_slices),
        )
    random = torch.Generator().manual_seed(seed)
    for name, parameter in networks.named_parameters():
        with torch.no_grad():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, _WEIGHT_STD, generator=random)
    return networks
