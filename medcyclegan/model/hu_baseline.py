"""A baseline for outputs in HU, from the training set: the mean CT number of each tissue class of the input."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medcyclegan.data import row_pairs, shared_slices
from medcyclegan.data.stacks import open_stack
from medcyclegan.errors import IntensityError
from medcyclegan.intensity import IntensityScaling
from medcyclegan.manifest import SliceRow
from medcyclegan.metrics import TissueMeans, head_mask, means_of_pairs, means_of_shares
from medcyclegan.plane import plane_axes
from medcyclegan.volume import Volume

__all__ = ["fit_tissue_means"]

log = logging.getLogger(__name__)

#: The numbers of volumes or pairs, and of voxels of each, that are used; both evenly spaced.
_MOST_VOLUMES, _MOST_VOXELS = 12, 200_000

_T = TypeVar("_T")


def fit_tissue_means(inputs: Sequence[SliceRow], targets: Sequence[SliceRow], store: Path) -> TissueMeans | None:
    """Return the mean CT number of each tissue class of the input over the training volumes of two domains.

    ``inputs``, ``targets``: the training rows of the source and of the target domain. From patients with both images on
    one grid, the means of up to 32 classes are calculated; if there are none, the means of two classes, from the
    fractions of air, bone and soft tissue (:func:`~medcyclegan.metrics.tissue_means.means_of_shares`). Returns None if
    the target is not in HU, if the input is in HU (it is then its own baseline), or if no volume shows a head.
    """
    if not inputs or _unit(targets) != "HU" or _unit(inputs) == "HU":
        return None
    pairs = [(pair, _pair_values(*pair, store)) for pair in _spread(row_pairs(inputs, targets))]
    both = [(pair[1].patient, *values) for pair, values in pairs if values is not None]
    if both:
        return means_of_pairs([one for _, one, _ in both], [hu for *_, hu in both], len({who for who, *_ in both}))
    found = [[(row.patient, _head_values(row, store)) for row in _spread(rows)] for rows in (inputs, targets)]
    brightness, cts = ([(who, values) for who, values in side if values is not None] for side in found)
    if not brightness or not cts:
        return None
    return means_of_shares([one for _, one in brightness], [hu for _, hu in cts], len({who for who, _ in cts}))


def _unit(rows: Sequence[SliceRow]) -> str:
    return IntensityScaling.from_dict(rows[0].scaling).unit


def _spread(items: Sequence[_T]) -> list[_T]:
    count = min(len(items), _MOST_VOLUMES)
    return [items[int((n + 0.5) * len(items) / count)] for n in range(count)]


def _pair_values(source: SliceRow, target: SliceRow, store: Path) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return an input's scaled values and its CT's HU, voxel by voxel, inside the head found in the CT."""
    places = shared_slices((source, target))
    mask = _head(target, store)
    if mask is None or not places:
        return None
    first, second = ([place[n] for place in places] for n in (0, 1))
    where = mask[second]
    scaled, hu = open_stack(store, source)[first][where], _in_unit(target, open_stack(store, target)[second][where])
    return (_thinned(scaled), _thinned(hu)) if scaled.size else None


def _head_values(row: SliceRow, store: Path) -> NDArray[Any] | None:
    """Return a volume's values inside the head: HU for a CT, otherwise scaled; None if no head is found."""
    mask = _head(row, store)
    return None if mask is None else _in_unit(row, _thinned(open_stack(store, row)[mask]))


def _in_unit(row: SliceRow, values: NDArray[Any]) -> NDArray[Any]:
    scaling = IntensityScaling.from_dict(row.scaling)
    return scaling.denormalize(values) if scaling.unit == "HU" else values.astype(np.float32)


def _head(row: SliceRow, store: Path) -> NDArray[np.bool_] | None:
    """Return the head mask of a row's stack ``(K, H, W)``, found as in an evaluation; None if there is no head."""
    stack = _in_unit(row, open_stack(store, row))
    grid = Volume(np.broadcast_to(np.False_, row.shape), np.array(row.affine))
    slice_mm = grid.spacing_mm[plane_axes(grid.orientation)[0][2]]
    volume = Volume(stack, np.diag([slice_mm, *row.pixel_mm, 1.0]), modality=row.modality)
    try:
        return head_mask(volume)
    except IntensityError:
        log.info("skipping a training volume of %s without contrast for the baseline", row.domain)
        return None


def _thinned(values: NDArray[Any]) -> NDArray[Any]:
    return values[:: max(1, values.size // _MOST_VOXELS)]
