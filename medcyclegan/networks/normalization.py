"""Instance normalisation, computed the way that is fastest on the device."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["InstanceNorm"]


class InstanceNorm(nn.Module):
    """Normalise each channel of each image to mean 0 and variance 1 (Ulyanov et al. 2016).

    The same function as ``torch.nn.InstanceNorm2d(channels)``, without affine terms and running
    statistics, to rounding. On CPUs it is group normalisation with one channel a group, which is
    faster where channels come last; elsewhere autocast would turn that to float32.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``x`` ``(N, C, H, W)``; H x W must hold more than one pixel."""
        if x.device.type == "cpu":
            return nn.functional.group_norm(x, self.channels, eps=self.eps)
        return nn.functional.instance_norm(x, eps=self.eps)

    def extra_repr(self) -> str:
        """Return what ``print(network)`` shows of this layer."""
        return f"{self.channels}, eps={self.eps}"
