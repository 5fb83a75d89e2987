"""The U-Net generator of pix2pix (Isola et al. 2017, arXiv 1611.07004, section 6.1.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

from medcyclegan.config import Generator
from medcyclegan.errors import ConfigError
from medcyclegan.networks.normalization import InstanceNorm

__all__ = ["UnetGenerator", "unet_levels"]

#: Levels of the published network, which reads 256 x 256 pixels.
_MOST_LEVELS = 8

#: Decoder blocks with dropout, counted from the bottleneck.
_DROPOUT_BLOCKS = 3


def unet_levels(size: int) -> int:
    """Return how many times ``size`` pixels are halved: 8 from 256 pixels on, down to 1 x 1 for fewer pixels.

    Raises :class:`~medcyclegan.errors.ConfigError` if ``size`` cannot be halved that many times.
    """
    levels = min(_MOST_LEVELS, size.bit_length() - 1)
    if size % 2**levels:
        below = 2**levels * (size // 2**levels)
        raise ConfigError(
            f"slices of {size} pixels cannot be halved {levels} times, as the unet does: "
            f"slice at {below} or {below + 2**levels}, or use networks.generator.kind=resnet"
        )
    return levels


class UnetGenerator(nn.Module):
    """C64-C128-C256-C512-… down to the bottleneck and up again with skips: ``(N, 1, H, W)`` to the same.

    ``levels`` strided 4 x 4 convolutions (8 at 256 pixels, where the bottleneck is 1 x 1). The number of channels
    starts at ``filters`` (64) and doubles up to eight times that. LeakyReLU 0.2 in the encoder, ReLU in the decoder.
    Instance normalization except in the first layer and in the bottleneck (at 1 x 1 it would set every value to
    0). ``dropout`` after the normalization of the three deepest decoder blocks. tanh at the end. H and W must be
    multiples of 2**levels. ``upsampling``: ``"transposed"`` convolutions as published, or ``"resize"``,
    nearest-neighbor interpolation and a 3 x 3 convolution.
    """

    def __init__(
        self,
        filters: int = 64,
        levels: int = 8,
        dropout: float = 0.5,
        upsampling: Literal["transposed", "resize"] = "transposed",
    ) -> None:
        super().__init__()
        widths = [filters * min(8, 2**level) for level in range(levels)]
        self.down = nn.ModuleList([nn.Conv2d(1, widths[0], 4, stride=2, padding=1)])
        for level in range(1, levels):
            deepest = level == levels - 1
            layers: list[nn.Module] = [
                nn.LeakyReLU(0.2),
                nn.Conv2d(widths[level - 1], widths[level], 4, stride=2, padding=1, bias=deepest),
            ]
            self.down.append(nn.Sequential(*layers, *([] if deepest else [InstanceNorm(widths[level])])))
        self.up = nn.ModuleList()
        for level in range(levels - 1, 0, -1):
            width = widths[level] if level == levels - 1 else 2 * widths[level]
            layers = [nn.ReLU(), *_upsample(width, widths[level - 1], upsampling, bias=False)]
            layers.append(InstanceNorm(widths[level - 1]))
            if levels - 1 - level < _DROPOUT_BLOCKS and dropout > 0:
                layers.append(nn.Dropout(dropout))
            self.up.append(nn.Sequential(*layers))
        self.last = nn.Sequential(nn.ReLU(), *_upsample(2 * widths[0], 1, upsampling, bias=True))

    @classmethod
    def from_config(cls, config: Generator, size: int) -> UnetGenerator:
        """Build the generator of ``config`` for slices of ``size`` pixels."""
        return cls(config.filters, unet_levels(size), config.dropout, config.upsampling)

    @staticmethod
    def canvas_multiple(size: int) -> int:
        """Return 2**levels: rows and columns are halved once per level."""
        return int(2 ** unet_levels(size))

    @staticmethod
    def own_settings(_config: Generator, _size: int) -> dict[str, Any]:
        """Return the settings of this architecture alone that determine the weights' names and shapes: none."""
        return {}

    @staticmethod
    def weight_levels(size: int) -> int:
        """Return the number of levels for slices of ``size`` pixels; no setting changes it."""
        return unet_levels(size)

    @staticmethod
    def levels_of_weights(names: Iterable[str]) -> int:
        """Return the number of levels of weights with these ``names``."""
        return sum(name.startswith("down.") and name.endswith(".weight") for name in names)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate ``image`` ``(N, 1, H, W)`` in [-1, 1]; the result has the same dtype."""
        skips = [self.down[0](image)]
        for layer in self.down[1:]:
            skips.append(layer(skips[-1]))
        features = skips.pop()
        for layer in self.up:
            features = torch.cat([layer(features), skips.pop()], dim=1)
        return torch.tanh(self.last(features).to(image.dtype))


def _upsample(channels_in: int, channels_out: int, upsampling: str, *, bias: bool) -> list[nn.Module]:
    """Return layers that double rows and columns."""
    if upsampling == "resize":
        return [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels_in, channels_out, 3, bias=bias),
        ]
    return [nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=bias)]
