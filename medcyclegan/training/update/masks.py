"""The head mask of an image, and how much the masks of a fake and of its input differ."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["mask_loss", "soft_mask"]

#: The edge of the blocks over which a mask is averaged, in pixels.
_BLOCK = 8
#: The value at which a pixel counts half, in the scaled range above that of air, and the width of the transition.
_LEVEL, _WIDTH = 0.12, 0.04


def soft_mask(images: torch.Tensor) -> torch.Tensor:
    """Return the share of each block of ``images`` ``(N, C, H, W)`` in [-1, 1] that is brighter than air, 0 to 1."""
    return torch.sigmoid((functional.avg_pool2d(images, _BLOCK, ceil_mode=True) + 1.0 - _LEVEL) / _WIDTH)


def mask_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of the soft masks of ``fake`` and of its input ``real``."""
    wide = torch.promote_types(fake.dtype, torch.float32)
    return functional.l1_loss(soft_mask(fake.to(wide)), soft_mask(real.to(wide)))
