"""3 x 3 convolutions by Winograd's algorithm, for CPUs: a quarter of the multiplications, the same function."""

from __future__ import annotations

import functools
import platform

import torch
from torch import nn

__all__ = ["WinogradConvolution", "winograd_pays"]

#: Narrower convolutions spend more on the transforms than they save; for wider ones oneDNN lays out the weights anew
#: for each size of map.
_FEWEST_CHANNELS, _MOST_CHANNELS = 128, 256
#: Pixels of a tile's side that are computed at once, and that are read for them.
_OUT, _IN = 4, 6
_PLACES = _IN * _IN
#: Where the tiles' polynomials are evaluated, beside infinity: of all that were tried, these round least.
_POINTS = (0.0, 2**-0.5, -(2**-0.5), 2**0.5, -(2**0.5))
#: Tiles that are worked on at a time: what they need should stay in a processor's cache.
_STRIP = 128
_GROUPED = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": _PLACES}


def winograd_pays(convolution: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Tell whether :class:`WinogradConvolution` in ``dtype`` is faster than ``convolution`` on this CPU.

    A rule, not a timing, so that the same machine always computes the same. It is for convolutions whose cost is
    their multiplications: wide ones, and not bf16 on processors that have matrix units for it (AMX).
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
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and bool(capabilities.get("avx2"))
        and (dtype == torch.float32 or not capabilities.get("amx_bf16"))
    )


class WinogradConvolution(nn.Module):
    """Reflection padding of one pixel and ``convolution``, 3 x 3 of stride 1, as F(4 x 4, 3 x 3).

    Lavin and Gray 2016 (arXiv 1509.09308): tiles of 6 x 6 pixels are transformed, multiplied by the transformed
    kernel at each of their 36 places as a matrix over the channels, and transformed back to 4 x 4 pixels. ``dtype``:
    the number format of it all; float32 rounds about as a direct convolution does, bf16 about twice as much.
    """

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype, self.channels = dtype, convolution.out_channels
        kernel, inputs, outputs = _transforms()
        self._inputs, self._outputs = (torch.kron(each, each).to(dtype) for each in (inputs, outputs))
        weight = convolution.weight.detach()
        places = torch.kron(kernel, kernel) @ weight.permute(2, 3, 0, 1).reshape(9, -1).double()
        # One group a place: oneDNN's convolutions are twice as fast at this as torch's batched matrix product.
        self._places = torch.ops.mkldnn._reorder_convolution_weight(
            places.to(dtype).view(-1, weight.shape[1], 1, 1),
            **_GROUPED,
            input_size=[1, _PLACES * weight.shape[1], 16, 16],
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, K, H, W)``, channels last, of ``x`` ``(N, C, H, W)``, in ``dtype``; H and W are over 1."""
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
        """Return the tiles ``(rows, columns, 4, 4, K)`` of some rows of the image."""
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
        """Return what ``print(network)`` shows of this layer."""
        return f"{self.channels}, {self.dtype}"


def _pad(image: torch.Tensor, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Return ``image`` ``(H, W, C)`` in ``dtype`` within a mirrored border of one pixel, zeros beyond."""
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

    By Toom and Cook: evaluate kernel and output at the points and at infinity, and interpolate the input by the
    transposed inverse.
    """
    points = torch.tensor(_POINTS, dtype=torch.float64)

    def evaluate(coefficients: int) -> torch.Tensor:
        at_infinity = torch.zeros(1, coefficients, dtype=torch.float64)
        at_infinity[0, -1] = 1
        return torch.cat([torch.vander(points, coefficients, increasing=True), at_infinity])

    kernel, inputs = evaluate(3), torch.linalg.inv(evaluate(_IN)).T
    # Both alike in size, and the input's largest number a power of two.
    alike = (kernel.norm(dim=1) / inputs.norm(dim=1)).sqrt()
    largest = inputs.abs().amax(dim=1)
    scale = (torch.exp2(torch.log2(alike * largest).round()) / largest)[:, None]
    return kernel / scale, inputs * scale, evaluate(_OUT).T
