"""Slices with their neighbors as channels: reduce a generator to the middle slice, and start from one of one slice."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

__all__ = ["keep_middle_slice", "middle_slice", "with_context"]


def middle_slice(slices: torch.Tensor) -> torch.Tensor:
    """Return the middle of C slices: ``(N, C, H, W)`` to ``(N, 1, H, W)``."""
    middle = slices.shape[1] // 2
    return slices[:, middle : middle + 1]


class _Middle(nn.Module):
    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return middle_slice(slices)


def with_context(weights: Mapping[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a generator of single slices for ``network``, the same one with C slices as channels.

    The first convolution reads the middle slice only: its weights for the others are 0. The last one has the same
    weights for each slice, so all C slices of the result are the translation of the middle one.
    """
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    (first, entry), (last, end) = layers[0], layers[-1]
    slices, widened = entry.in_channels, dict(weights)
    kernel = weights[f"{first}.weight"]
    spread = kernel.new_zeros(kernel.shape[0], slices, *kernel.shape[2:])
    spread[:, slices // 2] = kernel[:, 0]
    widened[f"{first}.weight"] = spread
    axis = 0 if isinstance(end, nn.Conv2d) else 1
    widened[f"{last}.weight"] = torch.cat([weights[f"{last}.weight"]] * slices, dim=axis)
    if f"{last}.bias" in weights:
        widened[f"{last}.bias"] = torch.cat([weights[f"{last}.bias"]] * slices)
    return widened


def keep_middle_slice(network: nn.Module) -> nn.Module:
    """Change a generator that returns C slices, in place, to return only the middle one; return the generator.

    The output channels of the other slices are removed from its last convolution, so they are not computed. A pixel
    shuffle after it makes each slice of several channels.
    """
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    if not convolutions:
        return _Middle()
    last = convolutions[-1]
    per_slice = max((m.upscale_factor**2 for m in network.modules() if isinstance(m, nn.PixelShuffle)), default=1)
    first = last.out_channels // per_slice // 2 * per_slice
    middle = slice(first, first + per_slice)
    kept = last.weight[middle] if isinstance(last, nn.Conv2d) else last.weight[:, middle]
    last.weight = nn.Parameter(kept.detach().clone(), requires_grad=last.weight.requires_grad)
    if last.bias is not None:
        last.bias = nn.Parameter(last.bias[middle].detach().clone(), requires_grad=last.bias.requires_grad)
    last.out_channels = per_slice
    return network
