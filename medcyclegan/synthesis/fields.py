"""Smooth random fields of any length scale, evaluated on regular grids: cubic B-splines with random coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from medcyclegan.synthesis.draws import Draws

__all__ = ["SmoothField"]

#: The mean over x of the sum of squared weights of cubic B-splines: the variance of a spline whose coefficients have
#: unit variance.
_VARIANCE = 151.0 / 315.0


class SmoothField:
    """A smooth random field of zero mean and unit variance.

    ``knots_mm``: the distance of knots along each axis; features are about twice as wide. ``channels`` independent
    fields are drawn at once. A field is defined in a box of ``half_box_mm`` around the origin; outside the box, border
    values are repeated.
    """

    def __init__(self, draws: Draws, knots_mm: Sequence[float], channels: int = 1, half_box_mm: float = 200.0) -> None:
        self.knots_mm = tuple(knots_mm)
        self.half_box_mm = half_box_mm
        counts = [math.ceil(2 * half_box_mm / mm) + 3 for mm in self.knots_mm]
        self.coefficients = draws.noise((channels, *counts)) * _VARIANCE**-1.5

    def on_grid(self, axes_mm: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the values ``(channels, X, Y, Z)`` at all combinations of positions along three axes, in mm."""
        (along_x, x), (along_y, y), (along_z, z) = (
            _weights(places, knot, self.half_box_mm) for places, knot in zip(axes_mm, self.knots_mm, strict=True)
        )
        values = self.coefficients[:, x : x + along_x.shape[1], y : y + along_y.shape[1], z : z + along_z.shape[1]].to(
            along_x.device
        )
        # One axis after the other, the fastest first: each is a plain matrix product.
        values = along_y @ (values @ along_z.T)
        channels, _, rows, columns = values.shape
        return (along_x @ values.flatten(2)).view(channels, len(along_x), rows, columns)


def _weights(places_mm: torch.Tensor, knot_mm: float, half_box_mm: float) -> tuple[torch.Tensor, int]:
    """Return the B-spline weights ``(positions, knots)`` of the knots in use, and the index of the first of them."""
    last = math.ceil(2 * half_box_mm / knot_mm)
    t = ((places_mm.double() + half_box_mm) / knot_mm).clamp(0.0, last - 1e-6)
    start = t.floor()
    u = (t - start).float()
    four = torch.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], dim=1) / 6
    first = int(start.min())
    columns = start.long()[:, None] - first + torch.arange(4, device=t.device)
    weights = torch.zeros(len(t), int(columns.max()) + 1, device=t.device)
    return weights.scatter_(1, columns, four), first
