"""Deform a label map into one patient's head by an affine map and a smooth field, sampled on the patient's grid."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch.nn import functional

from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.fields import SmoothField
from medcyclegan.synthesis.head import LabelledHead

__all__ = ["Deformation", "Grid", "draw_deformation", "map_index", "sample_labels", "sample_maps"]

Matrix = tuple[tuple[float, float, float], ...]

#: The number of voxels whose positions are calculated at a time.
_BLOCK = 1 << 21
#: Voxels wider than a label map's by more than this factor are averaged over several positions to avoid aliasing.
_COARSE = 1.3


@dataclasses.dataclass(frozen=True)
class Grid:
    """The voxels of a patient's volumes, in RAS+ order.

    ``origin_mm`` is the center of the first voxel, relative to the brain's center.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]

    def part(self, box: tuple[slice, slice, slice]) -> Grid:
        """Return the grid of the voxels in ``box``, whose slices have a start and a stop."""
        starts = [int(along.start) for along in box]
        x, y, z = (int(along.stop) - start for along, start in zip(box, starts, strict=True))
        a, b, c = (mm0 + start * mm for mm0, start, mm in zip(self.origin_mm, starts, self.spacing_mm, strict=True))
        return Grid((x, y, z), self.spacing_mm, (a, b, c))

    def axes_mm(self, device: torch.device, parts: tuple[int, int, int] = (1, 1, 1)) -> list[torch.Tensor]:
        """Return the positions of voxel centers along each axis, or of ``parts`` evenly spaced points in each voxel."""
        axes = []
        for n, mm, start, k in zip(self.shape, self.spacing_mm, self.origin_mm, parts, strict=True):
            places = (torch.arange(n * k, dtype=torch.float64, device=device) + 0.5) / k - 0.5
            axes.append((start + places * mm).float())
        return axes


@dataclasses.dataclass(frozen=True)
class Deformation:
    """The map from a position in the patient to the label map: ``matrix @ (position + displacement(position))``, in mm.

    The displacement is the sum of two smooth fields; ``coarse_mm`` and ``fine_mm`` are their standard deviations along
    each axis, ``coarse_knots_mm`` and ``fine_knots_mm`` their length scales. ``seed`` determines them.
    """

    matrix: Matrix
    coarse_mm: float
    coarse_knots_mm: float
    fine_mm: float
    fine_knots_mm: float
    seed: int

    def displacement(self, axes_mm: list[torch.Tensor]) -> torch.Tensor:
        """Return the displacement in mm, ``(3, X, Y, Z)``."""
        coarse = SmoothField(Draws(self.seed, "coarse deformation"), (self.coarse_knots_mm,) * 3, 3)
        fine = SmoothField(Draws(self.seed, "fine deformation"), (self.fine_knots_mm,) * 3, 3)
        return coarse.on_grid(axes_mm) * self.coarse_mm + fine.on_grid(axes_mm) * self.fine_mm


def draw_deformation(draws: Draws, seed: int) -> Deformation:
    """Draw a head's size, proportions, tilt and shape; left and right may be exchanged."""
    angles = [math.radians(draws.normal(0.0, sd)) for sd in (6.0, 4.0, 5.0)]
    size = draws.normal(1.0, 0.05)
    stretch = [size * draws.normal(1.0, 0.035) for _ in range(3)]
    matrix = torch.diag(torch.tensor([1.0 / value for value in stretch], dtype=torch.float64))
    if draws.chance(0.5):
        matrix[0] *= -1
    for axis, angle in enumerate(angles):
        first, second = [n for n in range(3) if n != axis]
        turn = torch.eye(3, dtype=torch.float64)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    for first, second in ((0, 1), (0, 2), (1, 2)):
        shear = torch.eye(3, dtype=torch.float64)
        shear[first, second] = draws.normal(0.0, 0.02)
        matrix = matrix @ shear
    rows = tuple((float(row[0]), float(row[1]), float(row[2])) for row in matrix)
    # The gradient of the displacement stays below about 0.3, so the map does not fold.
    return Deformation(rows, draws.uniform(0.6, 2.4), 42.0, draws.uniform(0.2, 0.8), 13.0, seed)


def sample_maps(maps: torch.Tensor, head: LabelledHead, deformation: Deformation, grid: Grid) -> torch.Tensor:
    """Resample maps ``(C, X, Y, Z)`` on the label map's grid to the patient's volumes ``(C, *grid.shape)``.

    The result is linear in the maps: a voxel has the mean value of its tissues. Voxels larger than the label map's are
    averaged over several positions. Outside the map, all values are 0.
    """
    x, y, z = (max(1, math.ceil(mm / (min(head.spacing_mm) * _COARSE))) for mm in grid.spacing_mm)
    return _sample(maps, head, deformation, grid, (x, y, z), "bilinear")


def sample_labels(labels: torch.Tensor, head: LabelledHead, deformation: Deformation, grid: Grid) -> torch.Tensor:
    """Return the labels ``(X, Y, Z)`` at the centers of the patient's voxels, uint8; 0 outside the map."""
    return _sample(labels[None].float(), head, deformation, grid, (1, 1, 1), "nearest")[0].round().to(torch.uint8)


def _sample(
    maps: torch.Tensor,
    head: LabelledHead,
    deformation: Deformation,
    grid: Grid,
    parts: tuple[int, int, int],
    mode: str,
) -> torch.Tensor:
    x, y, z = grid.axes_mm(maps.device, parts)
    result = torch.empty((len(maps), *grid.shape), device=maps.device)
    at_a_time = max(1, _BLOCK // (len(y) * len(z) * parts[0]))
    for first in range(0, grid.shape[0], at_a_time):
        last = min(first + at_a_time, grid.shape[0])
        axes = [x[first * parts[0] : last * parts[0]], y, z]
        places = _to_map(axes, head, deformation)
        values = functional.grid_sample(maps[None], places[None], mode, "zeros", align_corners=True)
        if parts != (1, 1, 1):
            values = functional.avg_pool3d(values, parts)
        result[:, first:last] = values[0]
    return result


def map_index(axes_mm: list[torch.Tensor], head: LabelledHead, deformation: Deformation) -> torch.Tensor:
    """Return the positions in the label map, as voxel indices, of positions in the patient: ``(3, X, Y, Z)``."""
    moved = deformation.displacement(axes_mm)
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = -1
        moved[axis] += axes_mm[axis].view(shape)
    matrix = torch.tensor(deformation.matrix, dtype=torch.float32, device=moved.device)
    spacing = torch.tensor(head.spacing_mm, dtype=torch.float32, device=moved.device)
    centre = torch.tensor(head.centre, dtype=torch.float32, device=moved.device)
    index = torch.addmm(centre[:, None], matrix / spacing[:, None], moved.flatten(1))
    return index.view(moved.shape)


def _to_map(axes_mm: list[torch.Tensor], head: LabelledHead, deformation: Deformation) -> torch.Tensor:
    """Return positions in the label map in the coordinates of ``grid_sample``: ``(X, Y, Z, 3)``, last axis first."""
    index = map_index(axes_mm, head, deformation)
    places = torch.empty((*index.shape[1:], 3), device=index.device)
    for axis in range(3):
        torch.mul(index[axis], 2.0 / (head.tissues.shape[axis] - 1), out=places[..., 2 - axis])
    return places.sub_(1.0)
