"""Distances of sets, compared with values computed by hand, with theory and with MONAI."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from monai.metrics.fid import FIDMetric

from medcyclegan.errors import IntensityError, UsageError
from medcyclegan.metrics import frechet_distance, histogram_distance, mmd, sliced_wasserstein


def gaussians(shift=0.0, spread=1.0, count=4000, seed=0, dimensions=8):
    return np.random.default_rng(seed).normal(shift, spread, (count, dimensions))


def test_the_earth_movers_distance_of_shifted_values_is_the_shift():
    values = np.random.default_rng(0).gamma(2, 3, 5000)
    assert histogram_distance(values, values) == 0
    assert histogram_distance(values + 4, values) == pytest.approx(4)
    assert histogram_distance(2 * values, values) == pytest.approx(values.mean(), rel=0.01)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection():
    first = gaussians()
    second = first + np.array([3.0, *[0.0] * 7])
    directions = np.random.default_rng(1).normal(size=(8, 200_000))
    expected = 3 * np.abs(directions[0] / np.linalg.norm(directions, axis=0)).mean()
    assert sliced_wasserstein(first, first) == 0
    assert sliced_wasserstein(second, first, projections=4000) == pytest.approx(expected, rel=0.05)
    assert sliced_wasserstein(second, first) == sliced_wasserstein(second, first)


def test_mmd_distinguishes_a_shift_and_a_spread_from_chance():
    first, same = gaussians(count=600), gaussians(count=600, seed=1)
    assert abs(mmd(first, same)) < 0.003
    assert mmd(gaussians(0.5, count=600, seed=2), first) > 0.02
    assert mmd(gaussians(0, 2, count=600, seed=2), first) > 0.02
    assert mmd(gaussians(0.5, count=600, seed=2), first[:300]) > 0.02


def test_mmd_is_the_gaussian_kernels_own():
    """The random features approximate exp(-d^2 / 2 w^2), where w is the median distance."""
    first, second = gaussians(count=80), gaussians(1.0, count=80, seed=1)
    both = np.concatenate([first, second])
    distances = np.linalg.norm(both[:, None] - both[None], axis=2)
    width = np.median(distances[np.triu_indices(160, 1)])
    kernel = np.exp(-((distances / width) ** 2) / 2)
    same = [(k.sum() - np.trace(k)) / (80 * 79) for k in (kernel[:80, :80], kernel[80:, 80:])]
    assert mmd(first, second) == pytest.approx(sum(same) - 2 * kernel[:80, 80:].mean(), abs=0.01)


def test_the_frechet_distance_of_gaussians_and_monais():
    first, second = gaussians(), gaussians(1.0, 3.0, seed=1)
    expected = 8 * 1.0**2 + 8 * (3.0 - 1.0) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected, rel=0.05)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MONAI asks scipy for sqrtm(disp=False)
        theirs = FIDMetric()(torch.from_numpy(first), torch.from_numpy(second)).item()
    assert frechet_distance(first, second) == pytest.approx(theirs, rel=1e-6)


def test_fewer_samples_than_features_still_give_a_number():
    assert frechet_distance(gaussians(count=5), gaussians(1.0, count=5, seed=1)) > 0


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="rows of one shape"):
        frechet_distance(gaussians(), gaussians(dimensions=3))
    with pytest.raises(UsageError, match="empty set"):
        histogram_distance(np.zeros(0), np.ones(3))
    with pytest.raises(UsageError, match="at least 2 samples"):
        mmd(gaussians(count=1), gaussians(count=1))
    with pytest.raises(UsageError, match="covariance"):
        frechet_distance(gaussians(count=1), gaussians())
    with pytest.raises(IntensityError, match="not finite"):
        sliced_wasserstein(gaussians() * np.nan, gaussians())
    with pytest.raises(IntensityError, match="all samples are equal"):
        mmd(np.ones((5, 2)), np.ones((5, 2)))
