"""Lesions of several types: their number, positions, sizes and shapes."""

from __future__ import annotations

import dataclasses
import math

import torch

from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.fields import SmoothField
from medcyclegan.synthesis.head import LabelledHead
from medcyclegan.synthesis.tissues import tissue_indices

__all__ = ["Lesion", "draw_lesions", "paint_lesion"]

_WHITE = ("white matter", "white matter lesion")
_CEREBRUM = ("white matter", "grey matter", "white matter lesion")
_BRAIN = (
    *_CEREBRUM, "thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala", "accumbens", "brain stem",
    "ventral diencephalon", "cerebellar white matter", "cerebellar grey matter",
)  # fmt: skip
#: The number of positions that are tried before a lesion is omitted.
_TRIES = 400


@dataclasses.dataclass(frozen=True)
class Lesion:
    """One blob of one tissue.

    ``tissue``: the tissue in the blob. ``centre_mm``: its center in the label map, in mm from the brain's center.
    ``radii_mm``: the radii of its ellipsoid, before the deviations given by ``roughness`` (relative). ``edge_mm``: the
    width over which it fades out. ``within``: the tissues that it replaces. ``seed``: determines its shape.
    """

    tissue: str
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    roughness: float
    edge_mm: float
    within: tuple[str, ...]
    seed: int


def draw_lesions(draws: Draws, head: LabelledHead) -> tuple[Lesion, ...]:
    """Draw a patient's lesions: one or two types, in typical numbers and sizes."""
    kinds = [
        (0.30, _plaques), (0.16, _tumour), (0.14, _infarct), (0.12, _haemorrhage), (0.10, _cavities),
        (0.10, _calcifications), (0.08, _small_bleeds),
    ]  # fmt: skip
    found: list[Lesion] = []
    for _ in range(draws.choice([(0.75, 1), (0.25, 2)])):
        # Plaques, if the label map lacks the tissues in which the type occurs.
        found += draws.choice(kinds)(draws, head) or _plaques(draws, head)
    return tuple(found)


def paint_lesion(
    head: LabelledHead, lesion: Lesion, tissues: torch.Tensor
) -> tuple[tuple[slice, slice, slice], torch.Tensor]:
    """Return the lesion's box in the label map and the fraction of each voxel of the box that it fills, 0 to 1.

    ``tissues``: the patient's tissues on the label map's grid, which determine where the lesion can be.
    """
    reach = [radius * (1 + 2.5 * lesion.roughness) + lesion.edge_mm for radius in lesion.radii_mm]
    box, axes = [], []
    for axis in range(3):
        middle = lesion.centre_mm[axis] / head.spacing_mm[axis] + head.centre[axis]
        half, length = reach[axis] / head.spacing_mm[axis], tissues.shape[axis]
        first = min(max(0, math.floor(middle - half)), length - 1)
        last = min(max(first + 1, math.ceil(middle + half) + 1), length)
        box.append(slice(first, last))
        places = torch.arange(first, last, device=tissues.device) - head.centre[axis]
        axes.append((places * head.spacing_mm[axis]).float())
    squared = torch.zeros((), device=tissues.device)
    for axis in range(3):
        offset = ((axes[axis] - lesion.centre_mm[axis]) / lesion.radii_mm[axis]) ** 2
        squared = squared + offset.view([-1 if n == axis else 1 for n in range(3)])
    smallest = min(lesion.radii_mm)
    around = [axis - place for axis, place in zip(axes, lesion.centre_mm, strict=True)]
    knots = (max(1.5, 0.6 * smallest),) * 3
    shape = SmoothField(Draws(lesion.seed, "lesion"), knots, half_box_mm=max(reach)).on_grid(around)[0]
    outside_mm = (squared.sqrt() - 1.0 - lesion.roughness * shape) * smallest
    share = (0.5 - outside_mm / lesion.edge_mm).clamp(0.0, 1.0)
    # Earlier blobs of the same lesion may be here: the core replaces part of its edema.
    allowed = torch.tensor(tissue_indices(*lesion.within), dtype=torch.uint8, device=tissues.device)
    return (box[0], box[1], box[2]), share * torch.isin(tissues[box[0], box[1], box[2]], allowed)


def _place(draws: Draws, head: LabelledHead, names: tuple[str, ...]) -> tuple[float, float, float] | None:
    """Draw a position in one of some tissues, in mm from the brain's center; None if they are too small to be found."""
    allowed = set(tissue_indices(*names))
    extent = [s * mm for s, mm in zip(head.tissues.shape, head.spacing_mm, strict=True)]
    for _ in range(_TRIES):
        # The brain is within 100 mm of its center.
        place = [draws.uniform(-min(100.0, n), min(100.0, n)) for n in extent]
        index = [round(p / mm + c) for p, mm, c in zip(place, head.spacing_mm, head.centre, strict=True)]
        inside = all(0 <= i < n for i, n in zip(index, head.tissues.shape, strict=True))
        if inside and int(head.tissues[index[0], index[1], index[2]]) in allowed:
            return place[0], place[1], place[2]
    return None


def _blob(
    draws: Draws, tissue: str, centre: tuple[float, float, float], radius: float, within: tuple[str, ...]
) -> Lesion:
    x, y, z = (radius * draws.factor(0.22) for _ in range(3))
    edge = draws.uniform(0.8, 1.6) if tissue != "oedema" else draws.uniform(2.0, 5.0)
    return Lesion(tissue, centre, (x, y, z), draws.uniform(0.08, 0.25), edge, within, draws.integer(0, 2**31 - 1))


def _scattered(
    draws: Draws, head: LabelledHead, tissue: str, count: int, sizes: tuple[float, float], within: tuple[str, ...]
) -> list[Lesion]:
    places = [_place(draws, head, within) for _ in range(count)]
    return [_blob(draws, tissue, p, draws.log_uniform(*sizes), within) for p in places if p is not None]


def _plaques(draws: Draws, head: LabelledHead) -> list[Lesion]:
    return _scattered(draws, head, "plaque", draws.integer(2, 25), (1.3, 8.0), _WHITE)


def _tumour(draws: Draws, head: LabelledHead) -> list[Lesion]:
    centre = _place(draws, head, _CEREBRUM)
    if centre is None:
        return []
    radius = draws.log_uniform(4, 24)
    around = _blob(draws, "oedema", centre, radius * draws.uniform(1.2, 2.0) + 3, _WHITE)
    core = _blob(draws, "tumour", centre, radius, (*_BRAIN, "oedema"))
    if not draws.chance(0.5):
        return [around, core]
    return [around, core, _blob(draws, "necrosis", centre, radius * draws.uniform(0.3, 0.75), ("tumour",))]


def _infarct(draws: Draws, head: LabelledHead) -> list[Lesion]:
    return _scattered(draws, head, "infarct", 1, (6, 32), _BRAIN)


def _haemorrhage(draws: Draws, head: LabelledHead) -> list[Lesion]:
    centre = _place(draws, head, _BRAIN)
    if centre is None:
        return []
    tissue, radius = draws.choice([(0.6, "acute haemorrhage"), (0.4, "subacute haemorrhage")]), draws.log_uniform(3, 20)
    around = _blob(draws, "oedema", centre, radius * draws.uniform(1.1, 1.5) + 2, _BRAIN)
    return [around, _blob(draws, tissue, centre, radius, (*_BRAIN, "oedema"))]


def _cavities(draws: Draws, head: LabelledHead) -> list[Lesion]:
    if draws.chance(0.6):
        return _scattered(draws, head, "cavity", draws.integer(1, 6), (1.5, 5), _BRAIN)
    return _scattered(draws, head, "cavity", 1, (8, 25), _BRAIN)


def _calcifications(draws: Draws, head: LabelledHead) -> list[Lesion]:
    kind = draws.choice([(0.4, ("choroid plexus",)), (0.3, ("pallidum",)), (0.3, _BRAIN)])
    return _scattered(draws, head, "calcification", draws.integer(1, 4), (1.0, 4.5), kind)


def _small_bleeds(draws: Draws, head: LabelledHead) -> list[Lesion]:
    return _scattered(draws, head, "haemosiderin", draws.integer(1, 8), (1.0, 5), _BRAIN)
