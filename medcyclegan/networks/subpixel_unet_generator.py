"""A U-Net that works at half the resolution and ends with a sub-pixel convolution (Shi et al. 2016)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

from medcyclegan.config import Generator
from medcyclegan.errors import ConfigError
from medcyclegan.networks.normalization import InstanceNorm

__all__ = ["SubpixelUnetGenerator", "subpixel_levels"]

#: Levels for slices of 64 pixels and more. The deepest has one pixel for 32 x 32 of the slice.
_MOST_LEVELS = 5


def subpixel_levels(size: int) -> int:
    """Return the number of levels for slices of ``size`` pixels: 5 from 64 pixels on, fewer below.

    Raises :class:`~medcyclegan.errors.ConfigError` if ``size`` cannot be halved once per level, or is below 8.
    """
    levels = max(2, min(_MOST_LEVELS, size.bit_length() - 2))
    if size % 2**levels or size < 8:
        below = max(8, 2**levels * (size // 2**levels))
        raise ConfigError(
            f"slices of {size} pixels cannot be halved {levels} times, as the subpixel_unet does: "
            f"slice at {below} or {below + 2**levels}, or use networks.generator.kind=resnet"
        )
    return levels


class SubpixelUnetGenerator(nn.Module):
    """A U-Net (Ronneberger et al. 2015) at half the resolution, with a sub-pixel convolution at the end.

    ``(N, 1, H, W)`` to the same shape. ``levels`` levels of two convolutions, the first of which halves rows and
    columns: in the uppermost level it has 6 x 6 pixels, all others have 3 x 3. The number of channels starts at
    ``filters`` and doubles up to four times that. LeakyReLU 0.2, and instance normalization except after the first
    convolution. The last convolution has four channels, which become 2 x 2 pixels (Shi et al. 2016, arXiv
    1609.05158), and tanh. H and W must be multiples of 2**levels.

    Edges can be as sharp as in the input, unlike in :class:`UnetGenerator` with ``upsampling="resize"``, whose last
    layer enlarges a coarser image. ``upsampling`` between the levels: ``"transposed"`` convolutions of 2 x 2 pixels, as
    in the original U-Net, or ``"resize"``, nearest-neighbor interpolation.
    """

    def __init__(
        self,
        filters: int = 32,
        levels: int = _MOST_LEVELS,
        upsampling: Literal["transposed", "resize"] = "transposed",
    ) -> None:
        super().__init__()
        widths = [filters * min(4, 2**level) for level in range(levels)]
        first = [nn.Conv2d(1, widths[0], 6, stride=2, padding=2), nn.LeakyReLU(0.2)]
        self.down = nn.ModuleList([nn.Sequential(*first, *_convolution(widths[0], widths[0]))])
        for narrow, wide in itertools.pairwise(widths):
            self.down.append(nn.Sequential(*_convolution(narrow, wide, stride=2), *_convolution(wide, wide)))
        self.enlarge, self.up = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in reversed(list(itertools.pairwise(widths))):
            self.enlarge.append(_upsample(wide, upsampling))
            self.up.append(nn.Sequential(*_convolution(wide + narrow, narrow), *_convolution(narrow, narrow)))
        self.last = nn.Sequential(nn.Conv2d(widths[0], 4, 3, padding=1), nn.PixelShuffle(2))

    @classmethod
    def from_config(cls, config: Generator, size: int) -> SubpixelUnetGenerator:
        """Build the generator of ``config`` for slices of ``size`` pixels."""
        return cls(config.filters, subpixel_levels(size), config.upsampling)

    @staticmethod
    def canvas_multiple(size: int) -> int:
        """Return 2**levels: rows and columns are halved once per level."""
        return int(2 ** subpixel_levels(size))

    @staticmethod
    def own_settings(_config: Generator, _size: int) -> dict[str, Any]:
        """Return the settings of this architecture alone that determine the weights' names and shapes: none."""
        return {}

    @staticmethod
    def weight_levels(size: int) -> int:
        """Return the number of levels for slices of ``size`` pixels; no setting changes it."""
        return subpixel_levels(size)

    @staticmethod
    def levels_of_weights(names: Iterable[str]) -> int:
        """Return the number of levels of weights with these ``names``."""
        return len({name.split(".")[1] for name in names if name.startswith("down.")})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate ``image`` ``(N, 1, H, W)`` in [-1, 1]; the result has the same dtype."""
        features, skips = image, []
        for layer in self.down:
            features = layer(features)
            skips.append(features)
        skips.pop()
        for enlarge, layer in zip(self.enlarge, self.up, strict=True):
            features = layer(torch.cat([enlarge(features), skips.pop()], dim=1))
        return torch.tanh(self.last(features).to(image.dtype))


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> list[nn.Module]:
    """Return a 3 x 3 convolution with normalization and activation."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return [convolution, InstanceNorm(channels_out), nn.LeakyReLU(0.2, inplace=True)]


def _upsample(channels: int, upsampling: str) -> nn.Module:
    """Return a layer that doubles rows and columns."""
    if upsampling == "resize":
        return nn.Upsample(scale_factor=2, mode="nearest")
    return nn.ConvTranspose2d(channels, channels, 2, stride=2)
