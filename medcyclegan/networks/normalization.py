"""Instance normalization by the operator that is fastest on the device."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["InstanceNorm"]


class InstanceNorm(nn.Module):
    """Normalize each channel of each image to mean 0 and variance 1 (Ulyanov et al. 2016).

    Equal to ``torch.nn.InstanceNorm2d(channels)`` without affine terms and running statistics, up to rounding.
    On CPUs it is computed as group normalization with one channel per group, which is faster with channels last.
    On other devices it is not, because autocast would convert group normalization to float32.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize ``x`` ``(N, C, H, W)``; H x W must be more than one pixel."""
        if x.device.type == "cpu":
            return nn.functional.group_norm(x, self.channels, eps=self.eps)
        return nn.functional.instance_norm(x, eps=self.eps)

    def extra_repr(self) -> str:
        """Return the description of this layer in ``print(network)``."""
        return f"{self.channels}, eps={self.eps}"
