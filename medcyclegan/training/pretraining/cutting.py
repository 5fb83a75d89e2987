"""Cut slices from a synthetic patient, scaled and positioned as by ``slice-volumes`` (a test compares both).

This is done on the device that generated the patient, and only for the slices that are used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from medcyclegan.config import Config, Domain
from medcyclegan.intensity import SCALED_PADDING, IntensityScaling, even_sample, foreground_threshold
from medcyclegan.plane import PlaneFit, Preparation, cut_fit, to_plane
from medcyclegan.synthesis import Patient

__all__ = ["cut_pairs"]

#: The number of evenly spaced voxels from which statistics are taken: fewer than ``slice-volumes`` uses, because with
#: millions of voxels they would take longer than everything else here.
_SAMPLE = 250_000


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """An axial volume ``(K, rows, columns)`` in [-1, 1], and the value above which it shows the patient."""

    slices: torch.Tensor
    foreground: float


def cut_pairs(
    images: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    patient: Patient,
    config: Config,
    domains: tuple[str, str],
    random: np.random.Generator,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return slices of one patient: ``(N, 4, 1, size, size)`` float16, on the images' device; 5 with ``weights``.

    ``images`` are the inputs, ``wanted`` the targets: contrast to volume, ``(I, J, K)`` in RAS+ order on the patient's
    grid. ``weights``: a weight of each voxel, on the same grid; outside it, weights are 1.

    The second axis contains the input of A, the input of B, the target of A, the target of B, and the weights if there
    are any, all at the same position. N is ``pretraining.slices_per_patient``; the heights are random among those at
    which the input of A shows the patient.
    """
    slicing = config.slicing
    inputs = [_scaled(images[name], name, config) for name in domains]
    targets = [_scaled(wanted[name], name, config) for name in domains]
    fit = _plan(inputs[0], patient, config)
    shown = to_plane(inputs[0].slices[:, None], fit) > max(inputs[0].foreground, SCALED_PADDING)
    share = shown.float().mean(dim=(1, 2, 3))
    kept = torch.nonzero(share >= slicing.foreground).flatten().tolist() or list(range(len(share)))
    count = config.pretraining.slices_per_patient
    chosen = random.choice(len(kept), count, replace=count > len(kept))
    places = [kept[number] for number in chosen]
    stacks = []
    for scaled in (*inputs, *targets):
        planes = to_plane(scaled.slices[places][:, None], fit)
        stacks.append(planes.half())
    if weights is not None:
        planes = to_plane(_axial(weights)[places][:, None], fit, padding=1.0)
        stacks.append(planes.half())
    return torch.stack(stacks, dim=1)


def _scaled(scan: torch.Tensor, name: str, config: Config) -> _Scaled:
    modality = "CT" if name == "ct" else "MR"
    rule = config.domains.get(name, Domain()).scaling
    # Scanners store whole numbers.
    values = scan.round()
    sample = values[even_sample(values.shape, _SAMPLE)].cpu().numpy()
    scaling = IntensityScaling.fit(sample, modality=modality, window_hu=rule.window_hu, percentiles=rule.percentiles)
    threshold = np.array([foreground_threshold(sample, modality)])
    scaled = ((values - scaling.lower) * (2.0 / (scaling.upper - scaling.lower)) - 1.0).clamp(-1.0, 1.0)
    return _Scaled(_axial(scaled), float(scaling.normalize(threshold)[0]))


def _axial(volume: torch.Tensor) -> torch.Tensor:
    """Return a volume in RAS+ order as slices whose rows increase to posterior and columns to the patient's left."""
    return volume.flip(0, 1).permute(2, 1, 0)


def _plan(scaled: _Scaled, patient: Patient, config: Config) -> PlaneFit:
    """Plan the canvas of all images of the patient, around what the input of A shows."""
    _, height, width = scaled.slices.shape
    mask = (scaled.slices > max(scaled.foreground, SCALED_PADDING)).any(dim=0)
    centre = None
    if bool(mask.any()):
        rows, columns = torch.nonzero(mask.any(1)).flatten(), torch.nonzero(mask.any(0)).flatten()
        centre = (float(rows[0] + rows[-1]) / 2, float(columns[0] + columns[-1]) / 2)
    x, y, _ = patient.grid.spacing_mm
    slicing = config.slicing
    return cut_fit((height, width), (y, x), Preparation(slicing.size, slicing.fit, slicing.pixel_mm), centre)
