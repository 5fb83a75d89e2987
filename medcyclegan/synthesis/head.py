"""One labeled head: the tissues of a label map on an upright grid, with depths and distances for painting tissues."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan.errors import GeometryError, IntensityError
from medcyclegan.synthesis.distances import distance_to, grow_within
from medcyclegan.synthesis.labels import FREESURFER
from medcyclegan.synthesis.tissues import BRAIN, COMPOSITES, TISSUES, tissue_index, tissue_indices
from medcyclegan.volume import Volume

__all__ = ["Extent", "LabelledHead", "build_head", "check_head"]

Extent = tuple[tuple[float, float], ...]

#: A label map rotated by more than this from the patient's axes is refused.
_MOST_OBLIQUE_DEGREES = 2.0
#: Voxels larger than this, in mm, do not resolve the cortex.
_LARGEST_VOXEL_MM = 4.5
#: The smallest volume of grey and white matter that is accepted, in cm3; a newborn has about 350.
_LEAST_BRAIN_CM3 = 100.0
#: A second piece of brain larger than this fraction of the first is a second head.
_SECOND_HEAD = 0.3
#: A piece that is not connected to the others belongs to the head if it has at least this share of the brain.
_LEAST_PIECE = 0.01
#: Smaller bubbles of air inside a head are errors in its label map.
_LEAST_AIR_MM3 = 40.0
#: The largest distance that is calculated, in mm.
_REACH_MM = 14.0
#: Soft tissue connected to the muscles and the nerve of the eye within this distance is orbital fat.
_ORBIT_MM = 9.0
#: The fields of a head that have a value for every voxel.
_TENSORS = ("tissues", "depth_mm", "orbit", "enclosed")


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledHead:
    """The tissues of one label map.

    ``tissues``
        Indices into :data:`~medcyclegan.synthesis.TISSUES`, uint8 ``(X, Y, Z)``, in RAS+ order, cropped to the head
        plus one voxel on each side if the map extends that far.
    ``spacing_mm``
        The distance between voxels along the three axes.
    ``centre``
        The index, along each axis, of the brain's center of mass, which is the origin of positions in mm.
    ``depth_mm``
        float16 ``(X, Y, Z)``, at most 14: of the scalp, the depth below the air; of other soft tissue, the distance
        from the scalp; of bone and marrow, the depth within the bone; of fluid, the distance from the bone.
    ``orbit``
        bool ``(X, Y, Z)``: soft tissue behind the eyes.
    ``enclosed``
        bool ``(X, Y, Z)``: fluid that has brain to its left and right, and in front of it and behind it.
    ``sha256``
        The hash of the label map's values and geometry.
    """

    tissues: torch.Tensor
    spacing_mm: tuple[float, float, float]
    centre: tuple[float, float, float]
    depth_mm: torch.Tensor
    orbit: torch.Tensor
    enclosed: torch.Tensor
    sha256: str

    def to(self, device: torch.device) -> LabelledHead:
        """Return the same head on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in _TENSORS}
        return dataclasses.replace(self, **moved)

    def part(self, box: tuple[slice, slice, slice]) -> LabelledHead:
        """Return the voxels of ``box``, with the same origin in mm, as views."""
        x, y, z = (centre - along.start for centre, along in zip(self.centre, box, strict=True))
        parts = {name: getattr(self, name)[box] for name in _TENSORS}
        return dataclasses.replace(self, centre=(x, y, z), **parts)

    @functools.cached_property
    def brain_mm(self) -> Extent:
        """The lowest and highest position of the brain along each axis, in mm."""
        return self.extent_mm(BRAIN)

    @functools.cached_property
    def whole_mm(self) -> Extent:
        """The lowest and highest position of the head along each axis, in mm."""
        return self.extent_mm()

    def extent_mm(self, names: tuple[str, ...] | None = None) -> Extent:
        """Return the lowest and highest position of some tissues (default: all but air) along each axis, in mm."""
        mask = self.tissues != 0
        if names is not None:
            mask = torch.isin(self.tissues, torch.tensor(tissue_indices(*names), device=mask.device).to(torch.uint8))
        ends = []
        for axis in range(3):
            others = [other for other in range(3) if other != axis]
            places = torch.nonzero(mask.any(dim=others[1]).any(dim=others[0])).flatten()
            low, high = (float(places[n]) - self.centre[axis] for n in (0, -1))
            ends.append(((low - 0.5) * self.spacing_mm[axis], (high + 0.5) * self.spacing_mm[axis]))
        return tuple(ends)


def build_head(volume: Volume, table: Mapping[int, str] = FREESURFER) -> LabelledHead:
    """Build the labeled head from ``volume``, whose values are labels in ``table`` (label to tissue).

    Parts that are not connected to the brain are removed. Raises :class:`~medcyclegan.errors.GeometryError` for a map
    that is oblique or sheared, has voxels of more than 4.5 mm or is too small for a head, and
    :class:`~medcyclegan.errors.IntensityError` for a map with values that are not whole numbers, labels that are not in
    the table, less than 100 cm3 of brain, two heads, or a brain that is apart from most of the head.
    """
    tissues, spacing_mm = _read_tissues(volume, table)
    tissues = _fill_specks(_crop(tissues), float(np.prod(spacing_mm)))
    is_brain = np.isin(tissues, tissue_indices(*BRAIN))
    x, y, z = (float(value) for value in ndimage.center_of_mass(is_brain))
    on_cpu = torch.from_numpy(np.ascontiguousarray(tissues))
    depth_mm, orbit = _places(on_cpu, spacing_mm)
    digest = hashlib.sha256(volume.content_sha256().encode())
    digest.update(repr(sorted(table.items())).encode())
    fluid = on_cpu == tissue_index("cerebrospinal fluid")
    enclosed = fluid & _between(torch.from_numpy(is_brain), 0) & _between(torch.from_numpy(is_brain), 1)
    return LabelledHead(on_cpu, spacing_mm, (x, y, z), depth_mm, orbit, enclosed, digest.hexdigest())


def check_head(volume: Volume, table: Mapping[int, str] = FREESURFER) -> None:
    """Raise the errors that :func:`build_head` would raise, in a tenth of its time."""
    _read_tissues(volume, table)


def _read_tissues(volume: Volume, table: Mapping[int, str]) -> tuple[NDArray[np.uint8], tuple[float, float, float]]:
    _check_grid(volume)
    array, spacing_mm = _upright(volume)
    tissues = _tissues_of(_whole_numbers(array), table)
    is_brain = np.isin(tissues, tissue_indices(*BRAIN))
    _check_brain(is_brain, spacing_mm)
    return _pieces_of_head(tissues, is_brain), spacing_mm


def _check_grid(volume: Volume) -> None:
    if volume.shear_degrees > 0.1 or volume.oblique_degrees > _MOST_OBLIQUE_DEGREES:
        raise GeometryError(
            f"the label map is rotated by {max(volume.oblique_degrees, volume.shear_degrees):.1f} degrees from the "
            f"patient's axes, more than the limit of {_MOST_OBLIQUE_DEGREES:g}: resample it with nearest-neighbor "
            "interpolation to an upright grid"
        )
    extent_mm = [n * mm for n, mm in zip(volume.shape, volume.spacing_mm, strict=True)]
    if max(volume.spacing_mm) > _LARGEST_VOXEL_MM or min(extent_mm) < 60:
        shape, spacing = "x".join(map(str, volume.shape)), "x".join(f"{mm:g}" for mm in volume.spacing_mm)
        raise GeometryError(
            f"the label map has {shape} voxels of {spacing} mm, but voxels must be at most {_LARGEST_VOXEL_MM:g} mm "
            "wide and cover at least 60 mm along each axis: use the map of a whole brain or head"
        )


def _upright(volume: Volume) -> tuple[NDArray[np.generic], tuple[float, float, float]]:
    """Return the array in RAS+ order, as a view, and its spacing."""
    codes = volume.orientation
    axes = [next(n for n in range(3) if codes[n] in pair) for pair in ("RL", "AP", "SI")]
    flips = tuple(slice(None, None, 1 if codes[axis] in "RAS" else -1) for axis in axes)
    x, y, z = (volume.spacing_mm[axis] for axis in axes)
    return volume.array.transpose(axes)[flips], (x, y, z)


def _whole_numbers(array: NDArray[np.generic]) -> NDArray[np.int32]:
    if array.dtype.kind == "f":
        odd = array[array != np.rint(array)]
        if odd.size:
            raise IntensityError(
                f"{odd.size} values of the label map are not whole numbers, such as {float(odd[0]):g}: resample "
                "labels with nearest-neighbor interpolation, or name the label map instead of the image"
            )
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 100_000:
        raise IntensityError(
            f"the label map has values from {low:g} to {high:g}, but labels must be 0 to 100000: name a label map"
        )
    return array.astype(np.int32)


def _tissues_of(labels: NDArray[np.int32], table: Mapping[int, str]) -> NDArray[np.uint8]:
    counts = np.bincount(labels.ravel())
    present = [int(label) for label in np.nonzero(counts)[0]]
    unknown = [label for label in present if label not in table]
    if unknown:
        listed = ", ".join(f"{label} ({counts[label]} voxels)" for label in unknown[:8])
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise IntensityError(
            f"labels that are not in the table: {listed}{more}: give their tissues in a CSV file with the columns "
            "label and tissue, and pass it with --labels-table"
        )
    lookup = np.zeros(len(counts), np.uint8)
    for label in present:
        lookup[label] = tissue_index(table[label])
    return lookup[labels]


def _check_brain(is_brain: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> None:
    volume_cm3 = float(is_brain.sum()) * float(np.prod(spacing_mm)) / 1000
    if volume_cm3 < _LEAST_BRAIN_CM3:
        raise IntensityError(
            f"the label map has {volume_cm3:.0f} cm3 of grey and white matter, but a head has at least "
            f"{_LEAST_BRAIN_CM3:.0f}: name a label map of a head, or describe its labels with --labels-table"
        )
    # On voxels of about 4 mm, dilated by one voxel, the hemispheres are one piece.
    step = [max(1, round(4 / mm)) for mm in spacing_mm]
    coarse = ndimage.binary_dilation(is_brain[:: step[0], :: step[1], :: step[2]])
    pieces, count = ndimage.label(coarse)
    sizes = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
    if count > 1 and sizes[1] > _SECOND_HEAD * sizes[0]:
        raise IntensityError("the label map contains two separate brains: keep one head per map")


def _pieces_of_head(tissues: NDArray[np.uint8], is_brain: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the tissues with everything that is not connected to the brain replaced with air.

    Raises :class:`~medcyclegan.errors.IntensityError` if that would remove most of the head.
    """
    pieces, count = ndimage.label(tissues != 0)
    if count < 2:
        return tissues
    sizes, of_brain = (np.bincount(of.ravel(), minlength=count + 1) for of in (pieces, pieces[is_brain]))
    sizes[0] = 0
    kept = of_brain >= _LEAST_PIECE * of_brain.sum()
    if sizes[~kept].sum() > sizes[kept].sum():
        raise IntensityError(
            "a label map whose brain is not connected to the larger rest: give what lies between them, such as "
            "fluid, a label of its own instead of that of air, or keep the brain alone"
        )
    return np.where(kept[pieces], tissues, np.uint8(0))


def _fill_specks(tissues: NDArray[np.uint8], voxel_mm3: float) -> NDArray[np.uint8]:
    """Fill enclosed bubbles of air below 40 mm3, which are errors of the map in bone and muscle.

    Each voxel gets the tissue that is most frequent among its neighbors, from the bubble's border inwards.
    """
    pieces, _ = ndimage.label(tissues == 0)
    sizes = np.bincount(pieces.ravel())
    small = np.nonzero((sizes * voxel_mm3 < _LEAST_AIR_MM3) & (np.arange(len(sizes)) > 0))[0]
    places = np.argwhere(np.isin(pieces, small))
    places = places[((places > 0) & (places < np.array(tissues.shape) - 1)).all(axis=1)]
    filled = tissues.copy()
    for _ in range(4):
        if not len(places):
            break
        counts = np.zeros((len(places), len(TISSUES)), np.int8)
        for offset in np.ndindex(3, 3, 3):
            x, y, z = (places + np.array(offset) - 1).T
            counts[np.arange(len(places)), filled[x, y, z]] += 1
        counts[:, 0] = 0
        found = counts.any(axis=1)
        x, y, z = places[found].T
        filled[x, y, z] = counts[found].argmax(axis=1)
        places = places[~found]
    return filled


def _crop(tissues: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found = ndimage.find_objects((tissues != 0).astype(np.uint8))[0]
    around = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in found)
    return tissues[around]


def _places(tissues: torch.Tensor, spacing_mm: tuple[float, float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    soft, scalp = (tissues == tissue_index(name) for name in COMPOSITES)
    bone = _is_any(tissues, "cortical bone", "marrow")
    fluid = tissues == tissue_index("cerebrospinal fluid")
    air = tissues == 0
    depth = torch.zeros(tissues.shape, dtype=torch.float16)
    edge = scalp if bool(scalp.any()) else air
    for where, source in ((scalp, air), (soft, edge), (bone, ~bone), (fluid, bone)):
        # From the border between voxels, not from the center of the next voxel.
        distance = distance_to(source, spacing_mm, _REACH_MM) - 0.5 * min(spacing_mm)
        depth[where] = distance[where].to(torch.float16)
    # The muscles and the nerve of the eye have separate labels, in front of the middle of the brain.
    seeds = (tissues == tissue_index("muscle")) & bool(soft.any())
    orbit = grow_within(seeds, soft, round(_ORBIT_MM / min(spacing_mm)))
    return depth, orbit


def _between(mask: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the voxels that have a voxel of ``mask`` on both sides along ``axis``."""
    after = mask.int().cumsum(axis) > 0
    return after & (mask.flip(axis).int().cumsum(axis) > 0).flip(axis)


def _is_any(tissues: torch.Tensor, *names: str) -> torch.Tensor:
    return torch.isin(tissues, torch.tensor(tissue_indices(*names), dtype=torch.uint8))


assert len(TISSUES) < 256  # noqa: S101 (tissues are uint8)
