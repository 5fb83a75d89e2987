"""Random warps of what the discriminators see, so that they cannot memorize the images of a few patients.

Differentiable augmentation (Zhao et al. 2020, arXiv 2006.10738): real images and fakes are warped alike in
distribution, in the updates of the discriminators and of the generators, so that the generators learn to produce
unwarped images. The warps are geometric ones of Karras et al. 2020 (arXiv 2006.06676, appendix B), and the cutout of
Zhao et al.; changes of brightness or contrast would teach the generators other contrasts.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from medcyclegan.data import Stream, random_at

__all__ = ["draw_warps", "seen", "warped"]

#: The largest shift, a fraction of the image's edge, and rotation, and the standard deviation of log2 of the scale.
_SHIFT, _DEGREES, _SCALE = 0.125, 15.0, 0.15
#: The edge of the square that is covered, a fraction of the image's edge.
_COVERED = 0.3
#: The numbers that describe a warp: the 2 x 3 matrix, and the center of the covered square in [-1, 1].
_NUMBERS = 8
#: A center that is far outside the image.
_NOWHERE = 9.0


def draw_warps(seed: int, first: int, count: int, probability: float) -> torch.Tensor:
    """Return the warps ``(count, 8)`` of images ``first`` and after, each a pure function of the seed and its number.

    Each of the two parts, geometry and covering, is done with ``probability``.
    """
    rows = []
    for number in range(first, first + count):
        random = random_at(seed, Stream.WARP, number)
        chances, numbers = random.random(2), random.uniform(-1.0, 1.0, 7)
        rotation, scale, shift = 0.0, 1.0, np.zeros(2)
        if chances[0] < probability:
            rotation = math.radians(_DEGREES) * numbers[0]
            scale = 2.0 ** (_SCALE * random.standard_normal())
            shift = 2.0 * _SHIFT * numbers[1:3]
        cos, sin = math.cos(rotation) * scale, math.sin(rotation) * scale
        center = numbers[3:5] if chances[1] < probability else np.full(2, _NOWHERE)
        rows.append([cos, -sin, shift[0], sin, cos, shift[1], *center])
    return torch.tensor(np.array(rows), dtype=torch.float32).view(count, _NUMBERS)


def warped(images: torch.Tensor, warps: torch.Tensor) -> torch.Tensor:
    """Return ``images`` ``(N, C, H, W)`` in [-1, 1], warped by ``warps`` ``(N, 8)``; what comes from outside is -1."""
    warps = warps.to(images.dtype)
    places = functional.affine_grid(warps[:, :6].view(-1, 2, 3), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images + 1.0, places, padding_mode="zeros", align_corners=False)
    height, width = images.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=images.device, dtype=images.dtype)
    columns = torch.linspace(-1, 1, width, device=images.device, dtype=images.dtype)
    below = (rows[None, :, None] - warps[:, 7, None, None]).abs() < _COVERED
    beside = (columns[None, None, :] - warps[:, 6, None, None]).abs() < _COVERED
    return moved.masked_fill((below & beside)[:, None], 0.0) - 1.0


def seen(images: torch.Tensor, warps: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return ``images`` as a discriminator sees them: warped by ``warps[0]``, or unchanged if there are no warps."""
    return warped(images, warps[0]) if warps else images
