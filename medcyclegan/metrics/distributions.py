"""Distances between two sets of samples that are not paired.

A sample is a row: a patch, a slice or any feature vector, in float32 or float64. The distance between two finite
samples of one distribution is not 0, so a distance means something only in comparison: with the distance between
two halves of the reference set, and with that of the untranslated inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import IntensityError, UsageError

__all__ = ["frechet_distance", "histogram_distance", "mmd", "sliced_wasserstein"]

Samples = NDArray[Any]

_QUANTILES = 2048
_FOURIER_FEATURES = 4096


def histogram_distance(first: Samples, second: Samples) -> float:
    """Return the earth mover's distance of two sets of values, in their unit (1-Wasserstein).

    This is the mean distance by which the values of one set must be moved to match the other, from 2,048 quantiles.
    """
    _check(first, second)
    return float(np.abs(_quantiles(first) - _quantiles(second)).mean())


def sliced_wasserstein(first: Samples, second: Samples, *, projections: int = 256, seed: int = 0) -> float:
    """Return the sliced 1-Wasserstein distance of two sets ``(N, D)`` and ``(M, D)``, in the samples' unit.

    This is the mean earth mover's distance over random directions of unit length (Bonneel et al., J. Math. Imaging Vis.
    51:22, 2015; for patches of images: Karras et al., ICLR 2018, appendix of "Progressive growing of GANs").
    """
    _check(first, second)
    directions = np.random.default_rng(seed).normal(size=(first.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    one, other = (_quantiles(samples @ directions) for samples in (first, second))
    return float(np.abs(one - other).mean())


def mmd(first: Samples, second: Samples, *, seed: int = 0) -> float:
    """Return MONAI's unbiased squared maximum mean discrepancy of two sets ``(N, D)``, with a Gaussian kernel.

    MONAI's kernel is linear and depends only on the means, so the samples are first mapped to 4,096 random Fourier
    features of the Gaussian kernel (Rahimi and Recht, NIPS 2007), whose width is the median distance of all samples.
    The result is near 0, or slightly negative, for equal distributions, and at most 2. MONAI requires sets of equal
    size, so the larger one is thinned evenly. Source: Gretton et al., J. Mach. Learn. Res. 13:723, 2012.
    """
    import torch
    from monai.metrics.mmd import MMDMetric

    _check(first, second)
    count = min(len(first), len(second))
    if count < 2:
        raise UsageError(f"{count} sample: the maximum mean discrepancy needs at least 2 samples in each set")
    sets = [samples[np.linspace(0, len(samples) - 1, count).round().astype(int)] for samples in (first, second)]
    both = torch.from_numpy(np.concatenate(sets).astype(np.float64))
    width = float(torch.pdist(both[:: max(1, len(both) // 1000)]).median())
    if width == 0:
        raise IntensityError("all samples are equal: there are no distributions to compare")
    generator = np.random.default_rng(seed)
    weights = torch.from_numpy(generator.normal(size=(both.shape[1], _FOURIER_FEATURES)) / width)
    phases = torch.from_numpy(generator.uniform(0, 2 * np.pi, _FOURIER_FEATURES))

    def to_features(samples: torch.Tensor) -> torch.Tensor:
        return torch.cos(samples @ weights + phases) * np.sqrt(2 / _FOURIER_FEATURES)

    return float(MMDMetric(y_mapping=to_features)(both[:count], both[count:]))


def frechet_distance(first: Samples, second: Samples) -> float:
    """Return the Fréchet distance of two sets of features ``(N, D)``, assuming Gaussian distributions ("FID").

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Heusel et al., NIPS 2017), for features of any network. The
    trace of the matrix square root is the sum of the roots of the eigenvalues of C1 C2, which are real and not
    negative. MONAI's ``FIDMetric`` computes the root itself with a scipy argument that is deprecated.
    """
    _check(first, second)
    if min(len(first), len(second)) < 2:
        raise UsageError(
            "a single feature vector: the Fréchet distance needs a covariance, so at least 2 vectors in each set"
        )
    means = [samples.mean(axis=0, dtype=np.float64) for samples in (first, second)]
    spreads = [np.atleast_2d(np.cov(samples.astype(np.float64), rowvar=False)) for samples in (first, second)]
    roots = np.sqrt(np.maximum(np.linalg.eigvals(spreads[0] @ spreads[1]).real, 0))
    return float(
        np.square(means[0] - means[1]).sum() + np.trace(spreads[0]) + np.trace(spreads[1]) - 2 * float(roots.sum())
    )


def _quantiles(values: Samples) -> Samples:
    """Return 2,048 evenly spaced quantiles along the first axis; ``numpy.quantile`` would take minutes."""
    places = (np.arange(_QUANTILES) + 0.5) / _QUANTILES * len(values)
    ordered: Samples = np.sort(values, axis=0)[places.astype(int)]
    return ordered


def _check(first: Samples, second: Samples) -> None:
    if first.shape[1:] != second.shape[1:]:
        raise UsageError(
            f"samples of {first.shape[1:]} and of {second.shape[1:]} values: both sets must have rows of one shape"
        )
    for samples in (first, second):
        if len(samples) == 0:
            raise UsageError("an empty set: there is nothing to compare")
        if not np.isfinite(samples).all():
            raise IntensityError("samples that are not finite: leave them out, or repair the volumes with --nan fill")
