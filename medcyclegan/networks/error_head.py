"""A small network that predicts the expected error of a translation from its input and output."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

__all__ = ["ErrorHead"]

#: Channels of each level, from half the resolution of the slices to a sixteenth.
_WIDTHS = (12, 24, 32, 48)
#: The smallest prediction, in units of the scaled range [-1, 1]: a tenth of a percent of the range.
_FLOOR = 2e-3
#: The prediction before the fit.
_TYPICAL = 0.05


class ErrorHead(nn.Module):
    """A U-Net that maps signals ``(N, C, H, W)`` to the expected absolute error ``(N, 1, H / 2, W / 2)``.

    Signals and errors are in units of the scaled range [-1, 1]. H and W are at least 16; maps of odd size are padded.
    Without normalization layers, the prediction at a pixel does not depend on distant ones.
    """

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.channels = channels
        before = (channels, *_WIDTHS)
        self.down = nn.ModuleList(_block(before[n], width, stride=2) for n, width in enumerate(_WIDTHS))
        self.up = nn.ModuleList(
            _block(_WIDTHS[n + 1] + _WIDTHS[n], _WIDTHS[n], stride=1) for n in range(len(_WIDTHS) - 1)
        )
        self.last = nn.Conv2d(_WIDTHS[0], 1, 1)
        with torch.no_grad():
            for bias in (values for name, values in self.last.named_parameters() if name == "bias"):
                bias.fill_(math.log(_TYPICAL))

    def forward(self, signals: torch.Tensor) -> torch.Tensor:
        """Return the expected absolute error at half the resolution."""
        maps = []
        for block in self.down:
            signals = block(signals)
            maps.append(signals)
        for number in reversed(range(len(self.up))):
            size = maps[number].shape[-2:]
            larger = functional.interpolate(signals, size=size, mode="bilinear", align_corners=False)
            signals = self.up[number](torch.cat([larger, maps[number]], dim=1))
        # Errors are at most 2: the logarithm is limited so that its exponential stays finite.
        expected: torch.Tensor = _FLOOR + torch.exp(self.last(signals).clamp(max=1.0))
        return expected


def _block(channels: int, width: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stride, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(width, width, 3, padding=1),
        nn.LeakyReLU(0.1),
    )
