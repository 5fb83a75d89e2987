"""Previews: volumes side by side in three planes, in true proportions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medcyclegan.intensity import foreground_threshold
from medcyclegan.pictures.drawing import LINE, draw_text, grey_tile, heat_tile, join, labelled, text_width
from medcyclegan.volume import Volume

__all__ = ["STAMP", "preview", "to_ras"]

#: Written under every preview.
STAMP = "SYNTHETIC - research only"

#: CT is shown in the usual soft-tissue window, level 40, width 400 HU.
_CT_WINDOW_HU = (-160.0, 240.0)
_LONGEST = 320
#: Plane -> world axes along the columns and the rows, and the patient sides at the left edge and the top.
_PLANES = {"axial": (0, 1, "R", "A"), "coronal": (0, 2, "R", "S"), "sagittal": (1, 2, "A", "S")}


def preview(
    volumes: Mapping[str, Volume],
    *,
    uncertainty: Volume | None = None,
    unit: str = "",
    heading: str | None = None,
) -> Image.Image:
    """Return the volumes in axial, coronal and sagittal planes, one labelled column per volume.

    Radiological display: the patient's right and anterior sides are shown on the left. The planes intersect in
    the middle of the first volume's foreground. Voxels have their true proportions; oblique volumes are shown
    along their own axes. CT is windowed from -160 to 240 HU, 2-D pictures over their range, all others from 0 (the
    1st percentile of the foreground if there are negative values) to the 99.5th percentile. A plane that is only a
    line of voxels is left out, unless the volumes have no others. ``uncertainty``, the possible error of each voxel
    in ``unit``, is shown in a last column under ``heading``, from black (0) over red to white (its 99.5th percentile
    inside the head).
    Every preview is stamped ``SYNTHETIC - research only``.
    """
    columns = [_column(name, volume) for name, volume in volumes.items()]
    where = _middle(columns[0].array, next(iter(volumes.values())).modality)
    if uncertainty is not None:
        array, spacing = to_ras(uncertainty)
        heading = heading or "uncertainty (bright: doubt)"
        columns.append(_Column(heading, array, spacing, 0.0, _most(array, columns[0]), unit, heat=True))
    extent = max(max(n * mm for n, mm in zip(c.array.shape, c.spacing, strict=True)) for c in columns)
    rows = []
    for plane in _shown_planes(columns):
        tiles = [_plane_tile(column, plane=plane, where=where, scale=_LONGEST / extent) for column in columns]
        rows.append(
            [
                labelled(tile, f"{c.name}, {plane}", below=f"{c.lower:.4g} to {c.upper:.4g} {c.unit}")
                for tile, c in zip(tiles, columns, strict=True)
            ]
        )
    return _stamped(join(rows))


@dataclasses.dataclass(frozen=True, eq=False)
class _Column:
    """A column of the preview: array ``(R, A, S)``, spacings in mm, and the values shown black and white."""

    name: str
    array: NDArray[Any]
    spacing: NDArray[np.float64]
    lower: float
    upper: float
    unit: str
    heat: bool = False


def _column(name: str, volume: Volume) -> _Column:
    array, spacing = to_ras(volume)
    lower, upper, unit = _window(volume)
    return _Column(name, array, spacing, lower, upper, unit)


def _shown_planes(columns: Sequence[_Column]) -> list[str]:
    """Return the planes in which a volume is more than a line of voxels, or all planes if there is no such plane."""
    areas = [
        plane
        for plane, (across, down, *_) in _PLANES.items()
        if any(min(column.array.shape[across], column.array.shape[down]) > 1 for column in columns)
    ]
    return areas or list(_PLANES)


def _plane_tile(column: _Column, *, plane: str, where: tuple[float, float, float], scale: float) -> Image.Image:
    """Return one plane of ``column``; ``scale`` is in pixels per mm."""
    array, spacing = column.array, column.spacing
    across, down, left, top = _PLANES[plane]
    through = 3 - across - down
    index = min(int(where[through] * array.shape[through]), array.shape[through] - 1)
    flat = array.take(index, axis=through).T[::-1, ::-1]
    size = (
        max(1, round(array.shape[across] * spacing[across] * scale)),
        max(1, round(array.shape[down] * spacing[down] * scale)),
    )
    if column.heat:
        tile = heat_tile(flat, column.upper, size=size)
    else:
        tile = grey_tile(flat, column.lower, column.upper, size=size).convert("RGB")
    draw_text(tile, left, (3, tile.height // 2), anchor="lm")
    draw_text(tile, top, (tile.width // 2, 2))
    return tile


def to_ras(volume: Volume) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the array reoriented to right, anterior, superior, and the spacings of its axes in mm."""
    codes = volume.orientation
    order = [next(n for n, code in enumerate(codes) if code in pair) for pair in ("RL", "AP", "SI")]
    array = volume.array.transpose(order)
    turned = tuple(slice(None, None, 1 if codes[n] in "RAS" else -1) for n in order)
    return array[turned], np.array(volume.spacing_mm)[order]


def _middle(array: NDArray[Any], modality: str | None) -> tuple[float, float, float]:
    """Return the center of the foreground's bounding box, as fractions of the axis lengths."""
    steps = tuple(slice(None, None, max(1, n // 128)) for n in array.shape)
    small = array[steps]
    places = np.nonzero(small > foreground_threshold(small, modality))
    if places[0].size == 0:
        return 0.5, 0.5, 0.5
    x, y, z = ((p.min() + p.max() + 1) / 2 / n for p, n in zip(places, small.shape, strict=True))
    return float(x), float(y), float(z)


def _most(array: NDArray[Any], first: _Column) -> float:
    """Return the 99.5th percentile of an uncertainty map where the first volume is above its lower limit."""
    inside = array[first.array > first.lower] if array.shape == first.array.shape else array
    return max(float(np.percentile(inside if inside.size else array, 99.5)), 1e-6)


def _window(volume: Volume) -> tuple[float, float, str]:
    """Return the values shown black and white, and their unit."""
    if volume.modality == "CT":
        return *_CT_WINDOW_HU, "HU"
    if volume.value_range is not None:
        return *volume.value_range, "grey levels"
    sample = volume.array[tuple(slice(None, None, max(1, n // 128)) for n in volume.shape)]
    inside = sample[sample > foreground_threshold(sample, volume.modality)]
    lower, upper = np.percentile(inside if inside.size else sample, (1.0, 99.5))
    return float(lower) if sample.min() < 0 else 0.0, float(upper), "arbitrary units"


def _stamped(picture: Image.Image) -> Image.Image:
    width = max(picture.width, text_width(STAMP) + 8)
    stamped = Image.new("RGB", (width, picture.height + LINE + 4), (96, 16, 16))
    stamped.paste(picture, ((width - picture.width) // 2, 0))
    draw_text(stamped, STAMP, (width // 2, picture.height + 3))
    return stamped
