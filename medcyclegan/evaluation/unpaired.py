"""Distances between the distributions of two unpaired sets of volumes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan.errors import IntensityError, ReadError, UsageError
from medcyclegan.evaluation.alignment import looks_like_ct
from medcyclegan.evaluation.baselines import input_to_hu
from medcyclegan.intensity import CT_WINDOW_HU
from medcyclegan.metrics import frechet_distance, head_mask, histogram_distance, mmd, sliced_wasserstein
from medcyclegan.pictures import to_ras
from medcyclegan.volume import Volume

if TYPE_CHECKING:
    from medcyclegan.model import ModelBundle

__all__ = ["SetSamples", "compare_sets", "frechet_of_files", "sample_set", "sample_tissue_means"]

log = logging.getLogger(__name__)

#: The numbers of samples from each volume.
_VALUES, _PATCHES, _SLICES = 100_000, 2_000, 32
#: Edge of a patch in pixels, and the pixel sizes at which patches are taken.
_PATCH, _SCALES_MM = 7, (1.0, 2.0, 4.0)
#: A slice is reduced to 32 x 32 pixels of 8 mm.
_SLICE_MM, _SLICE_PIXELS = 8.0, 32
_PERCENTILES = (0.5, 99.5)
#: CT values are clipped to this range; its lower end stands for air around the head.
_AIR_HU, _HIGHEST_HU = CT_WINDOW_HU


@dataclasses.dataclass(frozen=True, eq=False)
class SetSamples:
    """Samples from a set of volumes; each list has one entry per volume.

    ``values``: intensities in the patient. ``patches``: for each pixel size, axial patches ``(N, 49)``.
    ``slices``: axial slices ``(N, 1024)`` of 32 x 32 pixels of 8 mm. ``unit``: HU, or the range 0 to 1.
    ``water``: if requested, the same from the same volumes with water (0 HU) in place of the patient.
    """

    values: list[NDArray[np.float32]]
    patches: list[list[NDArray[np.float32]]]
    slices: list[NDArray[np.float32]]
    unit: str
    water: SetSamples | None = None

    def part(self, which: slice) -> SetSamples:
        """Return the samples of some of the volumes."""
        return SetSamples(self.values[which], self.patches[which], self.slices[which], self.unit)


def sample_set(
    volumes: Iterable[Volume], *, modality: str | None = None, seed: int = 0, water: bool = False
) -> SetSamples:
    """Draw values, patches and slices from volumes, of which one is in memory at a time.

    CT (by header, ``modality``, or values in HU) is sampled in HU, clipped to [-1024, 3071]. In other volumes, the
    0.5th and 99.5th percentile in the head mask are first mapped to 0 and 1. ``water``: for CT, also sample water in
    the same masks. Raises :class:`~medcyclegan.errors.IntensityError` if CT and other volumes are mixed, and for
    volumes without contrast.
    """
    generators = np.random.default_rng(seed), np.random.default_rng(seed)
    drawn, of_water, units = [], [], set()
    for volume in volumes:
        volume = volume.replace(modality=modality or volume.modality or ("CT" if looks_like_ct(volume) else None))
        units.add("HU" if volume.modality == "CT" else "of the range 0 to 1")
        mask = head_mask(volume)
        drawn.append(_draw(volume.replace(array=_scaled(volume, mask)), mask, generators[0]))
        if water and volume.modality == "CT":
            array = np.where(mask, np.float32(0), np.float32(_AIR_HU))
            of_water.append(_draw(volume.replace(array=array), mask, generators[1]))
    if not drawn:
        raise UsageError("the set of volumes is empty: there is nothing to compare")
    if len(units) > 1:
        raise IntensityError(
            "the set contains CT and other volumes: compare one modality at a time, or pass --modality"
        )
    (unit,) = units
    return _collected(drawn, unit, _collected(of_water, unit) if of_water else None)


def compare_sets(
    fakes: SetSamples,
    references: SetSamples,
    inputs: SetSamples | None = None,
    tissue_means: SetSamples | None = None,
) -> dict[str, Any]:
    """Return the distances of two sets, and those of baselines to compare them with.

    ``histogram`` and ``sliced_wasserstein`` (the mean over patches of 7 x 7 pixels of 1, 2 and 4 mm) are in ``unit``;
    ``mmd`` is the squared distance of slices. ``baselines``: the same for methods without a network: ``input``, the
    untranslated inputs, if they have the unit of the references; ``tissue_means``, the inputs at their tissue means;
    ``water``, if the references were sampled with it. ``floor``: the distances between two halves of the reference
    set, which fakes need not fall below; None for a single reference.
    """
    if fakes.unit != references.unit:
        raise IntensityError(f"fakes in {fakes.unit} and references in {references.unit}: give the --modality of both")
    result: dict[str, Any] = {**_distances(fakes, references), "unit": fakes.unit}
    result["fakes"], result["references"] = len(fakes.values), len(references.values)
    # The distance of an MR in arbitrary units to a CT in HU would be large regardless of their content.
    same_unit = inputs if inputs is not None and inputs.unit == references.unit else None
    candidates = {"input": same_unit, "tissue_means": tissue_means, "water": references.water}
    result["baselines"] = {name: _distances(one, references) for name, one in candidates.items() if one is not None}
    halves = slice(None, None, 2), slice(1, None, 2)
    alone = len(references.values) < 2
    result["floor"] = None if alone else _distances(*(references.part(half) for half in halves))
    if alone:
        log.warning("only one reference volume: the distance between two halves of the references cannot be calculated")
    return result


def sample_tissue_means(volumes: Iterable[Volume], model: ModelBundle) -> SetSamples:
    """Draw samples from inputs of ``model``, mapped to their tissue means in HU in the head and to air outside.

    Raises :class:`~medcyclegan.errors.ModelError` for a model without tissue means.
    """

    def mapped() -> Iterator[Volume]:
        for volume in volumes:
            array = np.where(head_mask(volume), input_to_hu(volume, model)(volume.array), np.float32(_AIR_HU))
            yield volume.replace(array=array, modality="CT", value_range=None)

    return sample_set(mapped())


def frechet_of_files(fake: Path, reference: Path) -> float:
    """Return the Fréchet distance of two files of features, each a ``.npy`` file with an array ``(N, D)``.

    Raises :class:`~medcyclegan.errors.ReadError` for any other file.
    """
    return frechet_distance(*(_load_features(path) for path in (fake, reference)))


_Drawn = tuple[NDArray[np.float32], list[NDArray[np.float32]], NDArray[np.float32]]


def _draw(volume: Volume, mask: NDArray[np.bool_], generator: np.random.Generator) -> _Drawn:
    """Draw values, patches and slices from one volume."""
    values = generator.choice(volume.array[mask], min(_VALUES, int(mask.sum())), replace=False)
    upright, spacing = to_ras(volume)
    inside, _ = to_ras(volume.replace(array=mask))
    used = np.flatnonzero(inside.any(axis=(0, 1)))
    chosen = used[np.linspace(0, len(used) - 1, min(_SLICES, len(used))).round().astype(int)]
    planes = [(upright[:, :, k], inside[:, :, k]) for k in chosen]
    patches = [_patches(planes, spacing[:2] / mm, generator) for mm in _SCALES_MM]
    return values, patches, np.stack([_small(plane, where, spacing[:2]) for plane, where in planes])


def _collected(drawn: Sequence[_Drawn], unit: str, water: SetSamples | None = None) -> SetSamples:
    values, patches, slices = (list(each) for each in zip(*drawn, strict=True))
    return SetSamples(values, patches, slices, unit, water)


def _distances(first: SetSamples, second: SetSamples) -> Mapping[str, float]:
    scales = [
        sliced_wasserstein(*(np.concatenate([volume[scale] for volume in s.patches]) for s in (first, second)))
        for scale in range(len(_SCALES_MM))
    ]
    return {
        "histogram": histogram_distance(*(np.concatenate(s.values) for s in (first, second))),
        "sliced_wasserstein": float(np.mean(scales)),
        "mmd": mmd(*(np.concatenate(s.slices) for s in (first, second))),
    }


def _scaled(volume: Volume, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    if volume.modality == "CT":
        return np.clip(volume.array, _AIR_HU, _HIGHEST_HU).astype(np.float32)
    lower, upper = np.percentile(volume.array[mask], _PERCENTILES)
    if not lower < upper:
        raise IntensityError(f"all voxels in the head of a volume are {lower:g}: it has no contrast, leave it out")
    return np.clip((volume.array.astype(np.float32) - lower) / (upper - lower), 0, 1).astype(np.float32)


def _patches(
    planes: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]],
    zoom: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw patches of 7 x 7 pixels, centered in the patient, from planes resampled by ``zoom``."""
    half, found = _PATCH // 2, []
    for plane, where in planes:
        image, inside = _zoomed(plane, zoom), _zoomed(where.astype(np.float32), zoom) > 0.5
        if min(image.shape) < _PATCH:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(image, (_PATCH, _PATCH))
        rows, columns = np.nonzero(inside[half : half + windows.shape[0], half : half + windows.shape[1]])
        if rows.size:
            drawn = generator.integers(0, rows.size, max(1, _PATCHES // len(planes)))
            found.append(windows[rows[drawn], columns[drawn]].reshape(len(drawn), -1))
    if not found:
        raise IntensityError(
            "the slices of a volume are smaller than a patch of 28 mm: it is too small to compare, leave it out"
        )
    return np.concatenate(found)


def _small(plane: NDArray[np.float32], where: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a slice as a vector: 32 x 32 pixels of 8 mm around the patient's center, padded with the lowest value."""
    low = float(plane.min())
    image = _zoomed(np.where(where, plane, low), spacing / _SLICE_MM)
    inside = _zoomed(where.astype(np.float32), spacing / _SLICE_MM)
    vector = np.full((3 * _SLICE_PIXELS, 3 * _SLICE_PIXELS), low, dtype=np.float32)
    centre = np.array(ndimage.center_of_mass(inside)) if inside.any() else np.array(inside.shape) / 2
    start = np.clip(np.round(1.5 * _SLICE_PIXELS - centre).astype(int), 0, None)
    rows, columns = np.minimum(image.shape, 3 * _SLICE_PIXELS - start)
    vector[start[0] : start[0] + rows, start[1] : start[1] + columns] = image[:rows, :columns]
    return vector[_SLICE_PIXELS : 2 * _SLICE_PIXELS, _SLICE_PIXELS : 2 * _SLICE_PIXELS].ravel()


def _zoomed(plane: NDArray[np.float32], zoom: NDArray[np.float64]) -> NDArray[np.float32]:
    """Resample a plane linearly; if it shrinks, first average over the width of a new pixel."""
    width = [max(1, round(1 / factor)) for factor in zoom]
    smooth = ndimage.uniform_filter(plane, size=width) if max(width) > 1 else plane
    resampled: NDArray[np.float32] = ndimage.zoom(smooth, zoom, order=1, grid_mode=True, mode="nearest")
    return resampled


def _load_features(path: Path) -> NDArray[Any]:
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ReadError(f"{path}: not a .npy file of numbers ({error}): write it with numpy.save") from None
    if not isinstance(features, np.ndarray) or features.ndim != 2 or features.dtype.kind not in "fiu":
        raise ReadError(
            f"{path}: features must be one array (N, D) of numbers with one row per image: save it with numpy.save"
        )
    return features
