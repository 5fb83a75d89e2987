"""Planes: from any volume to slices of one size and back, as an invertible geometric mapping.

Slices are oriented as on a radiological display: in the axial plane rows run to posterior, columns to patient
left, and slice indices to superior (axis codes ``PLS``).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError

if TYPE_CHECKING:  # only resampling imports torch, when it is called
    import torch

__all__ = [
    "AXIAL",
    "PlaneFit",
    "Preparation",
    "CORONAL",
    "SAGITTAL",
    "canvas_fit",
    "cut_fit",
    "from_plane",
    "plane_affine",
    "plane_axes",
    "plane_view",
    "to_plane",
]

#: Axis codes of the rows, columns and slices of each plane.
AXIAL = "PLS"
CORONAL = "ILP"
SAGITTAL = "IPL"

_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "I": "S", "S": "I"}


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Size and pixel size of prepared slices; stored in the model folder, so they need not be given again.

    ``size``: rows and columns in pixels. ``fit``: ``"physical"`` (to ``pixel_mm``, then padded) or
    ``"stretch"`` (resized to ``size``). ``pixel_mm``: the pixel size of ``physical``.
    """

    size: int
    fit: Literal["physical", "stretch"]
    pixel_mm: float


@dataclasses.dataclass(frozen=True)
class PlaneFit:
    """Placement of a volume's slices on their canvas; pairs are (rows, columns).

    ``shape``: size of a slice in the volume. ``resized``: size after resampling. ``canvas``: size of the result.
    ``start``: the canvas pixel of the first pixel of the resized slice; negative if it is cropped.
    ``pixel_mm``: the actual pixel size (the one nearest to the requested size that gives whole pixels).
    """

    shape: tuple[int, int]
    resized: tuple[int, int]
    canvas: tuple[int, int]
    start: tuple[int, int]
    pixel_mm: tuple[float, float]

    @property
    def cuts(self) -> bool:
        """Whether the canvas crops the slice."""
        return any(s < 0 or s + r > c for s, r, c in zip(self.start, self.resized, self.canvas, strict=True))

    def matrix(self) -> NDArray[np.float64]:
        """Return the 4 x 4 matrix from canvas indices (row, column, slice) to those of the volume."""
        matrix = np.eye(4)
        for axis in (0, 1):
            scale = self.shape[axis] / self.resized[axis]
            matrix[axis, axis] = scale
            matrix[axis, 3] = (0.5 - self.start[axis]) * scale - 0.5
        return matrix

    def round_trip(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the combined effect of :func:`to_plane` and :func:`from_plane` on lines along rows and along columns.

        These are square matrices of the two lengths of ``shape``, for a canvas that does not crop; identity matrices
        if nothing is resampled.
        """
        import torch

        rows, columns = (
            torch.eye(n) if n == new else _weights(new, n) @ _weights(n, new)
            for n, new in zip(self.shape, self.resized, strict=True)
        )
        return rows, columns


def plane_axes(orientation: str, plane: str = AXIAL) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return the array axis of rows, columns and slices, and whether each is reversed.

    ``orientation`` holds the array's axis codes, such as ``"LPS"`` (:attr:`Volume.orientation`);
    ``plane`` those of the slices: :data:`AXIAL`, :data:`CORONAL` or :data:`SAGITTAL`.
    """
    axes, flips = [], []
    for letter in plane:
        backwards = letter not in orientation
        axes.append(orientation.index(_OPPOSITE[letter] if backwards else letter))
        flips.append(backwards)
    return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2])


def plane_view(array: NDArray[Any], orientation: str, plane: str = AXIAL) -> NDArray[Any]:
    """Return ``array`` ``(I, J, K)`` as (rows, columns, slices) of ``plane``: a view, no copy.

    Writing to the view of an output array stores slices there, regardless of the axis order of the array.
    """
    axes, flips = plane_axes(orientation, plane)
    return array.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def plane_affine(
    affine: NDArray[np.float64], shape: tuple[int, ...], orientation: str, plane: str = AXIAL
) -> NDArray[np.float64]:
    """Return the affine (to RAS+ mm) of :func:`plane_view`'s indices (row, column, slice)."""
    axes, flips = plane_axes(orientation, plane)
    to_array = np.zeros((4, 4))
    to_array[3, 3] = 1.0
    for position, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        to_array[axis, position] = -1.0 if flip else 1.0
        to_array[axis, 3] = shape[axis] - 1 if flip else 0.0
    result: NDArray[np.float64] = affine @ to_array
    return result


def _resized(shape: tuple[int, int], spacing_mm: tuple[float, float], preparation: Preparation) -> tuple[int, int]:
    if preparation.fit == "stretch":
        return preparation.size, preparation.size
    rows, columns = (max(1, round(n * mm / preparation.pixel_mm)) for n, mm in zip(shape, spacing_mm, strict=True))
    if max(rows, columns) > 64 * preparation.size:
        height, width = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
        raise GeometryError(
            f"a slice of {height:.0f} x {width:.0f} mm is over {64 * preparation.size} pixels of "
            f"{preparation.pixel_mm:g} mm wide: check the spacing in the header, or use a larger --pixel-mm"
        )
    return rows, columns


def _pixel_mm(shape: tuple[int, int], spacing_mm: tuple[float, float], resized: tuple[int, int]) -> tuple[float, float]:
    rows, columns = (n * mm / r for n, mm, r in zip(shape, spacing_mm, resized, strict=True))
    return rows, columns


def cut_fit(
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    preparation: Preparation,
    centre: tuple[float, float] | None = None,
) -> PlaneFit:
    """Plan slices of exactly ``size`` x ``size`` pixels, as used in training.

    A smaller field of view is padded on all sides. A larger one is cropped around ``centre``, the center of the
    foreground in pixels of the original slice (None: the center of the slice), but never beyond its edge.
    """
    resized = _resized(shape, spacing_mm, preparation)
    start = []
    for axis in (0, 1):
        spare = preparation.size - resized[axis]
        if spare >= 0 or centre is None:
            start.append(spare // 2)
        else:
            middle = (centre[axis] + 0.5) * resized[axis] / shape[axis]
            start.append(int(np.clip(round(preparation.size / 2 - middle), spare, 0)))
    canvas = (preparation.size, preparation.size)
    return PlaneFit(shape, resized, canvas, (start[0], start[1]), _pixel_mm(shape, spacing_mm, resized))


def canvas_fit(
    shape: tuple[int, int], spacing_mm: tuple[float, float], preparation: Preparation, multiple: int
) -> PlaneFit:
    """Plan slices without cropping, as used in translation.

    The canvas is ``size`` x ``size``. Along an axis with a larger field of view it grows to the next multiple of
    ``multiple`` pixels, as the downsampling of the network requires.
    """
    resized = _resized(shape, spacing_mm, preparation)
    rows, columns = (preparation.size if r <= preparation.size else math.ceil(r / multiple) * multiple for r in resized)
    start = ((rows - resized[0]) // 2, (columns - resized[1]) // 2)
    return PlaneFit(shape, resized, (rows, columns), start, _pixel_mm(shape, spacing_mm, resized))


def to_plane(slices: torch.Tensor, fit: PlaneFit, padding: float = -1.0) -> torch.Tensor:
    """Resample and place slices ``(N, 1, H, W)`` on their canvas ``(N, 1, *fit.canvas)``.

    Interpolation is linear, averaged over the new pixel when shrinking; none if the size already fits.
    """
    from torch.nn import functional

    slices = _resample(slices, fit.resized)
    (top, left), (rows, columns), (height, width) = fit.start, fit.resized, fit.canvas
    pad = (left, width - left - columns, top, height - top - rows)
    return functional.pad(slices, pad, value=padding)


def from_plane(slices: torch.Tensor, fit: PlaneFit, padding: float = -1.0) -> torch.Tensor:
    """Resample slices ``(N, 1, *fit.canvas)`` back to the pixels of the volume, ``(N, 1, *fit.shape)``.

    Pixels that :func:`to_plane` cropped are filled with ``padding``.
    """
    from torch.nn import functional

    (top, left), (rows, columns), (height, width) = fit.start, fit.resized, fit.canvas
    pad = (-left, left + columns - width, -top, top + rows - height)
    return _resample(functional.pad(slices, pad, value=padding), fit.shape)


def _resample(slices: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    height, width = slices.shape[-2:]
    slices = slices.contiguous()
    if width != size[1]:
        slices = slices @ _weights(width, size[1]).to(slices).T
    if height != size[0]:
        slices = _weights(height, size[0]).to(slices) @ slices
    return slices


@functools.lru_cache(maxsize=64)
def _weights(source: int, target: int) -> torch.Tensor:
    """Return the matrix ``(target, source)`` that resamples a line of pixels over the same extent.

    Enlarging: linear interpolation. Shrinking: the mean of the linear interpolant over each new pixel, to avoid
    aliasing. Both reproduce a linear ramp exactly (a filter that does not, such as a sampled triangle, moves edges by
    a tenth of a pixel). Beyond the ends the end values are repeated.
    """
    import torch

    step = source / target
    centres: NDArray[Any] = (np.arange(target)[:, None] + 0.5) * step - 0.5
    pixels = np.arange(-1, source + 1)[None, :]
    if step <= 1:
        weights = np.clip(1.0 - np.abs(centres - pixels), 0.0, None)
    else:
        weights = (_hat_integral(centres + step / 2 - pixels) - _hat_integral(centres - step / 2 - pixels)) / step
    weights[:, 1] += weights[:, 0]
    weights[:, -2] += weights[:, -1]
    return torch.from_numpy(weights[:, 1:-1].astype(np.float32))


def _hat_integral(x: NDArray[Any]) -> NDArray[Any]:
    """Return the integral of the hat function max(0, 1 - |t|) from minus infinity to ``x``."""
    x = np.clip(x, -1.0, 1.0)
    return np.where(x < 0, (x + 1) ** 2 / 2, 1 - (1 - x) ** 2 / 2)
