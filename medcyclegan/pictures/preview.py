"""Previews: volumes side by side in three planes, in their true proportions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medcyclegan.intensity import foreground_threshold
from medcyclegan.pictures.drawing import LINE, draw_text, grey_tile, join, labelled, text_width
from medcyclegan.volume import Volume

__all__ = ["STAMP", "preview", "to_ras"]

#: Written under every preview.
STAMP = "SYNTHETIC - research only"

#: CT is shown in the usual soft-tissue window, level 40, width 400 HU.
_CT_WINDOW_HU = (-160.0, 240.0)
_LONGEST = 320
#: Plane -> world axes along the columns and the rows, and the patient sides at the left edge and the top.
_PLANES = {"axial": (0, 1, "R", "A"), "coronal": (0, 2, "R", "S"), "sagittal": (1, 2, "A", "S")}


def preview(volumes: Mapping[str, Volume]) -> Image.Image:
    """Return the volumes in axial, coronal and sagittal planes, one column each under its name.

    Radiological display: the patient's right and anterior side lie on the left. The planes cross in the
    middle of the first volume's foreground, voxels have their true proportions, oblique volumes are shown
    along their own axes. CT is windowed from -160 to 240 HU, pictures over their range, all else from 0 (the
    1st percentile of the foreground where values are negative) to the 99.5th. A plane that would be a mere
    line of a one-slice volume is left out.
    Every preview is stamped ``SYNTHETIC - research only``.
    """
    upright = {name: to_ras(volume) for name, volume in volumes.items()}
    first_array, _ = next(iter(upright.values()))
    where = _middle(first_array, next(iter(volumes.values())).modality)
    extent = max(max(n * mm for n, mm in zip(a.shape, spacing, strict=True)) for a, spacing in upright.values())
    rows = []
    for plane in _PLANES:
        row = []
        for name, (array, spacing) in upright.items():
            lower, upper, unit = _window(volumes[name])
            tile = _plane_tile(array, spacing, plane=plane, where=where, scale=_LONGEST / extent, limits=(lower, upper))
            if tile is not None:
                row.append(labelled(tile, f"{name}, {plane}", below=f"{lower:.4g} to {upper:.4g} {unit}"))
        if row:
            rows.append(row)
    return _stamped(join(rows))


def _plane_tile(
    array: NDArray[Any],
    spacing: NDArray[np.float64],
    *,
    plane: str,
    where: tuple[float, float, float],
    scale: float,
    limits: tuple[float, float],
) -> Image.Image | None:
    """Return one plane of an array ``(R, A, S)``; ``scale`` is in pixels per mm, None where it is a mere line."""
    across, down, left, top = _PLANES[plane]
    if array.shape[across] == 1 or array.shape[down] == 1:
        return None
    through = 3 - across - down
    index = min(int(where[through] * array.shape[through]), array.shape[through] - 1)
    flat = array.take(index, axis=through).T[::-1, ::-1]
    size = (
        max(1, round(array.shape[across] * spacing[across] * scale)),
        max(1, round(array.shape[down] * spacing[down] * scale)),
    )
    tile = grey_tile(flat, limits[0], limits[1], size=size).convert("RGB")
    draw_text(tile, left, (3, tile.height // 2), anchor="lm")
    draw_text(tile, top, (tile.width // 2, 2))
    return tile


def to_ras(volume: Volume) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the array with its axes turned to right, anterior, superior, and their spacings in mm."""
    codes = volume.orientation
    order = [next(n for n, code in enumerate(codes) if code in pair) for pair in ("RL", "AP", "SI")]
    array = volume.array.transpose(order)
    turned = tuple(slice(None, None, 1 if codes[n] in "RAS" else -1) for n in order)
    return array[turned], np.array(volume.spacing_mm)[order]


def _middle(array: NDArray[Any], modality: str | None) -> tuple[float, float, float]:
    """Return the middle of the foreground's bounding box, as fractions of the array's axes."""
    steps = tuple(slice(None, None, max(1, n // 128)) for n in array.shape)
    small = array[steps]
    places = np.nonzero(small > foreground_threshold(small, modality))
    if places[0].size == 0:
        return 0.5, 0.5, 0.5
    x, y, z = ((p.min() + p.max() + 1) / 2 / n for p, n in zip(places, small.shape, strict=True))
    return float(x), float(y), float(z)


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
