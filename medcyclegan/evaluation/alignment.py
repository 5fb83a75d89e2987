"""What is compared with what, and where: all volumes on the reference's grid, and a mask."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError, IntensityError, UsageError
from medcyclegan.evaluation.grids import on_grid, same_grid
from medcyclegan.evaluation.registration import register_rigid
from medcyclegan.intensity import check_hu
from medcyclegan.metrics import head_mask
from medcyclegan.volume import Volume

__all__ = ["Aligned", "align_volumes", "is_hu"]


@dataclasses.dataclass(frozen=True, eq=False)
class Aligned:
    """Volumes on one grid, ready to be scored.

    ``reference``: with its modality, found where its header has none. ``fake``, ``baseline``: ``(I, J, K)`` at the
    reference's voxels; ``baseline`` is the translation's input, or None, and ``baseline_in_hu`` whether its values are
    CT numbers. ``mask``: where to score, which is where all of them have values; ``mask_given`` whether a caller gave
    it. ``notes``: what was done, a sentence each.
    """

    reference: Volume
    fake: NDArray[Any]
    baseline: NDArray[Any] | None
    baseline_in_hu: bool
    mask: NDArray[np.bool_]
    mask_given: bool
    notes: tuple[str, ...]


def align_volumes(
    fake: Volume,
    reference: Volume,
    *,
    mask: Volume | NDArray[Any] | None = None,
    baseline: Volume | None = None,
    register: Literal["rigid"] | None = None,
) -> Aligned:
    """Bring ``fake``, ``baseline`` and ``mask`` onto the reference's grid ``(I, J, K)``.

    Volumes on another grid are resampled linearly, masks to the nearest voxel; ``.notes`` says so. With ``register``
    the baseline (the fake without one) is first laid onto the reference, and both are moved alike: the input and
    its translation share a place. Raises a :class:`~medcyclegan.errors.MedCycleGANError` for what cannot be scored.
    """
    notes: list[str] = []
    reference = _with_modality(reference, notes)
    moved = {"fake": fake} | ({"baseline": baseline} if baseline is not None else {})
    if register is not None:
        moved = _registered(moved, reference, register, notes)
    inside = np.ones(reference.shape, dtype=np.bool_)
    arrays = {}
    for name, volume in moved.items():
        arrays[name], covered = _placed(volume, reference, name, notes)
        inside &= covered
        if volume.modality in ("CT", "MR") and reference.modality in ("CT", "MR", None):
            _say_modality(name, volume, reference, notes)
    where = _mask_array(mask, reference, notes)
    lost = int(np.count_nonzero(where & ~inside))
    if lost:
        share = lost / int(np.count_nonzero(where))
        if share == 1:
            raise GeometryError(
                "fake and reference share no place inside the mask: check their affines, or pass --register rigid"
            )
        notes.append(f"{share:.1%} of the mask lies outside the field of view of what is scored and is left out")
    in_hu = baseline is not None and baseline.modality in ("CT", None) and is_hu(baseline)
    inputs = (arrays["fake"], arrays.get("baseline"), in_hu)
    aligned = Aligned(reference, *inputs, where & inside, mask is not None, tuple(notes))
    _check_values(aligned)
    return aligned


def _with_modality(reference: Volume, notes: list[str]) -> Volume:
    """Return the reference as a CT where its header has no modality and its values are Hounsfield units."""
    if reference.modality is not None or not is_hu(reference):
        return reference
    notes.append("the reference's header has no modality; its values are in HU, so it is scored as a CT")
    return reference.replace(modality="CT")


def is_hu(volume: Volume) -> bool:
    """Return whether a volume's values are CT numbers, as far as values tell."""
    try:
        check_hu(volume.array)
    except IntensityError:
        return False
    return volume.value_range is None


def _registered(moved: dict[str, Volume], reference: Volume, register: str, notes: list[str]) -> dict[str, Volume]:
    if register != "rigid":
        raise UsageError(f"--register {register}: the only registration is rigid")
    guide = "baseline" if "baseline" in moved else "fake"
    motion = register_rigid(moved[guide], reference)
    said = (
        f"registered rigidly to the reference by the {'input' if guide == 'baseline' else guide}: "
        f"{motion.rotation_degrees:.2f} degrees, {motion.shift_mm:.2f} mm, mutual information "
        f"{motion.before:.3f} to {motion.after:.3f}"
    )
    if motion.after <= motion.before:
        notes.append(f"{said}: no better than before, so the volumes stay where they were")
        return moved
    notes.append(said)
    return {name: volume.replace(affine=motion.matrix @ volume.affine) for name, volume in moved.items()}


def _placed(
    volume: Volume, reference: Volume, name: str, notes: list[str]
) -> tuple[NDArray[Any], NDArray[np.bool_] | bool]:
    if same_grid(volume, reference):
        return volume.array, True
    if not np.isfinite(volume.array).all():
        raise IntensityError(f"{name}: voxels that are not finite cannot be resampled: fill them with --nan fill")
    shape, spacing = ("x".join(f"{n:.4g}" for n in numbers) for numbers in (volume.shape, volume.spacing_mm))
    notes.append(f"{name}: {shape} voxels of {spacing} mm, resampled linearly onto the reference's grid")
    return on_grid(volume, reference)


def _mask_array(mask: Volume | NDArray[Any] | None, reference: Volume, notes: list[str]) -> NDArray[np.bool_]:
    if mask is None:
        return head_mask(reference)
    if isinstance(mask, Volume):
        where = mask.array > 0
        if not same_grid(mask, reference):
            notes.append("mask: on another grid, taken at the voxels nearest to the reference's")
            values, covered = on_grid(mask.replace(array=where), reference, nearest=True)
            where = (values > 0) & covered
    else:
        where = np.asarray(mask) > 0
        if where.shape != reference.shape:
            raise GeometryError(
                f"a mask of shape {where.shape} for a reference of shape {reference.shape}: they must agree"
            )
    if not where.any():
        raise IntensityError("an empty mask: there is no voxel to score; give a mask that covers the patient")
    return where


def _check_values(aligned: Aligned) -> None:
    """Refuse what has no contrast, or voxels that are not finite, inside the mask."""
    arrays = {"fake": aligned.fake, "reference": aligned.reference.array, "input": aligned.baseline}
    for name, array in arrays.items():
        if array is None:
            continue
        values = array[aligned.mask]
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise IntensityError(
                f"{name}: {bad} voxels in the mask are not finite: find their cause, or fill them with --nan fill"
            )
        if values.min() == values.max():
            raise IntensityError(
                f"{name}: all voxels in the mask are {values.min():g}: without contrast nothing can be compared; "
                "is it the right file, and the mask that of this patient?"
            )


def _say_modality(name: str, volume: Volume, reference: Volume, notes: list[str]) -> None:
    expected = reference.modality or "MR"
    if name == "fake" and volume.modality != expected and reference.value_range is None:
        notes.append(f"the fake is {volume.modality} by its header, the reference {expected}: is the right pair named?")
