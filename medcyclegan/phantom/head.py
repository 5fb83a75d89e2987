"""Synthetic heads: one anatomy per seed, and its T1, T2 and CT images."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan.errors import UsageError
from medcyclegan.phantom.anatomy import paint_head
from medcyclegan.phantom.shapes import Field, Points, plane_waves
from medcyclegan.phantom.tissues import TISSUES, spin_echo, tissue_index
from medcyclegan.volume import Volume

__all__ = ["Head", "ct_volume", "make_head", "t1_volume", "t2_volume"]

#: Independent random streams of one seed, so that an image does not depend on which other images are generated.
_ANATOMY, _DEFORMATION, _T1, _T2, _CT = range(5)
_BLOCK = 1 << 18


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """A synthetic head.

    ``fractions``
        The fraction of each voxel that each tissue fills, float32 ``(T, I, J, K)``, summing to 1, in the
        order of :data:`~medcyclegan.phantom.tissues.TISSUES`.
    ``affine``
        4 x 4, voxel indices to RAS+ mm.
    ``seed``
        Seed of the anatomy: the same seed and grid give the same head.
    ``lesion``
        Whether the head has a lesion.
    """

    fractions: NDArray[np.float32]
    affine: NDArray[np.float64]
    seed: int
    lesion: bool

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The tissue that fills most of each voxel, ``(I, J, K)``: indices into ``TISSUES``."""
        return self.fractions.argmax(axis=0).astype(np.uint8)


def make_head(
    seed: int,
    *,
    shape: tuple[int, int, int] = (96, 120, 40),
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 4.0),
    orientation: Literal["RAS", "LPS"] = "RAS",
    lesion: bool | None = None,
) -> Head:
    """Return the synthetic head of ``seed`` on an axial grid of ``shape`` voxels ``spacing_mm`` apart.

    Each seed has its own size, tilt, smooth deformation, asymmetry, sulci, thicknesses and ventricles;
    about one in three has a lesion (all or none if ``lesion`` is given). The same seed on another grid is the
    same head. ``orientation``: the directions of the first two axes, right and anterior or left and posterior.
    Raises :class:`~medcyclegan.errors.UsageError` for a negative seed.
    """
    if seed < 0:
        raise UsageError(f"seed {seed}: the seed of a synthetic head must be a whole number of at least 0")
    affine = _centred_affine(shape, spacing_mm, orientation)
    wanted = bool(np.random.default_rng([seed, _ANATOMY]).random() < 0.35) if lesion is None else lesion
    edge_mm = float(np.prod(spacing_mm) ** (1 / 3))
    fractions = np.empty((len(TISSUES), *shape), dtype=np.float32)
    points = _to_canonical(_world(shape, affine), np.random.default_rng([seed, _DEFORMATION]))
    flat = fractions.reshape(len(TISSUES), -1)
    for start in range(0, flat.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        part = (points[0][block], points[1][block], points[2][block])
        flat[:, block] = paint_head(part, np.random.default_rng([seed, _ANATOMY]), edge_mm=edge_mm, lesion=wanted)
    return Head(fractions, affine, seed, wanted)


def t1_volume(head: Head, *, tr_ms: float = 450.0, te_ms: float = 10.0, fat_signal: float = 1.0) -> Volume:
    """Return the T1-weighted spin-echo image of ``head``: modality MR, float32, arbitrary units.

    ``fat_signal``: the fraction of the fat signal that remains after fat suppression; 1 for no suppression.
    """
    return _mr_volume(head, _T1, tr_ms=tr_ms, te_ms=te_ms, fat_signal=fat_signal)


def t2_volume(head: Head, *, tr_ms: float = 4500.0, te_ms: float = 95.0, fat_signal: float = 1.0) -> Volume:
    """Return the T2-weighted spin-echo image of ``head``: modality MR, float32, arbitrary units.

    ``fat_signal``: the fraction of the fat signal that remains after fat suppression; 1 for no suppression.
    """
    return _mr_volume(head, _T2, tr_ms=tr_ms, te_ms=te_ms, fat_signal=fat_signal)


def ct_volume(head: Head, *, noise_hu: float = 8.0) -> Volume:
    """Return the CT image of ``head`` with Gaussian noise: modality CT, int16, HU."""
    rng = np.random.default_rng([head.seed, _CT])
    values = np.array([tissue.hu for tissue in TISSUES], dtype=np.float32)
    image = _blurred(np.tensordot(values, head.fractions, axes=1))
    image += rng.normal(0.0, noise_hu, size=image.shape).astype(np.float32)
    return Volume(np.rint(np.maximum(image, -1024)).astype(np.int16), head.affine, modality="CT")


def _mr_volume(head: Head, stream: int, *, tr_ms: float, te_ms: float, fat_signal: float) -> Volume:
    """Return a spin-echo image: tissue signals, receiver bias, gain and Rician noise.

    Relaxation times and density vary by about 2 % between subjects and the gain by +-20 %; the noise is
    1.2 % of the water signal (Gudbjartsson and Patz, Magn. Reson. Med. 34:910, 1995).
    """
    rng = np.random.default_rng([head.seed, stream])
    table = np.array([(tissue.density, tissue.t1_ms, tissue.t2_ms) for tissue in TISSUES])
    table = table * rng.normal(1.0, 0.02, size=table.shape).clip(0.94, 1.06)
    signal = spin_echo(table[:, 0], table[:, 1], table[:, 2], tr_ms=tr_ms, te_ms=te_ms).astype(np.float32)
    signal[tissue_index("fat")] *= np.float32(fat_signal)
    gain = np.float32(2000 * rng.uniform(0.8, 1.2))
    image = _blurred(np.tensordot(signal, head.fractions, axes=1))
    image *= gain * _bias_field(head, rng)
    sigma = np.float32(0.006) * gain
    real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return Volume(np.hypot(real, imaginary), head.affine, modality="MR")


def _blurred(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``image`` blurred by the in-plane point spread of a scanner, about 0.9 voxels wide."""
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(image, sigma=(0.4, 0.4, 0.0), mode="nearest", truncate=3.0)
    return blurred


def _bias_field(head: Head, rng: np.random.Generator) -> Field:
    """Return a receiver sensitivity ``(I, J, K)``: smooth, around 1, varying by about 10 % over a head."""
    shape = head.fractions.shape[1:]
    coarse = (shape[0] // 8 + 2, shape[1] // 8 + 2, shape[2] // 4 + 2)
    affine = head.affine @ np.diag([shape[n] / coarse[n] for n in range(3)] + [1.0])
    field, _ = plane_waves(_world(coarse, affine), rng, count=5, wavelengths_mm=(250, 500))
    zoom = tuple(fine / few for fine, few in zip(shape, coarse, strict=True))
    smooth = ndimage.zoom(field.reshape(coarse), zoom, order=1, mode="nearest", grid_mode=True)
    return np.exp(np.float32(0.08) * smooth)


def _centred_affine(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], orientation: str
) -> NDArray[np.float64]:
    """Return the affine of an axial grid centered at (0, 0, 16) mm, the center of an average head."""
    sign = np.array([1.0, 1.0, 1.0] if orientation == "RAS" else [-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = np.diag(sign * spacing_mm)
    affine[:3, 3] = np.array([0.0, 0.0, 16.0]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _world(shape: tuple[int, ...], affine: NDArray[np.float64]) -> Points:
    """Return the RAS+ coordinates in mm of every voxel of an axial grid, as three flat arrays."""
    axes = [affine[n, n] * np.arange(shape[n]) + affine[n, 3] for n in range(3)]
    x, y, z = (axis.astype(np.float32).ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    return x, y, z


def _to_canonical(points: Points, rng: np.random.Generator) -> Points:
    """Map points of a subject to the canonical head: size, tilt, then a smooth deformation."""
    angles = np.radians(rng.normal(0.0, 3.0, size=3).clip(-7, 7))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [n for n in range(3) if n != axis]
        plane = np.eye(3)
        plane[[first, second], [first, second]] = np.cos(angle)
        plane[first, second], plane[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ plane
    matrix = (turn / rng.normal(1.0, 0.035, size=3).clip(0.92, 1.07)).astype(np.float32)
    shift = rng.uniform(-4, 4, size=3)
    moved = [sum(matrix[row, n] * points[n] for n in range(3)) + np.float32(shift[row]) for row in range(3)]
    for wavelengths_mm, amplitude_mm in (((130.0, 220.0), 3.0), ((50.0, 90.0), 0.9)):
        waves = [plane_waves(points, rng, count=4, wavelengths_mm=wavelengths_mm)[0] for _ in range(3)]
        moved = [coordinate + np.float32(amplitude_mm) * wave for coordinate, wave in zip(moved, waves, strict=True)]
    return moved[0], moved[1], moved[2]
