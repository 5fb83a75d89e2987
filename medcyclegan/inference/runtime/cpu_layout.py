"""Optimize a generator for CPUs without changing its function, up to rounding."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from medcyclegan.inference.runtime.precision import to_reduced_precision
from medcyclegan.inference.runtime.winograd import WinogradConvolution, winograd_pays
from medcyclegan.networks import InstanceNorm

__all__ = ["CentredNorm", "NarrowConvolution", "tune_for_cpu"]

#: Rows that a :class:`NarrowConvolution` computes at a time: their maps fit into a CPU's cache.
_STRIP = 64
#: Pixels whose squares a :class:`CentredNorm` sums at a time.
_PIXELS = 4096


def tune_for_cpu(network: nn.Module, dtype: torch.dtype = torch.float32, *, few: bool = False) -> nn.Module:
    """Convert a generator, in place, to channels last and to ``dtype`` where that is safe; return it.

    Convolutions are faster with channels last. Normalizations are too, but torch then computes a channel's variance
    in one pass, as the mean square minus the squared mean, which caused errors of 2 HU on a real CT. Each normalization
    is therefore replaced by a :class:`CentredNorm`. Wide padded convolutions become a :class:`WinogradConvolution`
    (except for a ``few`` slices, which do not justify four times the weights), and the last one becomes a
    :class:`NarrowConvolution`.
    """
    rows = [] if few else [module for module in network.modules() if isinstance(module, nn.Sequential)]
    for row in rows:
        for place, (pad, convolution) in enumerate(itertools.pairwise(list(row))):
            padded = isinstance(pad, nn.ReflectionPad2d) and pad.padding == (1, 1, 1, 1)
            if padded and isinstance(convolution, nn.Conv2d) and winograd_pays(convolution, dtype):
                row[place], row[place + 1] = nn.Identity(), WinogradConvolution(convolution, dtype)
    network = to_reduced_precision(network, dtype)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, InstanceNorm):
                setattr(parent, name, CentredNorm(child))
            elif isinstance(child, nn.Conv2d) and child.out_channels == 1 and child.kernel_size[0] > 3:
                setattr(parent, name, NarrowConvolution(child))
    return network


class CentredNorm(nn.Module):
    """Instance normalization in two passes, mean first. It overwrites its input, a convolution's output.

    In float32 it is as exact as torch's normalization with channels first. In other formats, which are less precise
    than the sums, it shifts each channel close to 0 and applies torch's normalization.
    """

    def __init__(self, norm: InstanceNorm) -> None:
        super().__init__()
        self.channels, self.eps = norm.channels, norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize each channel of each image of ``x`` ``(N, C, H, W)``."""
        if x.dtype != torch.float32:
            return nn.functional.group_norm(_centre(x), self.channels, eps=self.eps)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        # In a constant channel, only the mean's rounding error would remain, and it would be amplified.
        pixels.sub_(pixels[:, :1].clone())
        pixels.sub_(pixels.mean(dim=1, keepdim=True))
        # A map of all squares would not fit into a CPU's cache.
        parts = torch.split(pixels, _PIXELS, dim=1)
        squares = torch.stack([part.square().sum(dim=1, keepdim=True) for part in parts]).sum(dim=0)
        pixels.mul_(torch.rsqrt(squares / pixels.shape[1] + self.eps))
        return pixels.view(x.shape[0], x.shape[2], x.shape[3], self.channels).permute(0, 3, 1, 2)


class NarrowConvolution(nn.Module):
    """A convolution to one channel, computed as a matrix product and sums of shifted maps.

    Libraries optimize convolutions for many output channels; a 7 x 7 convolution from 64 channels to 1 is 5 times
    faster this way. It replaces ``convolution``, which has no stride and padding, and accepts inputs in any number
    format; the result has that of the weights.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.kernel_size = convolution.kernel_size
        self.weight = nn.Parameter(convolution.weight[0].flatten(1).T.contiguous(), requires_grad=False)
        self.bias = convolution.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, 1, H - rows + 1, W - columns + 1)`` of ``x`` ``(N, C, H, W)``."""
        rows, columns = self.kernel_size
        height, width = x.shape[2] - rows + 1, x.shape[3] - columns + 1
        result = self.weight.new_zeros(x.shape[0], 1, height, width)
        if self.bias is not None:
            result += self.bias
        for image, total in zip(x.permute(0, 2, 3, 1), result[:, 0], strict=True):
            for top in range(0, height, _STRIP):
                strip, out = image[top : top + _STRIP + rows - 1], total[top : top + _STRIP]
                pixels = strip.reshape(-1, x.shape[1]).to(self.weight.dtype)
                taps = (self.weight @ pixels.T).view(rows, columns, *strip.shape[:2])
                for row in range(rows):
                    for column in range(columns):
                        out += taps[row, column, row : row + len(out), column : column + width]
        return result


def _centre(x: torch.Tensor) -> torch.Tensor:
    """Subtract a value near its mean from each channel of ``x``, a convolution's output, in place."""
    rows, columns = (max(1, n // 8) for n in x.shape[2:])
    return x.sub_(x[:, :, ::rows, ::columns].mean(dim=(2, 3), keepdim=True))
