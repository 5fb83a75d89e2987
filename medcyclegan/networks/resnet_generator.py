"""The ResNet generator of CycleGAN (Zhu et al. 2017, section 7.2; Johnson et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

from medcyclegan.config import Generator
from medcyclegan.networks.normalization import InstanceNorm

__all__ = ["ResnetGenerator", "resnet_blocks"]


def resnet_blocks(size: int) -> int:
    """Return the paper's number of residual blocks: 6 for slices of up to 128 pixels, else 9."""
    return 6 if size <= 128 else 9


class ResnetGenerator(nn.Module):
    """c7s1-F, d2F, d4F, ``blocks`` x R4F, u2F, uF, c7s1-1: ``(N, 1, H, W)`` to the same shape.

    F is ``filters`` (64 in the paper). Reflection padding, instance normalization and ReLU are used
    throughout, and tanh at the end. H and W must be multiples of 4. Convolutions before a normalization
    have no bias, because the normalization removes it. ``upsampling``: ``"transposed"`` convolutions as
    published, or ``"resize"``, nearest-neighbor interpolation and a 3 x 3 convolution (Odena et al. 2016,
    https://distill.pub/2016/deconv-checkerboard).
    """

    def __init__(
        self,
        filters: int = 64,
        blocks: int = 9,
        upsampling: Literal["transposed", "resize"] = "transposed",
    ) -> None:
        super().__init__()
        f = filters
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(1, f, 7, bias=False),
            InstanceNorm(f),
            nn.ReLU(inplace=True),
            *_downsample(f, 2 * f),
            *_downsample(2 * f, 4 * f),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * f) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            *_upsample(4 * f, 2 * f, upsampling),
            *_upsample(2 * f, f, upsampling),
            nn.ReflectionPad2d(3),
            nn.Conv2d(f, 1, 7),
        )

    @classmethod
    def from_config(cls, config: Generator, size: int) -> ResnetGenerator:
        """Build the generator of ``config`` for slices of ``size`` pixels."""
        return cls(config.filters, config.blocks or resnet_blocks(size), config.upsampling)

    @staticmethod
    def canvas_multiple(_size: int) -> int:
        """Return 4: rows and columns are halved twice."""
        return 4

    @staticmethod
    def own_settings(config: Generator, size: int) -> dict[str, Any]:
        """Return the settings of this architecture alone that determine the weights' names and shapes."""
        return {"blocks": config.blocks or resnet_blocks(size)}

    @staticmethod
    def weight_levels(_size: int) -> None:
        """Return None: the same weights fit slices of any size."""

    @staticmethod
    def levels_of_weights(_names: Iterable[str]) -> None:
        """Return None: the same weights fit slices of any size."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate ``image`` ``(N, 1, H, W)`` in [-1, 1]; the result has the same dtype."""
        features = self.decoder(self.blocks(self.encoder(image)))
        # Under autocast the features have 8 bits of mantissa; tanh in the image's dtype loses no further precision.
        return torch.tanh(features.to(image.dtype))


class ResidualBlock(nn.Module):
    """A residual block (R in the paper): two 3 x 3 convolutions with reflection padding, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            InstanceNorm(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            InstanceNorm(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x + layers(x)``, shape ``(N, C, H, W)``."""
        return x + self.layers(x)


def _downsample(channels_in: int, channels_out: int) -> list[nn.Module]:
    """Return a downsampling block (d in the paper): a 3 x 3 convolution with stride 2."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
    return [convolution, InstanceNorm(channels_out), nn.ReLU(inplace=True)]


def _upsample(channels_in: int, channels_out: int, upsampling: str) -> list[nn.Module]:
    """Return an upsampling block (u in the paper), which doubles rows and columns."""
    if upsampling == "resize":
        layers: list[nn.Module] = [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels_in, channels_out, 3, bias=False),
        ]
    else:
        layers = [nn.ConvTranspose2d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1, bias=False)]
    return [*layers, InstanceNorm(channels_out), nn.ReLU(inplace=True)]
