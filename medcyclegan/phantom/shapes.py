"""Signed distances in mm to the solids that a synthetic head consists of; negative inside.

Points are three arrays ``x, y, z`` of one shape, in mm. The distance to an ellipsoid is the usual first-order
approximation ``k (k - 1) / |grad|``: exact on the surface and accurate enough within a few millimeters of it.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

__all__ = ["Points", "capsule_chain", "ellipsoid", "plane_waves", "smooth_union"]

Field = NDArray[np.float32]
Points = tuple[Field, Field, Field]


def ellipsoid(points: Points, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Field:
    """Return the distance to an axis-aligned ellipsoid with the given center and radii."""
    outer = np.zeros_like(points[0])
    inner = np.zeros_like(points[0])
    for coordinate, middle, radius in zip(points, centre, radii, strict=True):
        scaled = (coordinate - np.float32(middle)) / np.float32(radius)
        outer += scaled * scaled
        scaled /= np.float32(radius)
        inner += scaled * scaled
    root = np.sqrt(outer)
    return root * (root - 1) / np.sqrt(inner + np.float32(1e-12))


def capsule_chain(points: Points, knots: list[tuple[float, float, float, float]]) -> Field:
    """Return the distance to a tube along straight segments between ``knots``, each ``(x, y, z, radius)``."""
    nearest = np.full_like(points[0], np.inf)
    for (ax, ay, az, start), (bx, by, bz, end) in itertools.pairwise(knots):
        along = (bx - ax, by - ay, bz - az)
        length2 = along[0] ** 2 + along[1] ** 2 + along[2] ** 2
        x, y, z = points[0] - np.float32(ax), points[1] - np.float32(ay), points[2] - np.float32(az)
        part = (x * along[0] + y * along[1] + z * along[2]) / np.float32(length2)
        np.clip(part, 0, 1, out=part)
        x, y, z = x - part * along[0], y - part * along[1], z - part * along[2]
        distance = np.sqrt(x * x + y * y + z * z) - (start + part * np.float32(end - start))
        np.minimum(nearest, distance, out=nearest)
    return nearest


def smooth_union(first: Field, second: Field, radius_mm: float) -> Field:
    """Return the union of two solids with a fillet of about ``radius_mm`` where they meet.

    The polynomial smooth minimum (Inigo Quilez, "smooth minimum").
    """
    near = np.maximum(np.float32(radius_mm) - np.abs(first - second), 0) / np.float32(radius_mm)
    return np.minimum(first, second) - near * near * np.float32(radius_mm / 4)


def plane_waves(
    points: Points, rng: np.random.Generator, *, count: int, wavelengths_mm: tuple[float, float]
) -> tuple[Field, Points]:
    """Return a smooth random field of variance 1, and its gradient per mm.

    The field is the sum of ``count`` plane waves in random directions, with wavelengths in the given range.
    Its zero sheets wind like the sulci of a cortex.
    """
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    numbers = 2 * np.pi / rng.uniform(*wavelengths_mm, size=count)
    phases = rng.uniform(0, 2 * np.pi, size=count)
    scale = np.float32(np.sqrt(2 / count))
    field = np.zeros_like(points[0])
    gradient = (np.zeros_like(field), np.zeros_like(field), np.zeros_like(field))
    for direction, number, phase in zip(directions, numbers, phases, strict=True):
        kx, ky, kz = (np.float32(number * component) for component in direction)
        angle = kx * points[0] + ky * points[1] + kz * points[2] + np.float32(phase)
        field += np.cos(angle)
        slope = -np.sin(angle)
        for component, part in zip((kx, ky, kz), gradient, strict=True):
            part += component * slope
    for array in (field, *gradient):
        array *= scale
    return field, gradient
