"""Build the four networks of a CycleGAN from the configuration, with reproducible weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

import torch
from torch import nn

from medcyclegan.config import Discriminator, Networks
from medcyclegan.networks.discriminators import ClassifierDiscriminator, PatchDiscriminator
from medcyclegan.networks.generators import build_generator

__all__ = ["CycleGAN", "build_cyclegan", "build_discriminator"]

#: Standard deviation of the initial weights (Zhu et al. 2017, section 7.1).
_WEIGHT_STD = 0.02


class CycleGAN(nn.Module):
    """Two generators, ``G_AB`` (A to B) and ``G_BA``, and two discriminators, ``D_A`` and ``D_B``.

    A container for the networks' state and parameters. The training step defines how they work together.
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


def build_discriminator(config: Discriminator, size: int) -> nn.Module:
    """Build a discriminator for slices of ``size`` x ``size`` pixels; it returns logits.

    Raises :class:`~medcyclegan.errors.ConfigError` if ``size`` does not fit the network.
    """
    if config.kind == "classifier":
        return ClassifierDiscriminator(size, config.filters)
    if config.kind == "patch":
        return PatchDiscriminator(size, config.filters, config.layers)
    assert_never(config.kind)


def build_cyclegan(config: Networks, size: int, seed: int) -> CycleGAN:
    """Build the four networks on the CPU, with weights that depend only on ``seed``.

    The weights of convolutions and linear layers are drawn from N(0, 0.02), and biases are 0. The global random
    state is not changed. Raises :class:`~medcyclegan.errors.ConfigError` if ``size`` does not fit the networks.
    """
    with torch.random.fork_rng(devices=[]):
        networks = CycleGAN(
            G_AB=build_generator(config.generator, size),
            G_BA=build_generator(config.generator, size),
            D_A=build_discriminator(config.discriminator, size),
            D_B=build_discriminator(config.discriminator, size),
        )
    random = torch.Generator().manual_seed(seed)
    for name, parameter in networks.named_parameters():
        with torch.no_grad():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, _WEIGHT_STD, generator=random)
    return networks
