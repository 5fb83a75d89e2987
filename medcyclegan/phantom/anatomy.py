"""Anatomy of a synthetic head: the fraction of each tissue at points given in mm.

Canonical frame: RAS+ mm, origin near the anterior commissure, an adult of average size. Solids are painted
from the outside in, each over the previous ones. The coverage of a voxel follows from the signed distance and
the voxel size, so edges have partial volumes, as in BrainWeb's fuzzy phantom, and thin layers do not break up
on coarse grids.
"""

from __future__ import annotations

import numpy as np

from medcyclegan.phantom.shapes import Field, Points, capsule_chain, ellipsoid, plane_waves, smooth_union
from medcyclegan.phantom.tissues import TISSUES, tissue_index

__all__ = ["paint_head"]

#: Means or ranges over subjects, in mm. Sulci are wide, as in an old brain, so that voxels of 2 to 4 mm resolve them.
_CORTEX_MM = 4.2
_SULCUS_DEPTH_MM = 16.0
_SULCUS_APART_MM = (32.0, 46.0)
_SULCUS_HALF_WIDTH_MM = (1.2, 2.2)
_SKULL_MM = (5.0, 6.0)
_SCALP_MM = (3.5, 5.0)


class _Canvas:
    """Tissue fractions ``(T, V)`` of ``V`` points, and the width of a softened edge in mm."""

    def __init__(self, points: Points, edge_mm: float) -> None:
        self.points = points
        self.edge_mm = np.float32(edge_mm)
        self.fractions = np.zeros((len(TISSUES), points[0].size), dtype=np.float32)
        self.fractions[tissue_index("air")] = 1

    def paint(self, name: str, distance: Field, *, inside: Field | None = None) -> None:
        """Cover the region where ``distance`` (and ``inside``, if given) is negative with the tissue ``name``."""
        limit = distance if inside is None else np.maximum(distance, inside)
        touched = np.flatnonzero(limit < self.edge_mm / 2)
        coverage = np.clip(np.float32(0.5) - limit[touched] / self.edge_mm, 0, 1)
        part = self.fractions[:, touched] * (1 - coverage)
        part[tissue_index(name)] += coverage
        self.fractions[:, touched] = part


def paint_head(points: Points, rng: np.random.Generator, *, edge_mm: float, lesion: bool) -> Field:
    """Return the fractions ``(T, V)`` of :data:`~medcyclegan.phantom.tissues.TISSUES` at ``V`` points.

    ``points`` are flat arrays in the canonical frame. ``rng`` determines the sulci, the thicknesses and the
    position of the lesion. ``edge_mm`` is the voxel size.
    """
    canvas = _Canvas(points, edge_mm)
    cavity = _cavity(points)
    _paint_outside(canvas, cavity, rng)
    near = np.flatnonzero(cavity < canvas.edge_mm)
    inner = _Canvas((points[0][near], points[1][near], points[2][near]), edge_mm)
    inner.fractions = canvas.fractions[:, near]
    _paint_brain(inner, cavity[near], rng)
    if lesion:
        _paint_lesion(inner, rng)
    canvas.fractions[:, near] = inner.fractions
    return canvas.fractions


def _mirrored(points: Points) -> Points:
    return np.abs(points[0]), points[1], points[2]


def _cavity(points: Points) -> Field:
    """Return the distance to the cranial cavity: vault, middle fossae and posterior fossa."""
    vault = ellipsoid(points, (0, -4, 18), (70, 88, 64))
    middle = ellipsoid(_mirrored(points), (38, 6, -18), (28, 44, 26))
    posterior = ellipsoid(points, (0, -48, -26), (50, 42, 38))
    cavity = smooth_union(smooth_union(vault, middle, 14), posterior, 14)
    forward = points[1] - 36 - np.maximum(np.abs(points[0]) - 26, 0)
    floor = 18 / (1 + np.exp(-forward / 4)) - 28 - np.maximum(-points[1] - 5, 0) * np.float32(0.9)
    return np.maximum(cavity, (floor - points[2]) * np.float32(0.8))


def _tentorium(points: Points) -> Field:
    """Return the height above the tentorium, the roof of the posterior fossa: a tent with a midline ridge."""
    x, y, z = points
    return z + 12 - 14 * np.exp(-((x / 24) ** 2)) + np.maximum(-y - 40, 0) * np.float32(0.22)


def _paint_outside(canvas: _Canvas, cavity: Field, rng: np.random.Generator) -> None:
    """Paint scalp, face, neck, skull, eyes and air-filled sinuses."""
    points = canvas.points
    mirrored = _mirrored(points)
    skull = rng.uniform(*_SKULL_MM)
    scalp = rng.uniform(*_SCALP_MM)
    face = ellipsoid(points, (0, 34, -52), (58, 58, 66))
    nose = ellipsoid(points, (0, 90, -44), (12, 20, 22))
    neck = np.maximum(np.hypot(points[0], (points[1] + 22) * 0.95) - 54, points[2] + 45)
    head = smooth_union(smooth_union(cavity - (skull + scalp), face, 25), smooth_union(neck, nose, 5), 20)
    canvas.paint("muscle", head)
    canvas.paint("fat", head + 2.0, inside=-(head + 2.0 + scalp))
    canvas.paint("fat", ellipsoid(mirrored, (34, 58, -50), (20, 22, 18)))
    streaks, _ = plane_waves((points[0], points[1], points[2] * 0.4), rng, count=10, wavelengths_mm=(16.0, 30.0))
    canvas.paint("fat", (np.float32(0.8) - streaks) * 4, inside=np.maximum(head + 6, 8 - cavity))
    _paint_spine(canvas)
    canvas.paint("muscle", ellipsoid(mirrored, (66, 22, -20), (9, 26, 30)), inside=head + 5)
    for solid in _face_bones(points):
        canvas.paint("bone", solid, inside=head + 3)
    canvas.paint("bone", np.maximum(cavity - skull, -cavity), inside=-54 - points[2])
    canvas.paint("diploe", np.abs(cavity - skull / 2) - skull * 0.21, inside=6 - points[2])
    orbit = ellipsoid(mirrored, (30, 58, -26), (18, 30, 18))
    canvas.paint("fat", orbit, inside=-(cavity - 2.5))
    canvas.paint(
        "muscle", np.abs(ellipsoid(mirrored, (29, 50, -26), (9, 28, 9))) - np.float32(1.4), inside=-(cavity - 2.5)
    )
    canvas.paint("muscle", ellipsoid(mirrored, (32, 72, -26), (13.4, 13.4, 13.4)))
    canvas.paint("csf", ellipsoid(mirrored, (32, 72, -26), (11.8, 11.8, 11.8)))
    for solid in _sinuses(points):
        canvas.paint("bone", solid - 1.6, inside=head + 4)
        canvas.paint("air", solid, inside=head + 6)


def _paint_spine(canvas: _Canvas) -> None:
    points = canvas.points
    canvas.paint("bone", capsule_chain(points, [(0, -20, -62, 17), (0, -26, -110, 16)]))
    canvas.paint("diploe", capsule_chain(points, [(0, -14, -62, 10), (0, -20, -110, 10)]))
    canvas.paint("csf", capsule_chain(points, [(0, -28, -50, 8), (0, -34, -110, 8)]))


def _face_bones(points: Points) -> list[Field]:
    mirrored = _mirrored(points)
    base = ellipsoid(points, (0, 4, -36), (20, 24, 10))
    petrous = capsule_chain(mirrored, [(62, -22, -34, 11), (18, -10, -32, 7)])
    zygoma = capsule_chain(mirrored, [(66, 2, -38, 4), (60, 40, -40, 4), (44, 66, -42, 6)])
    maxilla = np.abs(ellipsoid(points, (0, 52, -66), (34, 34, 20))) - 3
    return [base, petrous, zygoma, maxilla]


def _sinuses(points: Points) -> list[Field]:
    mirrored = _mirrored(points)
    frontal = ellipsoid(mirrored, (11, 86, -6), (10, 5, 8))
    ethmoid = ellipsoid(mirrored, (6, 62, -30), (4, 20, 10))
    maxillary = ellipsoid(mirrored, (27, 58, -56), (11, 15, 14))
    sphenoid = ellipsoid(mirrored, (7, 22, -30), (5, 10, 8))
    nasal = ellipsoid(mirrored, (5, 66, -54), (3.5, 26, 12))
    mastoid = ellipsoid(mirrored, (58, -32, -40), (7, 9, 10))
    throat = capsule_chain(points, [(0, 18, -52, 9), (0, 8, -100, 8)])
    return [frontal, ethmoid, maxillary, sphenoid, nasal, mastoid, throat]


def _paint_brain(canvas: _Canvas, cavity: Field, rng: np.random.Generator) -> None:
    """Paint CSF into the cavity, then cerebrum, cerebellum, brain stem, ventricles and nuclei into that."""
    canvas.paint("csf", cavity)
    gap = rng.uniform(1.5, 3.5)
    _paint_hindbrain(canvas, cavity, gap, rng)
    cerebrum = _cerebrum(canvas.points, cavity + gap)
    pial = np.maximum(cerebrum, -_sulci(canvas.points, cerebrum, rng))
    canvas.paint("csf", cerebrum)
    canvas.paint("grey matter", pial)
    canvas.paint("white matter", pial + np.float32(rng.uniform(0.9, 1.1) * _CORTEX_MM))
    _paint_centre(canvas, rng)


def _cerebrum(points: Points, inner: Field) -> Field:
    """Return the distance to both hemispheres as one smooth solid, without sulci.

    This is the cavity without the posterior fossa and without the middle of its base, which holds the brain
    stem and the cisterns.
    """
    x, y, z = points
    posterior_fossa = np.maximum(_tentorium(points) - 1.5, y + 24)
    cisterns = np.maximum(np.hypot(x * 1.3, (y + 4) * 0.8) - 20, z + 8 + np.maximum(y - 10, 0) * np.float32(0.3))
    return np.maximum(np.maximum(inner, -posterior_fossa), -cisterns)


def _sulci(points: Points, cerebrum: Field, rng: np.random.Generator) -> Field:
    """Return the distance to the sulci: winding sheets, the interhemispheric fissure and the Sylvian fissures.

    The sheets are the zeros of a random field that hardly changes along a radius, so they are perpendicular to
    the surface. They end at a depth of about 16 mm.
    """
    x, y, z = points
    radius = np.sqrt(x * x + y * y + (z - 15) ** 2) + np.float32(1)
    pull = np.float32(0.45) + np.float32(0.55 * 66) / radius
    on_sphere = ((x + np.sign(x) * np.float32(0.7)) * pull, y * pull, (z - 15) * pull)
    field, gradient = plane_waves(on_sphere, rng, count=20, wavelengths_mm=_SULCUS_APART_MM)
    slope = np.sqrt(gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2 + np.float32(0.002)) * pull
    sheet = field / slope
    uneven, _ = plane_waves(points, rng, count=6, wavelengths_mm=(35.0, 60.0))
    below = np.maximum(-cerebrum - np.float32(_SULCUS_DEPTH_MM) * (1 + np.float32(0.3) * uneven), 0)
    below = np.maximum(below, -ellipsoid(points, (0, -4, 8), (38, 48, 28)))
    width = np.float32(rng.uniform(*_SULCUS_HALF_WIDTH_MM))
    winding = np.sqrt(sheet * sheet + below * below) - width
    core = np.maximum(-(np.hypot(y * 0.62, z - 2) - 25), 0)
    fissure = np.sqrt(x * x + core * core) - np.float32(1.0 + width / 2)
    height = (z + 4 + y * np.float32(0.8) - np.float32(rng.uniform(-4, 4))) * np.float32(0.78)
    end = np.maximum(np.maximum(38 - np.abs(x), 0), np.maximum(np.abs(y - 2) - 26, 0))
    sylvian = np.sqrt(height * height + end * end) - np.float32(1.2 + width / 2)
    return np.minimum(np.minimum(winding, fissure), sylvian)


def _paint_hindbrain(canvas: _Canvas, cavity: Field, gap: float, rng: np.random.Generator) -> None:
    points = canvas.points
    mirrored = _mirrored(points)
    hemispheres = ellipsoid(mirrored, (24, -53, -33), (32, 37, 33))
    lobes = smooth_union(hemispheres, ellipsoid(points, (0, -54, -28), (14, 32, 32)), 8)
    roof = np.maximum(_tentorium(points) + 0.5, points[1] + 22)
    cerebellum = np.maximum(np.maximum(lobes, cavity + np.float32(gap)), roof)
    folia, gradient = plane_waves(
        (points[0] * 0.35, points[1] * 0.8, points[2] * 1.5), rng, count=8, wavelengths_mm=(11, 14)
    )
    slope = np.sqrt((gradient[0] * 0.35) ** 2 + (gradient[1] * 0.8) ** 2 + (gradient[2] * 1.5) ** 2 + np.float32(0.01))
    below = np.maximum(-cerebellum - 9, 0)
    folded = np.maximum(cerebellum, -(np.hypot(folia / slope, below) - 0.45))
    canvas.paint("grey matter", folded)
    canvas.paint("white matter", folded + 2.6)
    stem = capsule_chain(points, [(0, -12, 4, 15), (0, -12, -12, 14), (0, -18, -52, 8), (0, -22, -110, 6)])
    pons = ellipsoid(points, (0, -10, -24), (16, 12, 14))
    canvas.paint("white matter", smooth_union(stem, pons, 6))
    canvas.paint("csf", ellipsoid(points, (0, -34, -30), (8, 4, 9)))


def _paint_centre(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Paint corpus callosum, deep nuclei and ventricles."""
    points = canvas.points
    mirrored = _mirrored(points)
    wide = rng.uniform(0.75, 1.5)
    canvas.paint(
        "white matter", capsule_chain(points, [(0, 32, 6, 5), (0, 20, 20, 5), (0, -10, 25, 4), (0, -36, 15, 6)])
    )
    canvas.paint("deep grey matter", ellipsoid(mirrored, (10, -12, 6), (9, 15, 9)))
    canvas.paint("deep grey matter", ellipsoid(mirrored, (13, 18, 7), (6, 11, 10)))
    canvas.paint("deep grey matter", ellipsoid(mirrored, (26, 4, 3), (5, 16, 10)))
    canvas.paint("deep grey matter", ellipsoid(mirrored, (19, 1, 0), (4, 9, 6)))
    lateral = [
        (6.5, 34, 6, 3.2), (8, 20, 13, 3.6), (10, -4, 19, 3.4), (15, -26, 16, 4.6), (24, -40, 6, 5.6),
        (31, -26, -10, 2.6), (33, -8, -16, 2.2),
    ]  # fmt: skip
    occipital = [(24.0, -40.0, 6.0, 5.0), (22, -60, 5, 2.2)]
    for knots in (lateral, occipital):
        canvas.paint("csf", capsule_chain(mirrored, [(x, y, z, radius * wide) for x, y, z, radius in knots]))
    canvas.paint("csf", ellipsoid(points, (0, -3, -1), (1.6 + wide, 14, 11)))
    canvas.paint("deep grey matter", ellipsoid(points, (0, -40, 3), (3.5, 4.5, 3.5)))


def _paint_lesion(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Paint one lesion with an uneven edge into the white matter of one hemisphere."""
    side = rng.choice([-1, 1])
    centre = (float(side * rng.uniform(22, 38)), float(rng.uniform(-45, 40)), float(rng.uniform(20, 40)))
    size = rng.uniform(5.0, 13.0)
    uneven, _ = plane_waves(canvas.points, rng, count=6, wavelengths_mm=(12, 24))
    radii = (float(size), float(size * rng.uniform(0.8, 1.4)), float(size * rng.uniform(0.7, 1.1)))
    canvas.paint("lesion", ellipsoid(canvas.points, centre, radii) + np.float32(0.15 * size) * uneven)
