"""Tissues that label maps do not distinguish: skin, fat and muscle, the spongy layer of the skull, the dura.

Label maps combine everything between skin and bone into one label and most of the skull into another. In MR these
tissues differ as much as any others: fat is the brightest in T1, muscle is dark in T2. Each patient has different
layers.
"""

from __future__ import annotations

import dataclasses

import torch

from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.fields import SmoothField
from medcyclegan.synthesis.head import LabelledHead
from medcyclegan.synthesis.tissues import tissue_index

__all__ = ["Anatomy", "draw_anatomy", "map_axes_mm", "paint_anatomy"]


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """The layers of one patient, in mm of the label map.

    ``skin_mm``: thickness of the skin. ``fat_mm``, ``fat_variation``: thickness of the fat below the skin, and its
    relative standard deviation from place to place. ``septa``: the fraction of deep soft tissue that is sheets of fat
    between muscles. ``lobules``: the fraction that is pads of fat. ``table_mm``: thickness of the dense tables of the
    skull. ``diploe``: the fraction of the bone between the tables that is spongy. ``dura_mm``: thickness of the dura
    below the bone. ``seed``: determines the positions of all of these.
    """

    skin_mm: float
    fat_mm: float
    fat_variation: float
    septa: float
    lobules: float
    table_mm: float
    diploe: float
    dura_mm: float
    seed: int


def draw_anatomy(draws: Draws, seed: int) -> Anatomy:
    """Draw the layers of one patient."""
    return Anatomy(
        skin_mm=draws.uniform(1.1, 2.4),
        fat_mm=draws.log_uniform(2.5, 7.5),
        fat_variation=draws.uniform(0.1, 0.3),
        septa=draws.uniform(0.05, 0.2),
        lobules=draws.uniform(0.05, 0.25),
        table_mm=draws.uniform(1.1, 2.0),
        diploe=draws.uniform(0.4, 1.0),
        dura_mm=draws.choice([(0.3, 0.0), (0.7, 1.1)]),
        seed=seed,
    )


def map_axes_mm(head: LabelledHead) -> list[torch.Tensor]:
    """Return the positions of the label map's voxels along each axis, in mm from the brain's center."""
    return [
        (torch.arange(n, device=head.tissues.device) - centre) * mm
        for n, centre, mm in zip(head.tissues.shape, head.centre, head.spacing_mm, strict=True)
    ]


def paint_anatomy(head: LabelledHead, anatomy: Anatomy) -> torch.Tensor:
    """Return the patient's tissues on the label map's grid, uint8 ``(X, Y, Z)``, with every composite label divided."""
    tissues, axes = head.tissues.clone(), map_axes_mm(head)
    depth = head.depth_mm.float()
    # Random streams have names, not numbers: another layer does not change the existing ones.
    fat_depth = anatomy.fat_mm * (1 + anatomy.fat_variation * _field(anatomy, "fat", (28, 28, 28), axes))
    scalp, soft = tissues == tissue_index("scalp"), tissues == tissue_index("soft tissue")
    is_skin = scalp & (depth < anatomy.skin_mm)
    _put(tissues, scalp, "fat")
    _put(tissues, is_skin, "skin")
    _put(tissues, soft, "muscle")
    deep_fat = _field(anatomy, "septa", (8, 8, 16), axes).abs() < anatomy.septa * 1.2533  # P(|x| < a) is about 0.8 a
    deep_fat |= _field(anatomy, "lobules", (8, 8, 8), axes) > _quantile(1 - anatomy.lobules)
    deep_fat |= depth < fat_depth
    deep_fat |= head.orbit
    _put(tissues, soft & deep_fat, "fat")
    spongy = _field(anatomy, "diploe", (14, 14, 14), axes) > _quantile(1 - anatomy.diploe)
    _put(tissues, (tissues == tissue_index("cortical bone")) & (depth > anatomy.table_mm) & spongy, "marrow")
    fluid = tissues == tissue_index("cerebrospinal fluid")
    _put(tissues, fluid & (depth < anatomy.dura_mm), "dura")
    return tissues


def _field(anatomy: Anatomy, name: str, knots_mm: tuple[float, float, float], axes: list[torch.Tensor]) -> torch.Tensor:
    return SmoothField(Draws(anatomy.seed, "anatomy", name), knots_mm).on_grid(axes)[0]


def _put(tissues: torch.Tensor, where: torch.Tensor, name: str) -> None:
    tissues.masked_fill_(where, tissue_index(name))


def _quantile(share: float) -> float:
    """Return the quantile of the standard normal distribution at probability ``share``."""
    share = min(max(share, 1e-4), 1 - 1e-4)
    return float(torch.special.ndtri(torch.tensor(share, dtype=torch.float64)))
