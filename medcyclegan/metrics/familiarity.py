"""How unusual a case is among known ones: a distance of its description, and a conformal p-value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Familiarity"]

#: Differences beyond this many standard deviations count as this many.
_CLIPPED = 30.0
#: The smallest standard deviation of a number of a description.
_LEAST_DEVIATION = 0.01
#: The smallest eigenvalue of the covariance of standardized numbers.
_LEAST_EIGENVALUE = 0.05
#: The distance of a group is divided by this quantile of the known cases' distances.
_USUAL = 0.9
#: The smallest such distance, relative to the root of the group's size: a group may be nearly constant.
_LEAST_USUAL = 0.5
#: The largest relative distance of a group.
_MOST_OF_A_GROUP = 3.0

#: Groups of numbers that describe one case.
Description = Sequence[NDArray[np.float32]]


@dataclasses.dataclass(frozen=True, eq=False)
class Familiarity:
    """The distribution of the descriptions of K known cases: groups of numbers, D in all.

    ``sizes``: of the groups. ``mean``, ``deviation``: ``(D,)``. ``whitening``: ``(D, D)``, a block for each group, from
    the shrunk covariance of its standardized numbers. ``scales``: the usual distance of each group. ``distances``:
    ``(K,)``, ascending: of each known case from the distribution of all others.
    """

    sizes: NDArray[np.int64]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    whitening: NDArray[np.float32]
    scales: NDArray[np.float32]
    distances: NDArray[np.float32]

    @classmethod
    def fit(cls, descriptions: Sequence[Description]) -> Familiarity:
        """Return the distribution of ``descriptions``, of at least 3 cases."""
        groups = [np.stack(group).astype(np.float64) for group in zip(*descriptions, strict=True)]
        sizes = np.array([group.shape[1] for group in groups])
        each = np.array([[_without(group, n) for group in groups] for n in range(len(descriptions))])
        scales = np.maximum(np.quantile(each, _USUAL, axis=0), _LEAST_USUAL * np.sqrt(sizes))
        parts = [_distribution(group) for group in groups]
        whitening = np.zeros((sizes.sum(), sizes.sum()), np.float32)
        for end, size, (_, _, block) in zip(np.cumsum(sizes), sizes, parts, strict=True):
            whitening[end - size : end, end - size : end] = block
        return cls(
            sizes,
            np.concatenate([mean for mean, _, _ in parts]).astype(np.float32),
            np.concatenate([deviation for _, deviation, _ in parts]).astype(np.float32),
            whitening,
            scales.astype(np.float32),
            np.sort([_combined(row) for row in each / scales]).astype(np.float32),
        )

    def distance(self, description: Description) -> float:
        """Return the root mean square of the groups' Mahalanobis distances, each relative to its usual distance.

        Each counts as at most 3, because one number can be far from usual in a good case.
        """
        standard = _standardized(np.concatenate(description), self.mean, self.deviation) @ self.whitening
        parts = np.split(standard, np.cumsum(self.sizes)[:-1])
        norms = np.array([np.linalg.norm(part) for part in parts])
        return _combined(norms / self.scales)

    def p_value(self, description: Description) -> float:
        """Return the share of known cases that are at least as unusual, the new one included.

        It is at most p with a probability of about p, if the case is exchangeable with the known ones.
        """
        beyond = int(np.count_nonzero(self.distances >= self.distance(description)))
        return (1 + beyond) / (1 + len(self.distances))


def _combined(distances: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.minimum(distances, _MOST_OF_A_GROUP) ** 2)))


def _without(group: NDArray[np.float64], number: int) -> float:
    """Return the distance of a case from the distribution of the others."""
    mean, deviation, whitening = _distribution(np.delete(group, number, axis=0))
    return float(np.linalg.norm(_standardized(group[number], mean, deviation) @ whitening))


def _standardized(values: NDArray[Any], mean: NDArray[Any], deviation: NDArray[Any]) -> NDArray[Any]:
    clipped: NDArray[Any] = np.clip((values - mean) / deviation, -_CLIPPED, _CLIPPED)
    return clipped


def _distribution(group: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, deviation and whitening matrix of the numbers ``(K, D)`` of one group."""
    mean, deviation = group.mean(axis=0), np.maximum(group.std(axis=0), _LEAST_DEVIATION)
    standard = (group - mean) / deviation
    count, size = standard.shape
    covariance = standard.T @ standard / count
    # Ledoit and Wolf 2004, J Multivar Anal 88:365: shrink to the identity as far as the noise of the estimate demands.
    target = np.trace(covariance) / size * np.eye(size)
    spread = ((covariance - target) ** 2).sum()
    noise = sum(((np.outer(row, row) - covariance) ** 2).sum() for row in standard) / count**2
    share = min(1.0, noise / spread) if spread > 1e-12 else 1.0
    values, vectors = np.linalg.eigh(share * target + (1 - share) * covariance)
    return mean, deviation, vectors / np.sqrt(np.maximum(values, _LEAST_EIGENVALUE))
