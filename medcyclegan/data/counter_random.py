"""Random numbers that are a pure function of a seed, a stream and a counter.

No state to save, nothing to restore: what was drawn for sample 12,345 can be drawn again at any
time, in any process (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

import enum

import numpy as np

__all__ = ["Stream", "random_at"]


class Stream(enum.IntEnum):
    """What the numbers are for: streams of one seed are independent of each other."""

    SAMPLE = 0
    PASS_A = 1
    PASS_B = 2
    POOL_A = 3
    POOL_B = 4


def random_at(seed: int, stream: Stream, counter: int) -> np.random.Generator:
    """Return the generator that belongs to ``(seed, stream, counter)``: each has 2**64 blocks of its own."""
    return np.random.Generator(np.random.Philox(key=[seed, int(stream)], counter=[0, counter, 0, 0]))
