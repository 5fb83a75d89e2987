"""Random numbers for one purpose, reproducible from a seed and the name of the purpose."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

import torch

__all__ = ["Draws"]

T = TypeVar("T")

#: Normal draws are limited to this number of standard deviations, so that no patient is extreme.
_MOST_DEVIATIONS = 2.5


class Draws:
    """A stream of random numbers that depends on ``seed`` and ``names`` alone.

    Each stream has a separate ``torch.Generator`` on the CPU. The numbers are therefore the same with every device, and
    a stream does not depend on what other streams have drawn.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        text = "/".join(str(part) for part in (seed, *names))
        # The CPU's generator uses 32 bits of a seed.
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
        self._generator = torch.Generator().manual_seed(number)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between ``low`` and ``high``."""
        return low + (high - low) * float(torch.rand((), generator=self._generator, dtype=torch.float64))

    def log_uniform(self, low: float, high: float) -> float:
        """Return a positive number whose logarithm is uniform between those of ``low`` and ``high``."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def normal(self, mean: float, deviation: float) -> float:
        """Return a normally distributed number, at most 2.5 standard deviations from ``mean``."""
        value = float(torch.randn((), generator=self._generator, dtype=torch.float64))
        return mean + deviation * max(-_MOST_DEVIATIONS, min(_MOST_DEVIATIONS, value))

    def factor(self, deviation: float) -> float:
        """Return a factor around 1 whose logarithm is normally distributed with this standard deviation."""
        return math.exp(self.normal(0.0, deviation))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.uniform(0.0, 1.0) < probability

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return int(torch.randint(low, high + 1, (), generator=self._generator))

    def permutation(self, count: int) -> list[int]:
        """Return the numbers from 0 to ``count`` - 1 in a random order."""
        return torch.randperm(count, generator=self._generator).tolist()

    def choice(self, options: Sequence[tuple[float, T]]) -> T:
        """Return one of ``options``, which are pairs of weight and value."""
        left = self.uniform(0.0, sum(weight for weight, _ in options))
        for weight, option in options:
            left -= weight
            if left < 0:
                return option
        return options[-1][1]

    def noise(self, shape: Sequence[int]) -> torch.Tensor:
        """Return standard normal numbers of ``shape``, float32, on the CPU."""
        return torch.randn(tuple(shape), generator=self._generator)
