"""The target of a plan and the organs at risk, as masks on the grid of the reference CT."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError, IntensityError, UsageError
from medcyclegan.registration import same_grid
from medcyclegan.volume import Volume

__all__ = ["DEFAULT_RADIUS_MM", "Structures", "check_organ_names", "checked_mask", "default_target"]

#: The radius of the default target, and the part of the head, from the vertex down, in whose center it is.
DEFAULT_RADIUS_MM = 15.0
_UPPER_HEAD_MM = 120.0
#: At most this fraction of a target may be outside the head: contours are drawn by hand.
_OUTSIDE_SHARE = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Structures:
    """Masks ``(I, J, K)`` on the grid of the reference: the target and the organs at risk by name.

    ``description``: of the target, for records.
    """

    target: NDArray[np.bool_]
    organs: Mapping[str, NDArray[np.bool_]]
    description: str

    @classmethod
    def from_volumes(
        cls, reference: Volume, head: NDArray[np.bool_], target: Volume | None, organs: Mapping[str, Volume]
    ) -> Structures:
        """Return the structures of masks (voxels above 0); if no ``target`` is given, with the default target.

        Raises :class:`~medcyclegan.errors.GeometryError` for a mask on another grid or a target outside the head, and
        :class:`~medcyclegan.errors.IntensityError` for an empty mask or non-finite voxels.
        """
        if target is None:
            inside, description = default_target(reference, head)
        else:
            inside, description = checked_mask(target, reference, "--target"), "given mask"
        masks = {name: checked_mask(mask, reference, f"--organ {name}") for name, mask in organs.items()}
        outside = np.count_nonzero(inside & ~head) / np.count_nonzero(inside)
        if outside > _OUTSIDE_SHARE:
            what = description if target is None else "--target"
            raise GeometryError(
                f"{what}: {outside:.1%} of the target is outside the head of the reference, and at most "
                f"{_OUTSIDE_SHARE:.0%} may be: give a mask inside the head with --target"
            )
        return cls(inside & head, masks, description)


def default_target(reference: Volume, head: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], str]:
    """Return a sphere of 15 mm radius in the center of mass of the upper 120 mm of ``head``, and its description."""
    center = _center_of_upper_head(reference, head)
    # Only voxels in the box around the sphere are compared with its radius.
    to_voxels = np.linalg.inv(reference.affine)
    middle = to_voxels[:3, :3] @ center + to_voxels[:3, 3]
    reach = DEFAULT_RADIUS_MM * np.linalg.norm(to_voxels[:3, :3], axis=1)
    low = np.clip(np.floor(middle - reach).astype(int), 0, reference.shape)
    high = np.clip(np.ceil(middle + reach).astype(int) + 1, 0, reference.shape)
    box = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    inside = np.zeros(reference.shape, np.bool_)
    offsets = np.moveaxis(np.indices(inside[box].shape), 0, -1) + low - middle
    inside[box] = np.linalg.norm(offsets @ reference.affine[:3, :3].T, axis=-1) <= DEFAULT_RADIUS_MM
    at = ", ".join(f"{mm:.0f}" for mm in center)
    description = f"sphere of {DEFAULT_RADIUS_MM:.0f} mm radius at ({at}) mm RAS+"
    if not inside.any():
        raise GeometryError(f"{description}: it contains no voxel of the reference: give a mask with --target")
    return inside, description


def _center_of_upper_head(reference: Volume, head: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the center of mass of the upper 120 mm of ``head`` in RAS+ mm; one slice of the array at a time."""
    axes, origin = reference.affine[:3, :3], reference.affine[:3, 3]
    filled = np.flatnonzero(head.any(axis=(0, 1))).tolist()

    def places(k: int) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.argwhere(head[:, :, k]) @ axes[:, :2].T + (k * axes[:, 2] + origin)
        return found

    top = max(places(k)[:, 2].max() for k in filled)
    total, count = np.zeros(3), 0
    for k in filled:
        here = places(k)
        upper = here[here[:, 2] >= top - _UPPER_HEAD_MM]
        total, count = total + upper.sum(axis=0), count + len(upper)
    center: NDArray[np.float64] = total / count
    return center


def checked_mask(mask: Volume, reference: Volume, option: str) -> NDArray[np.bool_]:
    """Return the voxels of a mask above 0; refuse another grid, non-finite voxels and an empty mask."""
    if not same_grid(mask, reference):
        shape, spacing = ("x".join(f"{n:.4g}" for n in numbers) for numbers in (mask.shape, mask.spacing_mm))
        raise GeometryError(
            f"{option}: a mask of {shape} voxels of {spacing} mm that is not on the grid of the reference: "
            "resample it to that grid first"
        )
    if not np.isfinite(mask.array).all():
        raise IntensityError(f"{option}: the mask has non-finite voxels: write it with the values 0 and 1")
    inside: NDArray[np.bool_] = mask.array > 0
    if not inside.any():
        raise IntensityError(f"{option}: the mask is empty: give one with voxels above 0")
    return inside


def check_organ_names(names: Iterable[str]) -> None:
    """Refuse names of organs that cannot be part of the name of a column."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name == "target":
            raise UsageError(
                f"--organ {name}: a name has letters, digits, - and _, and is not target: for example brainstem"
            )
