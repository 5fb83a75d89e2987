"""Distances and region growing on a voxel grid, in torch, over a few millimeters."""

from __future__ import annotations

import torch

__all__ = ["distance_to", "grow_within"]

#: Squared distances are whole numbers of (1/8 mm)^2. "Far" is 15.8 mm, so that the sum of two still fits into int16.
_PER_MM = 8.0
_FAR = 16000


def distance_to(mask: torch.Tensor, spacing_mm: tuple[float, float, float], reach_mm: float) -> torch.Tensor:
    """Return the Euclidean distance in mm of every voxel ``(X, Y, Z)`` to the nearest voxel of ``mask``, float32.

    Exact (to 1/8 mm) up to ``reach_mm``, which is at most 15; larger distances are set to ``reach_mm``. Along each axis
    in turn, the result is the minimum, over the neighbors, of their squared distance plus the square of the distance to
    them (Felzenszwalb and Huttenlocher 2012, Theory of Computing 8:415, here with a bounded reach).
    """
    squared = torch.full(mask.shape, _FAR, dtype=torch.int16, device=mask.device)
    squared[mask] = 0
    for axis in range(3):
        nearest = squared.clone()
        length = squared.shape[axis]
        for step in range(1, min(length, int(reach_mm / spacing_mm[axis]) + 1)):
            further = squared + min(_FAR, round((step * spacing_mm[axis] * _PER_MM) ** 2))
            for here, there in ((0, step), (step, 0)):
                target = nearest.narrow(axis, here, length - step)
                torch.minimum(target, further.narrow(axis, there, length - step), out=target)
        squared = nearest
    return (squared.float().sqrt() / _PER_MM).clamp(max=reach_mm)


def grow_within(seeds: torch.Tensor, within: torch.Tensor, steps: int) -> torch.Tensor:
    """Return the voxels of ``within`` that can be reached from ``seeds`` in ``steps`` steps to face neighbors."""
    grown = seeds.clone()
    if bool(grown.any()):
        for _ in range(steps):
            wider = grown.clone()
            for axis in range(3):
                length = grown.shape[axis]
                for here, there in ((0, 1), (1, 0)):
                    wider.narrow(axis, here, length - 1).logical_or_(grown.narrow(axis, there, length - 1))
            grown = wider & within | seeds
    return grown & within
