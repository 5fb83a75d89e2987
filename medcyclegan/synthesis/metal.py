"""Metal in teeth: streaks in CT, lost signal in MR."""

from __future__ import annotations

import dataclasses
import math

import torch

from medcyclegan.synthesis.deform import Deformation, Grid
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.head import LabelledHead
from medcyclegan.synthesis.tissues import tissue_index

__all__ = ["Filling", "add_streaks", "draw_fillings", "lose_signal"]

#: The CT number of metal, far above a scanner's range.
_METAL_HU = 8000.0
#: The standard deviation of the streaks' strength along the patient's height, in mm.
_HEIGHT_MM = 5.0
_TRIES = 300


@dataclasses.dataclass(frozen=True)
class Filling:
    """A filling or crown in a tooth.

    ``centre_mm``: its position in the patient, in mm. ``radius_mm``: its radius. ``streaks_hu``: the strength of its
    streaks in CT. ``void_mm``: the radius of the signal loss in MR. ``seed``: determines the directions of the streaks.
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float
    streaks_hu: float
    void_mm: float
    seed: int


def draw_fillings(draws: Draws, head: LabelledHead, deformation: Deformation) -> tuple[Filling, ...]:
    """Draw up to four fillings in bone below and in front of the brain; none if the map ends above the jaws."""
    bone, found = tissue_index("cortical bone"), []
    inverse = torch.linalg.inv(torch.tensor(deformation.matrix, dtype=torch.float64))
    for _ in range(draws.integer(1, 4)):
        for _ in range(_TRIES):
            place = [draws.uniform(-30, 30), draws.uniform(45, 95), draws.uniform(-105, -75)]
            index = [round(p / mm + c) for p, mm, c in zip(place, head.spacing_mm, head.centre, strict=True)]
            if not all(0 <= i < n for i, n in zip(index, head.tissues.shape, strict=True)):
                continue
            if int(head.tissues[index[0], index[1], index[2]]) == bone:
                x, y, z = (float(value) for value in inverse @ torch.tensor(place, dtype=torch.float64))
                seed = draws.integer(0, 2**31 - 1)
                found.append(
                    Filling((x, y, z), draws.uniform(1.2, 3), draws.log_uniform(150, 900), draws.uniform(5, 14), seed)
                )
                break
    return tuple(found)


def add_streaks(image: torch.Tensor, grid: Grid, filling: Filling) -> torch.Tensor:
    """Add a filling and its bright and dark streaks to a CT image ``(X, Y, Z)`` in HU."""
    x, y, z = _offsets(grid, filling, image.device)
    draws = Draws(filling.seed, "streaks")
    angle = torch.atan2(y, x)
    rays = torch.zeros_like(angle)
    for _ in range(10):  # even orders: a streak continues on the other side
        rays += draws.normal(0.0, 0.45) * torch.cos(2 * draws.integer(1, 14) * angle + draws.uniform(0, 2 * math.pi))
    distance = torch.hypot(x, y)
    height = torch.exp(-0.5 * (z / _HEIGHT_MM) ** 2)
    streaks = filling.streaks_hu * rays * height / (1 + distance / 20)
    metal = torch.sigmoid((filling.radius_mm - torch.hypot(distance, z)) * 4)
    return image + streaks + (_METAL_HU - image) * metal


def lose_signal(image: torch.Tensor, grid: Grid, filling: Filling) -> torch.Tensor:
    """Remove the signal around a filling, which dephases it, from an MR image ``(X, Y, Z)``."""
    x, y, z = _offsets(grid, filling, image.device)
    return image * (1 - torch.exp(-(((x**2 + y**2 + z**2).sqrt() / filling.void_mm) ** 4)))


def _offsets(grid: Grid, filling: Filling, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y, z = (axis - place for axis, place in zip(grid.axes_mm(device), filling.centre_mm, strict=True))
    return x[:, None, None], y[None, :, None], z[None, None, :]
