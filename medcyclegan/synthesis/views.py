"""The field of view and the voxels of a patient's volumes."""

from __future__ import annotations

import dataclasses
import math

import torch

from medcyclegan.errors import UsageError
from medcyclegan.synthesis.deform import Deformation, Grid, map_index
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.head import Extent, LabelledHead

__all__ = ["Variation", "brain_box", "draw_grid", "seen_box"]

Box = tuple[slice, slice, slice]

#: The spacing of points at which a deformation is evaluated to find what a grid shows, and the margin on every side, in
#: mm.
_STEP_MM, _MARGIN_MM = 6.0, 5.0
#: The largest number of voxels of a grid; if there would be more, the voxels are enlarged.
_MOST_VOXELS = 20_000_000


@dataclasses.dataclass(frozen=True)
class Variation:
    """The range of a cohort's patients.

    ``spacing_mm``: the isotropic voxel size of every patient; None: random, from about 1 mm isotropic to slices of 6
    mm. ``finest_mm``: the smallest random voxel size. ``lesions``: the fraction of patients with lesions.
    ``extracted``: the fraction that is brain-extracted. ``metal``: the fraction with metal in the teeth.
    """

    spacing_mm: float | None = None
    finest_mm: float = 0.6
    lesions: float = 0.6
    extracted: float = 0.0
    metal: float = 0.06

    def __post_init__(self) -> None:
        for name in ("lesions", "extracted", "metal"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} {getattr(self, name):g}: a fraction of the patients must be 0 to 1")
        for name in ("spacing_mm", "finest_mm"):
            value = getattr(self, name)
            if value is not None and not 0.4 <= value <= 6.0:
                raise UsageError(f"{name} {value:g}: voxels must be 0.4 to 6 mm wide")


def draw_grid(draws: Draws, head: LabelledHead, deformation: Deformation, variation: Variation) -> Grid:
    """Draw the grid of a patient's volumes: a field of view from the vertex down to the skull base or the neck.

    In three of ten patients it cuts off a little of the vertex, and it includes a random part of the neck.
    """
    whole = _moved(head.whole_mm, deformation)
    brain = _moved(head.brain_mm, deformation)
    spacing = _draw_spacing(draws, variation)
    # Thick axial slices usually end at the skull base; the lower end of the map is a cut through the neck.
    base = brain[2][0] - draws.uniform(-10.0, 14.0)
    deepest = min(base, whole[2][0] + 4.0)
    low_z = base if draws.chance(0.8 if spacing[2] > 1.6 * spacing[0] else 0.3) else draws.uniform(deepest, base)
    high_z = whole[2][1] + (draws.uniform(-12.0, 0.0) if draws.chance(0.3) else draws.uniform(1.0, 15.0))
    ranges = [
        (whole[0][0] - draws.uniform(2, 25), whole[0][1] + draws.uniform(2, 25)),
        (whole[1][0] - draws.uniform(2, 25), whole[1][1] + draws.uniform(-10, 20)),
        (low_z, high_z),
    ]
    return _grid(ranges, spacing)


def _draw_spacing(draws: Draws, variation: Variation) -> tuple[float, float, float]:
    kind = draws.choice([(0.45, "isotropic"), (0.43, "axial"), (0.07, "sagittal"), (0.05, "coronal")])
    fine, thick = draws.log_uniform(0.6, 1.1), draws.uniform(1.5, 6.0)
    even = draws.uniform(0.85, 1.3)
    if variation.spacing_mm is not None:
        return (variation.spacing_mm,) * 3
    if kind == "isotropic":
        return (max(even, variation.finest_mm),) * 3
    spacing = [max(fine, variation.finest_mm)] * 3
    spacing[{"axial": 2, "sagittal": 0, "coronal": 1}[kind]] = max(thick, variation.finest_mm)
    return spacing[0], spacing[1], spacing[2]


def _grid(ranges: list[tuple[float, float]], spacing_mm: tuple[float, float, float]) -> Grid:
    voxels = 1.0
    for (low, high), mm in zip(ranges, spacing_mm, strict=True):
        voxels *= (high - low) / mm
    factor = max(1.0, voxels / _MOST_VOXELS) ** (1 / 3)
    x, y, z = (mm * factor for mm in spacing_mm)
    shape = [max(4, round((high - low) / mm)) for (low, high), mm in zip(ranges, (x, y, z), strict=True)]
    # Centered on the range, regardless of rounding.
    middles = [(low + high) / 2 for low, high in ranges]
    origin = [middle - (n - 1) / 2 * mm for middle, n, mm in zip(middles, shape, (x, y, z), strict=True)]
    return Grid((shape[0], shape[1], shape[2]), (x, y, z), (origin[0], origin[1], origin[2]))


def _moved(extent: Extent, deformation: Deformation) -> Extent:
    """Return the extent along each axis, in the patient, of a box of the label map, without the smooth deformation.

    The corners of the box are ignored, because heads are round.
    """
    inverse = torch.linalg.inv(torch.tensor(deformation.matrix, dtype=torch.float64))
    middle = torch.tensor([(low + high) / 2 for low, high in extent], dtype=torch.float64)
    half = torch.tensor([(high - low) / 2 for low, high in extent], dtype=torch.float64)
    centre, reach = inverse @ middle, ((inverse * half) ** 2).sum(dim=1).sqrt()
    return tuple((float(c - r), float(c + r)) for c, r in zip(centre, reach, strict=True))


def seen_box(grid: Grid, head: LabelledHead, deformation: Deformation) -> Box:
    """Return the part of the label map that a grid shows."""
    axes, _ = _sparse(grid, head.tissues.device)
    index = map_index(axes, head, deformation).flatten(1)
    box = []
    for along, length, mm in zip(index, head.tissues.shape, head.spacing_mm, strict=True):
        margin = math.ceil(_MARGIN_MM / mm)
        low = min(max(0, math.floor(float(along.min())) - margin), length - 2)
        high = max(min(length, math.ceil(float(along.max())) + margin + 1), low + 2)
        box.append(slice(low, high))
    return box[0], box[1], box[2]


def brain_box(grid: Grid, head: LabelledHead, deformation: Deformation) -> Box:
    """Return the part of a grid that contains the brain, with a margin of a few millimeters."""
    axes, steps = _sparse(grid, head.tissues.device)
    index = map_index(axes, head, deformation)
    inside = torch.ones(index.shape[1:], dtype=torch.bool, device=index.device)
    for along, (low, high), mm, centre in zip(index, head.brain_mm, head.spacing_mm, head.centre, strict=True):
        place = (along - centre) * mm
        inside &= (place > low - _MARGIN_MM) & (place < high + _MARGIN_MM)
    box = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        found = torch.nonzero(inside.any(dim=others[1]).any(dim=others[0])).flatten()
        first, last = (int(found[0]), int(found[-1])) if len(found) else (0, 1)
        box.append(slice(max(0, (first - 1) * steps[axis]), min(grid.shape[axis], (last + 1) * steps[axis] + 1)))
    return box[0], box[1], box[2]


def _sparse(grid: Grid, device: torch.device) -> tuple[list[torch.Tensor], list[int]]:
    """Return the positions of every n-th voxel and of the last one along each axis, and n for each axis."""
    axes, steps = [], []
    for places, mm in zip(grid.axes_mm(device), grid.spacing_mm, strict=True):
        step = max(1, int(_STEP_MM / mm))
        axes.append(torch.cat([places[::step], places[-1:]]))
        steps.append(step)
    return axes, steps
