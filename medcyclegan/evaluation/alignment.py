"""Put the volumes to compare on the grid of the reference, and determine the mask."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError, IntensityError, UsageError
from medcyclegan.intensity import looks_like_hu
from medcyclegan.metrics import head_mask
from medcyclegan.registration import on_grid, register_rigid, same_grid
from medcyclegan.volume import Volume

__all__ = ["Aligned", "align_volumes", "looks_like_ct"]


@dataclasses.dataclass(frozen=True, eq=False)
class Aligned:
    """Volumes on one grid, ready for scoring.

    ``reference``: with a modality, inferred from its values if its header has none. ``fake``, ``baseline``:
    ``(I, J, K)``, on the grid of the reference; ``baseline`` is the input of the translation, or None, and
    ``baseline_in_hu`` whether its values are CT numbers. ``mask``: the voxels to score, at which all volumes have
    values; ``mask_given`` whether the caller gave a mask. ``notes``: one sentence for each step that was taken.
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
    """Resample ``fake``, ``baseline`` and ``mask`` to the grid of the reference ``(I, J, K)``.

    Volumes on another grid are resampled linearly, masks to the nearest voxel; ``.notes`` records it. With
    ``register``, the baseline (or the fake, without one) is first registered to the reference, and both get the same
    motion, because an input and its translation are aligned. Raises a
    :class:`~medcyclegan.errors.MedCycleGANError` for volumes that cannot be scored.
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
            _note_modality(name, volume, reference, notes)
    where = _mask_array(mask, reference, notes)
    lost = int(np.count_nonzero(where & ~inside))
    if lost:
        share = lost / int(np.count_nonzero(where))
        if share == 1:
            raise GeometryError(
                "fake and reference do not overlap inside the mask: check their affines, or pass --register rigid"
            )
        notes.append(f"{share:.1%} of the mask is outside the field of view of the scored volumes and is left out")
    in_hu = baseline is not None and baseline.modality in ("CT", None) and looks_like_ct(baseline)
    inputs = (arrays["fake"], arrays.get("baseline"), in_hu)
    aligned = Aligned(reference, *inputs, where & inside, mask is not None, tuple(notes))
    _check_values(aligned)
    return aligned


def _with_modality(reference: Volume, notes: list[str]) -> Volume:
    """Return the reference, as a CT if its header has no modality and its values are in HU."""
    if reference.modality is not None or not looks_like_ct(reference):
        return reference
    notes.append("the header of the reference has no modality, but its values are in HU, so it is scored as a CT")
    return reference.replace(modality="CT")


def looks_like_ct(volume: Volume) -> bool:
    """Return whether a volume is not a picture and its values look like CT numbers."""
    return volume.value_range is None and looks_like_hu(volume.array)


def _registered(moved: dict[str, Volume], reference: Volume, register: str, notes: list[str]) -> dict[str, Volume]:
    if register != "rigid":
        raise UsageError(f"--register {register}: the only registration is rigid")
    guide = "baseline" if "baseline" in moved else "fake"
    motion = register_rigid(moved[guide], reference)
    sentence = (
        f"registered rigidly to the reference by the {'input' if guide == 'baseline' else guide}: "
        f"{motion.rotation_degrees:.2f} degrees, {motion.shift_mm:.2f} mm, mutual information "
        f"{motion.before:.3f} to {motion.after:.3f}"
    )
    if motion.after <= motion.before:
        notes.append(f"{sentence}: no improvement, so the volumes are not moved")
        return moved
    notes.append(sentence)
    return {name: volume.replace(affine=motion.matrix @ volume.affine) for name, volume in moved.items()}


def _placed(
    volume: Volume, reference: Volume, name: str, notes: list[str]
) -> tuple[NDArray[Any], NDArray[np.bool_] | bool]:
    if same_grid(volume, reference):
        return volume.array, True
    if not np.isfinite(volume.array).all():
        raise IntensityError(f"{name}: non-finite voxels cannot be resampled: fill them with --nan fill")
    shape, spacing = ("x".join(f"{n:.4g}" for n in numbers) for numbers in (volume.shape, volume.spacing_mm))
    notes.append(f"{name}: {shape} voxels of {spacing} mm, resampled linearly to the grid of the reference")
    return on_grid(volume, reference)


def _mask_array(mask: Volume | NDArray[Any] | None, reference: Volume, notes: list[str]) -> NDArray[np.bool_]:
    if mask is None:
        return head_mask(reference)
    if isinstance(mask, Volume):
        where = mask.array > 0
        if not same_grid(mask, reference):
            notes.append("mask: resampled to the nearest voxels of the reference's grid")
            values, covered = on_grid(mask.replace(array=where), reference, nearest=True)
            where = (values > 0) & covered
    else:
        where = np.asarray(mask) > 0
        if where.shape != reference.shape:
            raise GeometryError(
                f"a mask of shape {where.shape} for a reference of shape {reference.shape}: the shapes must agree"
            )
    if not where.any():
        raise IntensityError("the mask is empty, so there is no voxel to score: give a mask that covers the patient")
    return where


def _check_values(aligned: Aligned) -> None:
    """Refuse volumes without contrast or with non-finite voxels inside the mask."""
    arrays = {"fake": aligned.fake, "reference": aligned.reference.array, "input": aligned.baseline}
    for name, array in arrays.items():
        if array is None:
            continue
        values = array[aligned.mask]
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise IntensityError(
                f"{name}: {bad} voxels in the mask are not finite: find the cause, or fill them with --nan fill"
            )
        if values.min() == values.max():
            raise IntensityError(
                f"{name}: all voxels in the mask are {values.min():g}: without contrast nothing can be compared: "
                "check that the file and the mask are the right ones"
            )


def _note_modality(name: str, volume: Volume, reference: Volume, notes: list[str]) -> None:
    expected = reference.modality or "MR"
    if name == "fake" and volume.modality != expected and reference.value_range is None:
        notes.append(f"by their headers, the fake is {volume.modality} and the reference {expected}: check the pair")
