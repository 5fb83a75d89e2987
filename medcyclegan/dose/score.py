"""Compare the doses of one plan on the reference CT and on other images of the patient."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.dose.grid import BEYOND_TARGET_MM, SPACING_MM, plan_grid
from medcyclegan.dose.plan import BEAMS, FRACTIONS, PRESCRIBED_GY, Plan, calculate, make_plan, require_pyradplan
from medcyclegan.dose.structures import Structures
from medcyclegan.errors import GeometryError
from medcyclegan.logs import errors_only
from medcyclegan.registration import mean_on_grid
from medcyclegan.volume import Volume

__all__ = ["DVH_POINTS", "DoseScores", "dvh_points", "gamma_pass_rate", "recalculate_dose"]

#: Gamma: percent of the highest dose on the reference, mm, and the lowest dose that counts, in percent.
_GAMMA_PERCENT = 2.0
_GAMMA_MM = 2.0
_LOWEST_PERCENT = 10.0
#: The dose that at least this percentage of a structure receives.
_RECEIVED_PERCENT = (2, 50, 95, 98)
DVH_POINTS = (*(f"d{percent}" for percent in _RECEIVED_PERCENT), "mean")
_AIR_HU = -1000.0
#: At most this fraction of an organ may be beyond the grid of the plan.
_BEYOND_SHARE = 0.01


@dataclasses.dataclass(frozen=True)
class DoseScores:
    """The scores of each image, and what was planned.

    ``scores``: image -> score -> value. ``photon_gamma`` and ``proton_gamma`` are pass rates in percent;
    ``photon_target_d95`` etc. are doses in Gy (of protons: relative biological effectiveness included), and
    ``photon_target_d95_difference`` is the dose on the image - the dose on the reference. ``reference``: the same doses
    on the reference. ``plan``: the prescription, the beams and a description of the target.
    """

    scores: Mapping[str, Mapping[str, float]]
    reference: Mapping[str, float]
    plan: Mapping[str, Any]


def recalculate_dose(
    reference: Volume, images: Mapping[str, NDArray[Any]], head: NDArray[np.bool_], structures: Structures
) -> DoseScores:
    """Plan with photons and protons on ``reference``, and calculate both plans again on each of ``images``.

    ``reference``: a CT in HU ``(I, J, K)``; ``images``: CT numbers on its grid; ``head``: the mask of the patient,
    outside which densities are ignored. Raises :class:`~medcyclegan.errors.MissingExtraError` without the extra
    ``dose``, and :class:`~medcyclegan.errors.GeometryError` for structures that are smaller than a voxel of the plan,
    or organs that extend beyond its grid.
    """
    require_pyradplan()
    grid = plan_grid(reference.replace(array=head), reference.replace(array=structures.target))
    inside = _on_plan(head, reference, grid, "the head")
    masks = {"target": _on_plan(structures.target, reference, grid, "the target") & inside}
    for name, organ in structures.organs.items():
        _check_organ(organ, reference, grid, name)
        masks[name] = _on_plan(organ, reference, grid, f"--organ {name}")
    ct = _hu_on_plan(reference.array, reference, grid)
    others = {name: _hu_on_plan(array, reference, grid) for name, array in images.items()}
    scores: dict[str, dict[str, float]] = {name: {} for name in images}
    of_reference: dict[str, float] = {}
    for particle in BEAMS:
        plan = make_plan(particle, ct, grid, inside, masks["target"])
        of_reference |= _doses(plan, plan.dose, masks)
        for name, other in others.items():
            scores[name] |= _compared(plan, calculate(plan, other), masks)
    return DoseScores(scores, of_reference, _description(structures))


def gamma_pass_rate(reference: NDArray[np.float64], dose: NDArray[np.float64], spacing_mm: float) -> float:
    """Return the percentage of voxels with a gamma index of at most 1, by pymedphys.

    2 % of the highest dose on the reference (global), 2 mm, in voxels with at least 10 % of the highest dose.
    """
    import pymedphys

    axes = tuple(np.arange(n) * spacing_mm for n in reference.shape)
    with errors_only(""):  # pymedphys logs to the root
        gamma = pymedphys.gamma(
            axes, reference, axes, dose, _GAMMA_PERCENT, _GAMMA_MM, lower_percent_dose_cutoff=_LOWEST_PERCENT,
            interp_fraction=10, max_gamma=1.1, skip_once_passed=True, interp_algo="scipy",
        )  # fmt: skip
    counted = reference >= _LOWEST_PERCENT / 100 * reference.max()
    # Indices above max_gamma are reported as max_gamma, so it must be above 1. A voxel without an index fails.
    return 100 * float(np.count_nonzero(gamma[counted] <= 1) / np.count_nonzero(counted))


def dvh_points(dose: NDArray[np.float64], mask: NDArray[np.bool_]) -> dict[str, float]:
    """Return the doses that 2, 50, 95 and 98 % of the voxels of a mask receive at least, and the mean dose."""
    inside = dose[mask]
    points = np.percentile(inside, [100 - percent for percent in _RECEIVED_PERCENT])
    return dict(zip(DVH_POINTS, [*map(float, points), float(inside.mean())], strict=True))


def _compared(plan: Plan, dose: NDArray[np.float64], masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
    here, there = _doses(plan, dose, masks), _doses(plan, plan.dose, masks)
    scores = {f"{plan.particle}_gamma": gamma_pass_rate(plan.dose, dose, SPACING_MM)}
    for name, value in here.items():
        scores |= {name: value, f"{name}_difference": value - there[name]}
    return scores


def _doses(plan: Plan, dose: NDArray[np.float64], masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
    return {
        f"{plan.particle}_{name}_{point}": value
        for name, mask in masks.items()
        for point, value in dvh_points(dose, mask).items()
    }


def _hu_on_plan(array: NDArray[Any], reference: Volume, grid: Volume) -> NDArray[np.float32]:
    values, covered = mean_on_grid(reference.replace(array=array), grid)
    return np.where(covered, values, np.float32(_AIR_HU))


def _check_organ(organ: NDArray[np.bool_], reference: Volume, grid: Volume, name: str) -> None:
    """Refuse an organ of which more than 1 % is beyond the plan's grid: its doses would be those of a part of it."""
    to_grid = np.linalg.inv(grid.affine) @ reference.affine
    places = np.argwhere(organ) @ to_grid[:3, :3].T + to_grid[:3, 3]
    beyond = float(((places < -0.5) | (places > np.array(grid.shape) - 0.5)).any(axis=1).mean())
    if beyond > _BEYOND_SHARE:
        raise GeometryError(
            f"--organ {name}: {beyond:.0%} of it is more than {BEYOND_TARGET_MM:.0f} mm above or below the target, or "
            "outside the box around the head, where no dose is calculated: give the part of the organ near the target"
        )


def _on_plan(mask: NDArray[np.bool_], reference: Volume, grid: Volume, what: str) -> NDArray[np.bool_]:
    """Return the voxels of the plan's grid of which at least half is inside a mask."""
    values, covered = mean_on_grid(reference.replace(array=mask.astype(np.float32)), grid)
    inside: NDArray[np.bool_] = (values >= 0.5) & covered
    if not inside.any():
        raise GeometryError(
            f"{what} contains no voxel of {SPACING_MM:g} mm near the target: give a larger mask, or leave it out"
        )
    return inside


def _description(structures: Structures) -> dict[str, Any]:
    return {
        "target": structures.description,
        "organs": sorted(structures.organs),
        "prescription": f"median of the target {PRESCRIBED_GY:g} Gy in {FRACTIONS} fractions",
        "gantry_degrees": {particle: list(angles) for particle, angles in BEAMS.items()},
        "gamma": f"{_GAMMA_PERCENT:g} % of the highest dose (global), {_GAMMA_MM:g} mm, "
        f"voxels with at least {_LOWEST_PERCENT:g} %",
        "spacing_mm": SPACING_MM,
    }
