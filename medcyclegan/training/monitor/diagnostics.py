"""Signs of failing training, measured on the generators' outputs for a few slices.

Pure functions of arrays, all in the scaled range [-1, 1] and in pixels; :mod:`medcyclegan.training.monitor.health`
has the thresholds for warnings.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import Delaunay, QhullError

from medcyclegan.intensity import foreground_threshold
from medcyclegan.slicing.measures import noise_of

__all__ = ["Reference", "build_reference", "contrast_of_inputs", "displacement", "edge_agreement", "signs_of"]

Slices = NDArray[np.float32]
Masks = NDArray[np.bool_]

#: Distance in pixels from the head's border to "inside" and to "outside".
_BORDER = 3
#: Blur in pixels before contrasts are compared, since the anatomy of two patients agrees no better than that.
_BLUR = 2.0
#: The scale of edges in pixels, and the scale of spatial frequencies, in cycles per pixel, for measuring shifts.
_EDGE_SCALE, _FREQUENCIES = 1.0, 0.1
#: Texture of real slices that is weaker than this counts as this much.
_LEAST_TEXTURE = 0.02
#: The fewest pixels for which a correlation is calculated.
_FEWEST = 50


@dataclasses.dataclass(frozen=True)
class Reference:
    """The slices with which the fakes of one direction are compared; they stay the same throughout a run.

    ``real`` ``(N, H, W)``: the inputs. ``head``: where they show the patient; ``inside``: without its border;
    ``around``: with a margin of some pixels.
    ``hull``: the convex hull of the head in each slice, with the same margin: in a scan with a strong bias field, only
    parts of the scalp are brighter than air.
    ``target`` ``(N, H, W)``: the mean real slice of the target domain at the same relative heights. ``target_level``:
    the value above which the target domain shows the patient rather than air. ``target_contrast``: the correlation of a
    single real slice of the target with the mean of the others (see ``contrast`` in :func:`signs_of`). ``difference``:
    how much more the blurred inputs differ from the target's mean slices than real slices of the target do, a mean
    absolute difference inside the head; near 0 for domains of the same contrast. ``target_texture``: the
    noise and fine texture of real slices of the target (see ``texture`` in :func:`signs_of`).
    """

    real: Slices
    head: Masks
    inside: Masks
    around: Masks
    hull: Masks
    target: Slices
    target_level: float
    target_contrast: float
    difference: float
    target_texture: float


def build_reference(real: Slices, targets: Slices) -> Reference:
    """Return the reference of inputs ``(N, H, W)`` and, for each, M real target slices ``(N, M, H, W)``."""
    level = foreground_threshold(real, None)
    head = np.stack([ndimage.binary_fill_holes(image > level) for image in real])
    grown = ndimage.generate_binary_structure(3, 1)
    grown[[0, 2]] = False
    inside = ndimage.binary_erosion(head, grown, iterations=_BORDER)
    around = ndimage.binary_dilation(head, grown, iterations=_BORDER)
    hull = ndimage.binary_dilation(np.stack([_convex_hull(mask) for mask in head]), grown, iterations=_BORDER)
    target_level = foreground_threshold(targets.reshape(-1, *targets.shape[2:]), None)
    mean = targets.mean(axis=1)
    own_contrast, own_distance = _own(targets, inside)
    distance = np.abs(_blurred(real) - mean)[inside].mean() if inside.any() else own_distance
    return Reference(
        real=real,
        head=head,
        inside=inside,
        around=around,
        hull=hull,
        target=mean,
        target_level=target_level,
        target_contrast=own_contrast,
        difference=float(distance - own_distance),
        target_texture=max(float(np.median([noise_of(one) for one in targets.swapaxes(0, 1)])), _LEAST_TEXTURE),
    )


def _convex_hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the convex hull of ``mask`` ``(H, W)``; the mask itself if it is a line or a point, or empty."""
    rim = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    try:
        triangles = Delaunay(rim)
    except (QhullError, ValueError):
        return mask
    places = np.indices(mask.shape).reshape(2, -1).T
    hull: NDArray[np.bool_] = triangles.find_simplex(places).reshape(mask.shape) >= 0
    return hull


def signs_of(reference: Reference, fake: Slices, rec: Slices, rec_8bit: Slices) -> dict[str, float]:
    """Return the signs in ``fake`` ``(N, H, W)``, its reconstruction ``rec``, and that from the fake in 8 bits.

    ``change``: mean |fake - real| inside the head. ``contrast``: the correlation, inside the head, of the blurred
    fakes with the mean real slices of their heights (the correlation with the input is no sign: from T1 to T2
    it is rightly negative). ``edges``: :func:`edge_agreement`. ``shift``: the length of :func:`displacement`, in
    pixels. ``outside``: the area of signal outside the convex hull of the input's head, as a fraction of the hull's.
    ``cycle`` and ``cycle_8bit``: mean absolute cycle errors; a signal hidden below the eighth bit raises the second.
    ``unrestored``: the mean absolute cycle error relative to that of the best constant image, the median: from 1 on,
    networks do not even distinguish the patient from air. ``texture``: the noise and fine texture of the fakes relative
    to that of real slices of the target.
    """
    real, around = reference.real, reference.around
    outside = int(np.count_nonzero((fake > reference.target_level) & ~reference.hull))
    return {
        "change": float(np.abs(fake - real)[reference.head].mean()) if reference.head.any() else 0.0,
        "contrast": _correlation(_blurred(fake), reference.target, reference.inside),
        "edges": edge_agreement(real, fake, around),
        "shift": float(np.hypot(*displacement(real, fake))),
        "outside": outside / max(int(np.count_nonzero(reference.hull)), 1),
        "cycle": float(np.abs(rec - real).mean()),
        "cycle_8bit": float(np.abs(rec_8bit - real).mean()),
        "unrestored": _unrestored(real, rec),
        "texture": noise_of(fake) / reference.target_texture,
    }


def contrast_of_inputs(reference: Reference) -> float:
    """Return ``contrast`` of :func:`signs_of` for untranslated inputs."""
    return _correlation(_blurred(reference.real), reference.target, reference.inside)


def _unrestored(real: Slices, rec: Slices) -> float:
    """Return the mean error of ``rec`` relative to that of the median of ``real``; 0 if ``real`` is constant."""
    variation = float(np.abs(real - np.median(real)).mean())
    return float(np.abs(rec - real).mean()) / variation if variation > 0 else 0.0


def edge_agreement(real: Slices, fake: Slices, where: Masks) -> float:
    """Return the correlation of edge strengths (lengths of blurred gradients) of ``(N, H, W)``, -1 to 1.

    The sign of an edge does not count: a dark structure may become a bright one.
    """
    return _correlation(_edges(real), _edges(fake), where)


def displacement(real: Slices, fake: Slices) -> tuple[float, float]:
    """Return the shift of ``fake`` relative to ``real`` in pixels: (rows, columns).

    Phase correlation (Kuglin and Hines, Proc. IEEE Conf. Cybernetics and Society 1975) of edge maps, summed over
    the slices, since the shift of interest is the same in all: a convolutional generator can learn a constant shift
    that the cycle undoes. Even and odd slices are also measured separately: if the two halves disagree, the shift is
    not constant and (0, 0) is returned.
    """
    spectra = [_cross_spectrum(a, b) for a, b in zip(_edges(real), _edges(fake), strict=True)]
    whole = _peak(sum(spectra))
    if len(spectra) < 2:
        return whole
    halves = np.array([_peak(sum(spectra[start::2])) for start in (0, 1)])
    apart = float(np.abs(halves[0] - halves[1]).max())
    return whole if apart <= max(0.5, 0.5 * float(np.hypot(*whole))) else (0.0, 0.0)


def _own(targets: Slices, inside: Masks) -> tuple[float, float]:
    """Return the mean correlation and distance of single slices of ``(N, M, H, W)`` and the mean of the others."""
    count = targets.shape[1]
    if count < 2 or not inside.any():
        return 0.0, 0.0
    others = (targets.sum(axis=1, keepdims=True) - targets) / (count - 1)
    singles = [_blurred(targets[:, m]) for m in range(count)]
    contrasts = [_correlation(single, others[:, m], inside) for m, single in enumerate(singles)]
    distances = [np.abs(single - others[:, m])[inside].mean() for m, single in enumerate(singles)]
    return float(np.mean(contrasts)), float(np.mean(distances))


def _edges(images: Slices) -> Slices:
    by_rows = ndimage.gaussian_filter(images, (0, _EDGE_SCALE, _EDGE_SCALE), order=(0, 1, 0))
    by_columns = ndimage.gaussian_filter(images, (0, _EDGE_SCALE, _EDGE_SCALE), order=(0, 0, 1))
    edges: Slices = np.hypot(by_rows, by_columns)
    return edges


def _cross_spectrum(first: Slices, second: Slices) -> NDArray[np.complex128]:
    """Return the whitened cross spectrum of two edge maps ``(H, W)``; its phase is the shift."""
    window = np.outer(np.hanning(first.shape[0]), np.hanning(first.shape[1]))
    a, b = (np.fft.fft2((edges - edges.mean()) * window) for edges in (first, second))
    product = b * np.conj(a)
    strength = np.abs(product)
    whitened: NDArray[np.complex128] = product / np.maximum(strength, max(1e-9 * float(strength.max()), 1e-30))
    return whitened


def _peak(spectrum: Any) -> tuple[float, float]:
    """Return the position of the peak of a cross spectrum's inverse transform, interpolated by a parabola."""
    rows, columns = (np.fft.fftfreq(n) for n in spectrum.shape)
    smooth = np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * _FREQUENCIES**2))
    surface = np.fft.ifft2(spectrum * smooth).real
    top = np.unravel_index(int(np.argmax(surface)), surface.shape)
    found = []
    for axis, place in enumerate(top):
        n = surface.shape[axis]
        line = np.moveaxis(surface, axis, 0)[:, top[1 - axis]]
        before, middle, after = line[(place - 1) % n], line[place], line[(place + 1) % n]
        bend = before - 2 * middle + after
        exact = float(place) + (0.5 * float(before - after) / float(bend) if bend < 0 else 0.0)
        found.append(exact if exact <= n / 2 else exact - n)
    return found[0], found[1]


def _blurred(images: Slices) -> Slices:
    blurred: Slices = ndimage.gaussian_filter(images, (0, _BLUR, _BLUR))
    return blurred


def _correlation(first: Slices, second: Slices, where: Masks) -> float:
    """Return Pearson's correlation inside the mask; 0 if it has too few pixels or an image is constant there."""
    if np.count_nonzero(where) < _FEWEST:
        return 0.0
    a, b = (images[where].astype(np.float64) for images in (first, second))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return 0.0 if norm < 1e-12 else float(a @ b) / norm
