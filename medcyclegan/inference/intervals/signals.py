"""The signals from which the error of a translation is predicted: input and output, on the canvas of the slices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from medcyclegan.inference.planes import Part, plan_canvas, plane_chunks
from medcyclegan.inference.translate import Translation
from medcyclegan.networks import ErrorHead
from medcyclegan.plane import PlaneFit, from_plane, plane_axes, plane_view
from medcyclegan.volume import Volume

__all__ = ["every_nth_slice", "expected_error", "expected_slices", "slice_signals"]

#: Slices at a time; the network is small.
_AT_ONCE = 8


def every_nth_slice(volume: Volume, most: int) -> tuple[Volume, slice]:
    """Return ``volume`` with evenly spaced axial slices, at most ``most``, and their slice of the array's axis.

    The slice spacing is that between the slices that are kept.
    """
    axes, _ = plane_axes(volume.orientation)
    axis = axes[2]
    step = -(-volume.shape[axis] // most)
    first = (volume.shape[axis] - 1) % step // 2
    kept = [slice(None)] * 3
    kept[axis] = slice(first, None, step)
    affine = volume.affine.copy()
    affine[:3, 3] += first * affine[:3, axis]
    affine[:3, axis] *= step
    return volume.replace(array=volume.array[tuple(kept)], affine=affine), kept[axis]


def slice_signals(volume: Volume, done: Translation) -> Iterator[tuple[Part, PlaneFit, torch.Tensor]]:
    """Yield the axial slices of input and output: their indices, how they were fitted, and ``(N, 2, H, W)``.

    Both channels are in [-1, 1], on the canvas of the model's slices.
    """
    fit = plan_canvas(volume, done.direction.model)
    inputs = plane_chunks(volume, done.scaling, fit, at_once=_AT_ONCE)
    outputs = plane_chunks(done.volume, done.direction.target.scaling, fit, at_once=_AT_ONCE)
    for (part, given), (_, made) in zip(inputs, outputs, strict=True):
        yield part, fit, torch.cat([given, made], dim=1)


def expected_slices(head: ErrorHead, signals: torch.Tensor, fit: PlaneFit) -> torch.Tensor:
    """Return the expected absolute error of slices, ``(N, H, W)`` on the volume's own pixels, in scaled units."""
    with torch.inference_mode():
        coarse = head(signals)
        expected = functional.interpolate(coarse, size=signals.shape[-2:], mode="bilinear", align_corners=False)
        return from_plane(expected, fit, padding=2.0)[:, 0]


def expected_error(head: ErrorHead, volume: Volume, done: Translation) -> NDArray[np.float32]:
    """Return the expected absolute error of each voxel of ``done``, ``(I, J, K)`` in scaled units."""
    result = np.empty(volume.shape, np.float32)
    view = plane_view(result, volume.orientation)
    for part, fit, signals in slice_signals(volume, done):
        view[:, :, part] = expected_slices(head, signals, fit).permute(1, 2, 0).numpy()
    return result
