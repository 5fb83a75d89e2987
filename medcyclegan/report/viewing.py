"""Volumes for the viewer: quantized and compressed, with the windows in which to display them."""

from __future__ import annotations

import base64
import dataclasses
import zlib
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan.intensity import foreground_threshold
from medcyclegan.metrics import head_mask
from medcyclegan.volume import Volume

__all__ = ["ViewedVolume", "error_volume", "pack_voxels", "to_text", "unit_of", "view_error", "view_volume"]

#: Values are stored as integers: whole HU, others in this number of steps, more than a screen can show.
_LEVELS = 4095
#: Unless exact values are requested, they are rounded to this many standard deviations of the volume's noise. Such
#: steps are hidden by the noise (it grows by 18 %), and the page becomes several times smaller.
_STEP_IN_NOISE = 2.2
_SMALLEST_STEP_HU = 2
#: The steps of the bar of a map: at most as many as a screen shows, and at least this many in a noisy map.
_COLORS, _FEWEST_COLORS = 255, 32
_INT16_MAX = 32767
#: Volumes of fewer voxels are stored exactly: they take little space.
_ROUNDED_FROM = 500_000
#: Color maps of the viewer as CSS colors, from the lowest to the highest value.
_GRADIENTS = {
    "gray": "#000, #fff",
    "hot": "#000, #f00 37%, #ff0 75%, #fff",
    "inferno": "#000004, #420a68, #932667, #dd513a, #fca50a, #fcffa4",
}
_CT_PRESETS = (
    ("brain 0 to 80", 0.0, 80.0),
    ("soft tissue -160 to 240", -160.0, 240.0),
    ("bone -300 to 1500", -300.0, 1500.0),
    ("lung -1350 to 150", -1350.0, 150.0),
    ("all -1024 to 3071", -1024.0, 3071.0),
)
_PERCENTILES = (0.5, 99.5)


#: < and & of base 85 are replaced by characters that it does not use.
_SAFE = bytes.maketrans(b"<&", b",.")


@dataclasses.dataclass(frozen=True)
class ViewedVolume:
    """A volume as stored in the page: ``metadata`` for JSON, and ``voxels``, packed and as text (:func:`to_text`).

    Without ``voxels``, the viewer computes them from other volumes (``computed`` in ``metadata``).
    """

    metadata: dict[str, Any]
    voxels: str


def view_volume(
    volume: Volume, name: str, label: str, *, unit: str = "", colormap: str = "gray", exact: bool = False
) -> ViewedVolume:
    """Prepare a volume for the viewer.

    Voxels are stored as int16 with ``slope`` and ``intercept``, rounded to within the noise of the volume; those of
    maps to the steps of their bar at least. With ``exact``, HU are stored exactly and other values in 4,096 steps
    between minimum and maximum. They are compressed as in :func:`pack_voxels`. ``presets`` are (name, black, white);
    the first is the default. Maps (``colormap`` other than ``gray``) start at 0 and can be overlaid on the fake.
    """
    exact = exact or volume.array.size < _ROUNDED_FROM
    metadata = _metadata(volume, name, label, unit=unit, colormap=colormap)
    shown = metadata["presets"][0][2] if metadata["overlay"] and not exact else None
    stored, slope, intercept = _quantized(volume, exact=exact, shown=shown)
    metadata |= {"slope": slope, "intercept": intercept, "rounded": not exact}
    return ViewedVolume(metadata, to_text(pack_voxels(stored)))


def view_error(fake: Volume, reference: Volume) -> ViewedVolume | None:
    """Prepare the absolute error, :func:`error_volume`; the viewer computes it, and no voxels are stored.

    None if the reference covers no voxel of the fake: a map of zeros would look like a translation without errors.
    """
    error, ranges, covered = _error_and_ranges(fake, reference)
    if not covered:
        return None
    unit = unit_of(error) if error.modality == "CT" else "of range"
    metadata = _metadata(error, "error", "error, absolute", unit=unit, colormap="hot")
    metadata |= {"slope": 1.0 if error.modality == "CT" else 1 / _LEVELS, "intercept": 0.0, "file": ""}
    matrix = None if _on_one_grid(fake, reference) else _to_reference(fake, reference)[:3].ravel().tolist()
    metadata["computed"] = {"from": ["fake", "reference"], "ranges": ranges, "matrix": matrix}
    return ViewedVolume(metadata, "")


def _metadata(volume: Volume, name: str, label: str, *, unit: str, colormap: str) -> dict[str, Any]:
    kind = "map" if colormap != "gray" else "CT" if volume.modality == "CT" else "MR"
    return {
        "name": name,
        "label": label,
        "description": f"{label}: a cross-section; the controls above change its position and window",
        "kind": kind,
        "overlay": kind == "map",
        "unit": unit or unit_of(volume),
        "gradient": _GRADIENTS[colormap],
        "shape": list(volume.shape),
        "spacing": list(volume.spacing_mm),
        "affine": [float(value) for value in volume.affine.ravel()],
        "colormap": colormap,
        "presets": _presets(volume, kind),
        "file": "",
    }


def to_text(content: bytes) -> Markup:
    """Return bytes as base 85, which takes 6 % less space than base 64, without characters that HTML interprets.

    It is marked as safe, because a template would otherwise escape ``>``.
    """
    return Markup(base64.b85encode(content).translate(_SAFE).decode())  # noqa: S704


def unit_of(volume: Volume) -> str:
    """Return the unit of a volume's values; ``a.u.``: arbitrary units."""
    if volume.modality == "CT":
        return "HU"
    return "a.u." if volume.value_range is None else "gray levels"


def pack_voxels(stored: NDArray[np.int16]) -> bytes:
    """Return voxels ``(I, J, K)`` int16 as gzip, so that noisy images take less space; viewer.js unpacks them.

    Each voxel is replaced by its difference from the mean (rounded down) of its neighbors at I - 1 and J - 1, or from
    the only one, as an unsigned number (0, -1, 1, -2, ... become 0, 1, 2, 3, ...). The low bytes of all voxels follow
    each other, first index fastest, and then the high bytes.
    """
    values = stored.astype(np.int32)
    expected = np.zeros_like(values)
    expected[1:, 1:] = (values[:-1, 1:] + values[1:, :-1]) >> 1
    expected[1:, 0] = values[:-1, 0]
    expected[0, 1:] = values[0, :-1]
    difference = values - expected
    # Differences of 16-bit values that leave the range of 16 bits wrap around, here and in the viewer.
    wrapped = difference.astype(np.int16)
    unsigned = ((wrapped << 1) ^ (wrapped >> 15)).astype(np.uint16).ravel(order="F")
    planes = (unsigned & 0xFF).astype(np.uint8).tobytes() + (unsigned >> 8).astype(np.uint8).tobytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_FILTERED)
    return packer.compress(planes) + packer.flush()


def error_volume(fake: Volume, reference: Volume) -> Volume:
    """Return |fake - reference| on the grid of the fake ``(I, J, K)``, 0 outside the reference.

    If both are CT, the result is in HU. Otherwise the 0.5th and 99.5th percentile of the head are first mapped to 0
    and 1 in each volume, as for the metrics. The reference is resampled linearly if its grid differs.
    """
    return _error_and_ranges(fake, reference)[0]


def _error_and_ranges(fake: Volume, reference: Volume) -> tuple[Volume, list[tuple[float, float]] | None, bool]:
    """Return the error, the values of fake and reference that count as 0 and 1, and whether any voxel has an error.

    For an error in HU there is no such range: None.
    """
    moved, covered = _on_grid_of(fake, reference)
    values = [fake.array.astype(np.float32), moved]
    in_hu, ranges = fake.modality == reference.modality == "CT", None
    if not in_hu:
        head = head_mask(fake) & covered
        ranges = [_range_in(array, head) for array in values]
        values = [
            np.clip((array - np.float32(lower)) / np.float32(upper - lower), 0, 1).astype(np.float32)
            for array, (lower, upper) in zip(values, ranges, strict=True)
        ]
    error = np.where(covered, np.abs(values[0] - values[1]), np.float32(0))
    return Volume(error, fake.affine, modality="CT" if in_hu else None), ranges, bool(covered.any())


def _on_grid_of(fake: Volume, reference: Volume) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the reference on the grid of the fake, and the voxels that it covers."""
    source = reference.array.astype(np.float32)
    if _on_one_grid(fake, reference):
        return source, np.ones(fake.shape, dtype=np.bool_)
    how = {"output_shape": fake.shape, "order": 1, "prefilter": False}
    to_reference = _to_reference(fake, reference)
    matrix, offset = to_reference[:3, :3], to_reference[:3, 3]
    moved = ndimage.affine_transform(source, matrix, offset, cval=float(source.min()), **how)
    covered = ndimage.affine_transform(np.ones_like(source), matrix, offset, cval=0.0, **how) > 0.99
    return moved, covered


def _to_reference(fake: Volume, reference: Volume) -> NDArray[np.float64]:
    """Return the matrix ``(4, 4)`` from the indices of the fake to those of the reference."""
    matrix: NDArray[np.float64] = np.linalg.inv(reference.affine) @ fake.affine
    return matrix


def _on_one_grid(fake: Volume, reference: Volume) -> bool:
    return fake.shape == reference.shape and bool(np.allclose(_to_reference(fake, reference), np.eye(4), atol=1e-3))


def _range_in(array: NDArray[Any], head: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the percentiles of ``array`` inside ``head`` that count as 0 and 1."""
    lower, upper = np.percentile(array[head] if head.any() else array, _PERCENTILES)
    return float(lower), float(max(upper, lower + 1e-12))


def _quantized(volume: Volume, *, exact: bool, shown: float | None = None) -> tuple[NDArray[np.int16], float, float]:
    """Return the stored voxels, slope and intercept. ``shown``: the highest value in the first window of a map."""
    array = np.nan_to_num(volume.array) if volume.array.dtype.kind == "f" else volume.array
    if shown is not None and shown > 0:
        hidden = min(_STEP_IN_NOISE * _noise(array, above=shown / _COLORS), shown / _FEWEST_COLORS)
        # a map that reaches far above its bar needs larger steps to fit 16 bits
        step = max(hidden, shown / _COLORS, float(np.abs(array).max()) / _INT16_MAX)
        return np.rint(array / np.float32(step)).astype("<i2"), step, 0.0
    coarse = 0.0 if exact else _STEP_IN_NOISE * _noise(array)
    if volume.modality == "CT":
        step = 1.0 if exact else float(max(_SMALLEST_STEP_HU, int(coarse)))
        return np.clip(np.rint(array / step), -32768, 32767).astype("<i2"), step, 0.0
    lower, upper = float(array.min()), float(array.max())
    slope = max(coarse, (upper - lower) / _LEVELS) if upper > lower else 1.0
    levels = np.rint((array.astype(np.float32) - np.float32(lower)) / np.float32(slope))
    return levels.astype("<i2"), slope, lower


def _noise(array: NDArray[Any], *, above: float | None = None) -> float:
    """Estimate the standard deviation of the noise of ``array`` ``(I, J, K)``, 0 if it has none.

    It is that of the second differences along I, where they are not 0, by their lower quartile; edges and texture raise
    it only slightly. A volume without noise that is smooth everywhere counts as one with little noise. ``above``:
    measure only where the values are higher.
    """
    middle = array[:, :, array.shape[2] // 4 : max(array.shape[2] - array.shape[2] // 4, 1)].astype(np.float32)
    if middle.shape[0] < 3:
        return 0.0
    second = np.abs(middle[:-2] - 2 * middle[1:-1] + middle[2:])
    if above is not None:
        second = second[middle[1:-1] > above]
    changing = second[second > 0]
    # Constant regions (air that is exactly 0) have none; if hardly anything changes, edges would be taken for noise.
    if not changing.size or changing.size < 0.05 * second.size:
        return 0.0
    return float(np.quantile(changing, 0.25)) / (0.3186 * np.sqrt(6.0))


def _presets(volume: Volume, kind: str) -> list[tuple[str, float, float]]:
    if kind == "CT":
        return [*_CT_PRESETS[1:2], _CT_PRESETS[0], *_CT_PRESETS[2:]]
    sample = volume.array[tuple(slice(None, None, max(1, n // 128)) for n in volume.shape)]
    lowest, highest = float(sample.min()), float(sample.max())
    if kind == "map":
        positive = sample[sample > 0]
        top = float(np.percentile(positive, 99)) if positive.size else 1.0
        return [("0 to 99 %", 0.0, top)]
    if volume.value_range is not None:
        return [("all", *volume.value_range)]
    inside = sample[sample > foreground_threshold(sample, volume.modality)]
    lower, upper = (float(v) for v in np.percentile(inside if inside.size else sample, (1.0, 99.5)))
    black = lower if lowest < 0 else 0.0
    if not black < upper:
        black, upper = lowest, max(highest, lowest + 1)
    width = upper - black
    return [
        ("standard", black, upper),
        ("brighter", black, black + 0.6 * width),
        ("darker", black, black + 1.6 * width),
        ("dark tissue", black, black + 0.3 * width),
        ("all", lowest, max(highest, lowest + 1e-6)),
    ]
