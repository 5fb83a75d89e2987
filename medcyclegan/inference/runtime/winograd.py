"""Winograd's algorithm for 3 x 3 convolutions on CPUs, with a quarter of the multiplications."""

from __future__ import annotations

import functools
import platform

import torch
from torch import nn

__all__ = ["WinogradConvolution", "winograd_pays"]

#: For narrower convolutions the transforms cost more than they save; for wider ones oneDNN reorders the weights for
#: each map size.
_FEWEST_CHANNELS, _MOST_CHANNELS = 128, 256
#: Side of an output tile and of the input tile that it needs, in pixels.
_OUT, _IN = 4, 6
_PLACES = _IN * _IN
#: Points, in addition to infinity, at which polynomials are evaluated: the smallest rounding error of those tried.
_POINTS = (0.0, 2**-0.5, -(2**-0.5), 2**0.5, -(2**0.5))
#: Tiles that are processed at a time: their data should fit into a CPU's cache.
_STRIP = 128
#: torch's operators that are called here; they are internal, so another version of torch may lack them.
_OPERATORS = ("_convolution_pointwise", "_reorder_convolution_weight")
_GROUPED = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": _PLACES}


def winograd_pays(convolution: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Return whether :class:`WinogradConvolution` in ``dtype`` is faster than ``convolution`` on this CPU.

    This is a rule and not a timing, so that the same machine always returns the same results. It holds for
    convolutions dominated by multiplications: wide ones, except in bf16 on CPUs with matrix units for it (AMX). It is
    False if torch lacks one of the operators: the convolution is then used as it is.
    """
    capabilities = torch.cpu.get_capabilities()
    return (
        convolution.kernel_size == (3, 3)
        and convolution.stride == convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.padding == (0, 0)
        and convolution.bias is None
        and min(convolution.in_channels, convolution.out_channels) >= _FEWEST_CHANNELS
        and max(convolution.in_channels, convolution.out_channels) <= _MOST_CHANNELS
        and platform.machine() in ("x86_64", "AMD64")
        and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS)
        and bool(capabilities.get("avx2"))
        and (dtype == torch.float32 or not capabilities.get("amx_bf16"))
    )


class WinogradConvolution(nn.Module):
    """Reflection padding of one pixel and ``convolution`` (3 x 3, stride 1) as Winograd's F(4 x 4, 3 x 3).

    Lavin and Gray 2016 (arXiv 1509.09308): tiles of 6 x 6 pixels are transformed, multiplied by the transformed
    kernel (a matrix over the channels at each of the 36 places), and transformed back to 4 x 4 pixels. ``dtype`` is the
    number format of all steps. Its rounding error is similar to a direct convolution's in float32, and about twice
    as large in bf16.
    """

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype, self.channels = dtype, convolution.out_channels
        kernel, inputs, outputs = _transforms()
        self._inputs, self._outputs = (torch.kron(each, each).to(dtype) for each in (inputs, outputs))
        weight = convolution.weight.detach()
        places = torch.kron(kernel, kernel) @ weight.permute(2, 3, 0, 1).reshape(9, -1).double()
        # One group per place: oneDNN's grouped convolution is twice as fast as torch's batched matrix product.
        self._places = torch.ops.mkldnn._reorder_convolution_weight(
            places.to(dtype).view(-1, weight.shape[1], 1, 1),
            **_GROUPED,
            input_size=[1, _PLACES * weight.shape[1], 16, 16],
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, K, H, W)``, channels last, of ``x`` ``(N, C, H, W)``, in ``dtype``; H and W must exceed 1."""
        images = [self._convolve(image) for image in x.permute(0, 2, 3, 1)]
        return (images[0][None] if len(images) == 1 else torch.stack(images)).permute(0, 3, 1, 2)

    def _convolve(self, image: torch.Tensor) -> torch.Tensor:
        """Return ``(H, W, K)`` of one image ``(H, W, C)``."""
        height, width, _ = image.shape
        rows, columns = -(-height // _OUT), -(-width // _OUT)
        padded = _pad(image, _OUT * rows + 2, _OUT * columns + 2, self.dtype)
        result = padded.new_empty((rows, _OUT, columns, _OUT, self.channels))
        strip = max(1, _STRIP // columns)
        for first in range(0, rows, strip):
            some = padded[_OUT * first : _OUT * (first + strip) + 2]
            result[first : first + strip] = self._tiles(some).permute(0, 2, 1, 3, 4)
        return result.view(_OUT * rows, _OUT * columns, self.channels)[:height, :width]

    def _tiles(self, padded: torch.Tensor) -> torch.Tensor:
        """Return the output tiles ``(rows, columns, 4, 4, K)`` of some rows of the image."""
        row, column, _ = padded.stride()
        rows, columns, channels = (padded.shape[0] - 2) // _OUT, (padded.shape[1] - 2) // _OUT, padded.shape[2]
        steps = (_OUT * row, _OUT * column, row, column, 1)
        tiles = padded.as_strided((rows, columns, _IN, _IN, channels), steps, padded.storage_offset())
        grid = (self._inputs @ tiles.reshape(-1, _PLACES, channels)).view(1, rows, columns, -1).permute(0, 3, 1, 2)
        products = torch.ops.mkldnn._convolution_pointwise(
            grid, self._places, None, **_GROUPED, attr="none", scalars=[], algorithm=""
        )
        pixels = self._outputs @ products.permute(0, 2, 3, 1).reshape(-1, _PLACES, self.channels)
        return pixels.view(rows, columns, _OUT, _OUT, self.channels)

    def extra_repr(self) -> str:
        """Return the description of this layer in ``print(network)``."""
        return f"{self.channels}, {self.dtype}"


def _pad(image: torch.Tensor, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Return ``image`` ``(H, W, C)`` in ``dtype`` with a mirrored border of one pixel and zeros beyond it."""
    height, width, channels = image.shape
    padded = image.new_empty((rows, columns, channels), dtype=dtype)
    padded[height + 2 :] = 0
    padded[:, width + 2 :] = 0
    padded[1 : height + 1, 1 : width + 1] = image
    padded[1 : height + 1, 0] = image[:, 1]
    padded[1 : height + 1, width + 1] = image[:, width - 2]
    padded[0, : width + 2] = padded[2, : width + 2]
    padded[height + 1, : width + 2] = padded[height - 1, : width + 2]
    return padded


@functools.cache
def _transforms() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the matrices of the kernel ``(6, 3)``, the input ``(6, 6)`` and the output ``(4, 6)``, in float64.

    Toom-Cook construction: kernel and output are evaluated at the points and at infinity, and the input transform is
    the transposed inverse.
    """
    points = torch.tensor(_POINTS, dtype=torch.float64)

    def evaluate(coefficients: int) -> torch.Tensor:
        at_infinity = torch.zeros(1, coefficients, dtype=torch.float64)
        at_infinity[0, -1] = 1
        return torch.cat([torch.vander(points, coefficients, increasing=True), at_infinity])

    kernel, inputs = evaluate(3), torch.linalg.inv(evaluate(_IN)).T
    # Balance the norms of both matrices, and make the input's largest entry a power of two.
    alike = (kernel.norm(dim=1) / inputs.norm(dim=1)).sqrt()
    largest = inputs.abs().amax(dim=1)
    scale = (torch.exp2(torch.log2(alike * largest).round()) / largest)[:, None]
    return kernel / scale, inputs * scale, evaluate(_OUT).T
