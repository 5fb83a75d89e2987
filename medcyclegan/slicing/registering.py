"""Bring a volume onto the grid of another volume of the patient, by a rigid registration that is checked.

**Rules.** A registration is refused unless

- the optimizer converged,
- it rotates by at most 30 degrees and moves the volume by at most 60 mm from the initial alignment (that of the scanner
  coordinates or of the centers of mass, whichever matches better),
- the mutual information is not lower than without it,
- the volume covers at least half of the other one's head, and
- the masks of the two heads, where both volumes have values, have a Dice coefficient of at least 0.85.

``tests/benchmarks/registration.py`` prints the errors for known displacements of real scans and of phantoms, and the
Dice coefficients of right and of wrong registrations.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import MedCycleGANError
from medcyclegan.intensity import PADDING_HU
from medcyclegan.manifest import Registration
from medcyclegan.metrics import head_mask
from medcyclegan.plane import PlaneFit, plane_view
from medcyclegan.registration import Motion, mean_on_grid, on_grid, register_rigid
from medcyclegan.volume import Volume

__all__ = ["Registered", "register_onto"]

_LARGEST_DEGREES, _LARGEST_SEARCH_MM = 30.0, 60.0
_LEAST_SHARED, _LEAST_OVERLAP = 0.5, 0.85
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
        motion = register_rigid(volume, reference)
        head, other = head_mask(reference), head_mask(volume)
    except MedCycleGANError as error:
        return Registered(Registration(case, refused=str(error)))
    moved = volume.replace(affine=motion.matrix @ volume.affine)
    values, covered = mean_on_grid(moved, reference)
    where, _ = on_grid(moved.replace(array=other), reference, nearest=True)
    shared = float((head & covered).sum() / head.sum())
    record = _describe(motion, _dice(head & covered, (where > 0) & covered), case)
    reason = _refusal(motion, shared, record.overlap or 0.0)
    if reason:
        return Registered(dataclasses.replace(record, refused=f"{reason}: {_REMEDY}"))
    result = volume.replace(array=values, affine=reference.affine)
    return Registered(record, result, _complete_slices(head, covered, reference.orientation))


def _describe(motion: Motion, overlap: float, case: str) -> Registration:
    return Registration(
        onto=case,
        matrix=tuple(tuple(round(float(x), 6) for x in line) for line in motion.matrix),
        rotation_degrees=round(motion.rotation_degrees, 3),
        shift_mm=round(motion.shift_mm, 3),
        before=round(motion.before, 5),
        after=round(motion.after, 5),
        overlap=round(overlap, 4),
    )


def _refusal(motion: Motion, shared: float, overlap: float) -> str:
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
    return ""


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    both = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / both) if both else 0.0


def _complete_slices(head: NDArray[np.bool_], covered: NDArray[np.bool_], orientation: str) -> NDArray[np.bool_]:
    in_slice, lost = (plane_view(mask, orientation).sum(axis=(0, 1)) for mask in (head, head & ~covered))
    complete: NDArray[np.bool_] = lost <= (1 - _COMPLETE) * in_slice
    return complete & plane_view(covered, orientation).any(axis=(0, 1))
