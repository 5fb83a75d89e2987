"""The number format in which a generator computes, and the error that it causes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from medcyclegan.intensity import AIR

__all__ = ["Difference", "compare", "exact_convolutions", "to_reduced_precision"]


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference between two translations of the same slices, in the unit of the output.

    ``mean`` and ``largest``: of the absolute difference. ``slices``: the number of compared slices.
    """

    mean: float
    largest: float
    unit: str
    slices: int

    def __str__(self) -> str:
        count = f"{self.slices} slice{'s' if self.slices != 1 else ''}"
        return f"{self.mean:.3g} {self.unit} on average, at most {self.largest:.3g} {self.unit}, on {count}"


def to_reduced_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Change a generator, in place, to compute in ``dtype`` between its first and last convolution.

    These two remain in float32, because bf16 rounds numbers near 1 to multiples of 1/256, which appear as steps of
    8 HU in a CT. Input and output remain float32.
    """
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    if dtype == torch.float32 or len(convolutions) < 3:
        return network
    for convolution in convolutions[1:-1]:
        convolution.to(dtype)
        convolution.register_forward_pre_hook(lambda _module, inputs: (inputs[0].to(dtype),))
    convolutions[0].register_forward_hook(lambda _module, _inputs, output: output.to(dtype))
    convolutions[-1].register_forward_pre_hook(lambda _module, inputs: (inputs[0].float(),))
    return network


def exact_convolutions(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context in which CUDA convolutions keep all 24 bits (no TF32); on other devices it does nothing."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return context


def compare(
    one: Callable[[torch.Tensor], torch.Tensor],
    other: Callable[[torch.Tensor], torch.Tensor],
    slices: torch.Tensor,
    *,
    half_range: float,
    unit: str,
) -> Difference:
    """Translate ``slices`` ``(N, 1, H, W)`` in [-1, 1] both ways and return the difference of the results.

    The mean is taken over the foreground of the slices, because air would lower it; the maximum over all pixels.
    ``half_range``: a difference of 1, in ``unit``.
    """
    difference = (one(slices) - other(slices)).abs() * half_range
    shown = difference[slices > AIR]
    mean = shown.mean() if shown.numel() else difference.mean()
    return Difference(float(mean), float(difference.max()), unit, slices.shape[0])
