"""Volumes for the viewer: quantized and compressed, with the windows in which to display them."""

from __future__ import annotations

import base64
import dataclasses
import gzip
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan.intensity import foreground_threshold
from medcyclegan.metrics import head_mask
from medcyclegan.volume import Volume

__all__ = ["ViewedVolume", "error_volume", "view_volume"]

#: Values are stored as integers: HU unchanged, others in this number of steps, more than a screen can show.
_LEVELS = 4095
_CT_PRESETS = (
    ("brain 0 to 80", 0.0, 80.0),
    ("soft tissue -160 to 240", -160.0, 240.0),
    ("bone -300 to 1500", -300.0, 1500.0),
    ("lung -1350 to 150", -1350.0, 150.0),
    ("all -1024 to 3071", -1024.0, 3071.0),
)
_PERCENTILES = (0.5, 99.5)


@dataclasses.dataclass(frozen=True)
class ViewedVolume:
    """A volume as stored in the page: ``metadata`` for JSON, and ``voxels``, gzipped and in base64."""

    metadata: dict[str, Any]
    voxels: str


def view_volume(volume: Volume, name: str, label: str, *, colormap: str = "gray") -> ViewedVolume:
    """Prepare a volume for the viewer.

    Voxels are stored as int16, first index fastest, with ``slope`` and ``intercept``: HU exactly, other values in
    4,096 steps between minimum and maximum. ``presets`` are (name, black, white); the first is the default. Maps
    (``colormap`` other than ``gray``) start at 0 and can be overlaid on the fake.
    """
    stored, slope, intercept = _quantized(volume)
    kind = "map" if colormap != "gray" else "CT" if volume.modality == "CT" else "MR"
    metadata = {
        "name": name,
        "label": label,
        "description": f"{label}: a cross-section; the controls above change its position and window",
        "kind": kind,
        "overlay": kind == "map",
        "unit": "HU" if volume.modality == "CT" else "",
        "shape": list(volume.shape),
        "spacing": list(volume.spacing_mm),
        "affine": [float(value) for value in volume.affine.ravel()],
        "slope": slope,
        "intercept": intercept,
        "colormap": colormap,
        "presets": _presets(volume, kind),
        "file": "",
    }
    packed = gzip.compress(stored.tobytes(order="F"), compresslevel=6, mtime=0)
    return ViewedVolume(metadata, base64.b64encode(packed).decode())


def error_volume(fake: Volume, reference: Volume) -> Volume:
    """Return |fake - reference| on the grid of the fake ``(I, J, K)``, 0 outside the reference.

    If both are CT, the result is in HU. Otherwise the 0.5th and 99.5th percentile of the head are first mapped to 0
    and 1 in each volume, as for the metrics. The reference is resampled linearly if its grid differs.
    """
    to_reference = np.linalg.inv(reference.affine) @ fake.affine
    source = reference.array.astype(np.float32)
    if fake.shape == reference.shape and np.allclose(to_reference, np.eye(4), atol=1e-3):
        moved, covered = source, np.ones(fake.shape, dtype=np.bool_)
    else:
        how = {"output_shape": fake.shape, "order": 1, "prefilter": False}
        matrix, offset = to_reference[:3, :3], to_reference[:3, 3]
        moved = ndimage.affine_transform(source, matrix, offset, cval=float(source.min()), **how)
        covered = ndimage.affine_transform(np.ones_like(source), matrix, offset, cval=0.0, **how) > 0.99
    values = [fake.array.astype(np.float32), moved]
    if not fake.modality == reference.modality == "CT":
        head = head_mask(fake) & covered
        values = [_to_unit_range(array, head) for array in values]
    error = np.where(covered, np.abs(values[0] - values[1]), np.float32(0))
    return Volume(error, fake.affine, modality="CT" if fake.modality == reference.modality == "CT" else None)


def _to_unit_range(array: NDArray[np.float32], head: NDArray[np.bool_]) -> NDArray[np.float32]:
    inside = array[head] if head.any() else array
    lower, upper = np.percentile(inside, _PERCENTILES)
    return np.clip((array - lower) / max(upper - lower, 1e-12), 0, 1).astype(np.float32)


def _quantized(volume: Volume) -> tuple[NDArray[np.int16], float, float]:
    array = np.nan_to_num(volume.array) if volume.array.dtype.kind == "f" else volume.array
    if volume.modality == "CT":
        return np.clip(np.rint(array), -32768, 32767).astype("<i2"), 1.0, 0.0
    lower, upper = float(array.min()), float(array.max())
    slope = (upper - lower) / _LEVELS if upper > lower else 1.0
    levels = np.rint((array.astype(np.float32) - np.float32(lower)) / np.float32(slope))
    return levels.astype("<i2"), slope, lower


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
