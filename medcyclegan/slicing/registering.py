"""Bring a volume onto the grid of another volume of the patient, by a rigid registration that is checked.

**Rules.** A registration is refused unless

- the optimizer converged,
- it rotates by at most 30 degrees and moves the volume by at most 60 mm from the initial alignment (that of the scanner
  coordinates or of the centers of mass, whichever matches better),
- the mutual information is not lower than without it (a volume for which this ends within 2 mm and 1 degree of where
  it started is aligned already, and is not moved),
- the volume covers at least half of the other one's head,
- the masks of the two heads, where both volumes have values, have a Dice coefficient of at least 0.85, and
- more than 5 mm inside the head the values of one volume tell enough about those of the other: the normalized mutual
  information 2 I(a; b) / (H(a) + H(b)) of 32 levels each is at least 0.07. The outlines of two heads agree even if they
  belong to two persons, or if one is upside down, but what is inside them does not.

``tests/benchmarks/registration.py`` prints the errors for known displacements of real scans and of phantoms, and these
measures for right and for wrong pairs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import MedCycleGANError
from medcyclegan.intensity import PADDING_HU
from medcyclegan.manifest import Registration
from medcyclegan.metrics import erode_mm, head_mask
from medcyclegan.plane import PlaneFit, plane_view
from medcyclegan.registration import Motion, mean_on_grid, on_grid, register_rigid
from medcyclegan.volume import Volume

__all__ = ["Registered", "register_onto"]

_LARGEST_DEGREES, _LARGEST_SEARCH_MM = 30.0, 60.0
#: The optimizer ends up to 0.6 mm and 0.5 degrees from the optimum for phantoms that are aligned already.
_ALIGNED_DEGREES, _ALIGNED_MM = 1.0, 2.0
_LEAST_SHARED, _LEAST_OVERLAP = 0.5, 0.85
#: Seven real T1 and T2 of one person: 0.105 to 0.256; six of two persons: 0.008 to 0.042.
_LEAST_AGREEMENT, _BORDER_MM, _LEVELS = 0.07, 5.0, 32
#: Share of the head in a slice that the volume must cover for the slice to be kept.
_COMPLETE = 0.99
_REMEDY = "check that both show the same part of one patient, or align them yourself and slice without --register"


@dataclasses.dataclass(frozen=True, eq=False)
class Registered:
    """The record of a registration (None: not tried), and if it was accepted the ``volume`` on the other one's grid.

    ``complete``: for each axial slice, from inferior to superior, whether the volume covers the head in it.
    ``placement``: how the slices of the other volume are placed, and so those of this one.
    """

    record: Registration | None = None
    volume: Volume | None = None
    complete: NDArray[np.bool_] | None = None
    placement: PlaneFit | None = None


def register_onto(volume: Volume, reference: Volume, case: str) -> Registered:
    """Register ``volume`` to ``reference``, check the result, and resample the volume once to the reference's grid.

    Both need their modality; ``case`` names the reference. Values are interpolated linearly, and averaged over the
    voxels of the reference where these are larger. The result is the same for any number of threads.
    """
    if volume.modality == "CT":
        # Padding outside the scanner's circle must not mix with the values next to it.
        volume = volume.replace(array=np.maximum(volume.array, PADDING_HU))
    try:
        motion = _unmoved_if_aligned(register_rigid(volume, reference))
        head, other = head_mask(reference), head_mask(volume)
    except MedCycleGANError as error:
        return Registered(Registration(case, refused=str(error)))
    moved = volume.replace(affine=motion.matrix @ volume.affine)
    values, covered = mean_on_grid(moved, reference)
    where, _ = on_grid(moved.replace(array=other), reference, nearest=True)
    inner = erode_mm(head, reference.spacing_mm, _BORDER_MM) & covered
    shared = float((head & covered).sum() / head.sum())
    overlap = _dice(head & covered, (where > 0) & covered)
    agreement = _information(reference.array[inner], values[inner])
    record = _describe(motion, overlap, agreement, case)
    reason = _refusal(motion, shared, overlap, agreement)
    if reason:
        return Registered(dataclasses.replace(record, refused=f"{reason}: {_REMEDY}"))
    result = volume.replace(array=values, affine=reference.affine)
    return Registered(record, result, _complete_slices(head, covered, reference.orientation))


def _unmoved_if_aligned(motion: Motion) -> Motion:
    """Return no motion instead of a small one that matches worse; then the volumes are aligned already."""
    is_small = motion.rotation_degrees <= _ALIGNED_DEGREES and motion.shift_mm <= _ALIGNED_MM
    if motion.after >= motion.before or not is_small:
        return motion
    return Motion(np.eye(4), 0.0, 0.0, 0.0, motion.before, motion.before, motion.converged)


def _describe(motion: Motion, overlap: float, agreement: float, case: str) -> Registration:
    return Registration(
        onto=case,
        matrix=tuple(tuple(round(float(x), 6) for x in line) for line in motion.matrix),
        rotation_degrees=round(motion.rotation_degrees, 3),
        shift_mm=round(motion.shift_mm, 3),
        before=round(motion.before, 5),
        after=round(motion.after, 5),
        overlap=round(overlap, 4),
        agreement=round(agreement, 4),
    )


def _refusal(motion: Motion, shared: float, overlap: float, agreement: float) -> str:
    """Return the value and the rule that a registration fails; an empty string if it passes all."""
    if not motion.converged:
        return "the registration did not converge"
    if motion.rotation_degrees > _LARGEST_DEGREES:
        return f"registration by a rotation of {motion.rotation_degrees:.0f} degrees, over {_LARGEST_DEGREES:.0f}"
    if motion.search_mm > _LARGEST_SEARCH_MM:
        return (
            f"registration by a shift of {motion.search_mm:.0f} mm from the initial alignment, over "
            f"{_LARGEST_SEARCH_MM:.0f} mm"
        )
    if motion.after < motion.before:
        return f"the mutual information falls from {motion.before:.3f} to {motion.after:.3f} by registration"
    if shared < _LEAST_SHARED:
        return f"it covers {shared:.0%} of the other volume's head, under {_LEAST_SHARED:.0%}"
    if overlap < _LEAST_OVERLAP:
        return f"the heads overlap by a Dice coefficient of {overlap:.2f}, under {_LEAST_OVERLAP}"
    if agreement < _LEAST_AGREEMENT:
        return f"the normalized mutual information inside the head is {agreement:.3f}, under {_LEAST_AGREEMENT}"
    return ""


def _information(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the normalized mutual information of two sets of values, 0 to 1; 0 if one has no contrast."""
    levels = []
    for values in (a, b):
        low, high = np.percentile(values, (1, 99)) if values.size else (0.0, 0.0)
        if not low < high:
            return 0.0
        levels.append(np.clip((values.astype(np.float64) - low) / (high - low) * _LEVELS, 0, _LEVELS - 1).astype(int))
    joint = np.bincount(levels[0] * _LEVELS + levels[1], minlength=_LEVELS**2).reshape(_LEVELS, _LEVELS) / a.size
    of_a, of_b, of_both = (_entropy(shares.ravel()) for shares in (joint.sum(axis=1), joint.sum(axis=0), joint))
    return 2 * (of_a + of_b - of_both) / (of_a + of_b)


def _entropy(shares: NDArray[np.float64]) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    both = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / both) if both else 0.0


def _complete_slices(head: NDArray[np.bool_], covered: NDArray[np.bool_], orientation: str) -> NDArray[np.bool_]:
    in_slice, lost = (plane_view(mask, orientation).sum(axis=(0, 1)) for mask in (head, head & ~covered))
    complete: NDArray[np.bool_] = lost <= (1 - _COMPLETE) * in_slice
    return complete & plane_view(covered, orientation).any(axis=(0, 1))
