"""Random numbers that are a pure function of a seed, a stream and a counter.

There is no state to save or restore: the numbers of sample 12,345 can be drawn again at any time, in any
process (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

import enum

import numpy as np

__all__ = ["Stream", "random_at"]


class Stream(enum.IntEnum):
    """Purpose of the random numbers; the streams of one seed are independent of each other."""

    SAMPLE = 0
    PASS_A = 1
    PASS_B = 2
    POOL_A = 3
    POOL_B = 4
    WARP = 5


def random_at(seed: int, stream: Stream, counter: int) -> np.random.Generator:
    """Return the generator of ``(seed, stream, counter)``; each has 2**64 separate blocks of numbers."""
    return np.random.Generator(np.random.Philox(key=[seed, int(stream)], counter=[0, counter, 0, 0]))
