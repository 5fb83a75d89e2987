"""Unpaired batches: which slices of A and B are combined, and which of them are mirrored."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from medcyclegan.data.counter_random import Stream, random_at
from medcyclegan.data.resident import SliceReader
from medcyclegan.data.stacks import SliceIndex, StackReader
from medcyclegan.manifest import SliceRow

__all__ = ["HEIGHT_BAND", "Batch", "Sample", "Sampling", "UnpairedSlices"]

#: Pairing by height: largest difference between the relative heights of A and B (0 is the lowest slice of a volume,
#: 1 the highest); 0.05 of a head is about 1 cm.
HEIGHT_BAND = 0.05

#: ``real_A`` and ``real_B``, each ``(N, 1, H, W)`` float32 in [-1, 1].
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    ``batch_size``: of all ``world`` processes together, a multiple of their number. ``rank``: the number of this
    process, which reads its share of each batch.
    """

    seed: int = 0
    batch_size: int = 1
    flip_probability: float = 0.0
    pairing: Literal["uniform", "height"] = "uniform"
    rank: int = 0
    world: int = 1


@dataclasses.dataclass(frozen=True)
class Sample:
    """The slice numbers of A and B, and whether each slice is mirrored left to right."""

    slices: tuple[int, int]
    flips: tuple[bool, bool]


class UnpairedSlices:
    """An endless sequence of samples from the slices of ``rows_A`` and ``rows_B``.

    Sample ``i`` is a pure function of ``(seed, i)``, and a batch holds the samples from ``step x batch_size`` on.
    Nothing depends on earlier reads, so a resumed run reads what the interrupted run would have read, and several
    processes only divide the samples among themselves.

    Each pass over a domain uses a new random order and contains every slice once. With ``pairing="height"``, B has
    no passes: its slice is drawn from those whose relative height is within :data:`HEIGHT_BAND` of that of A's slice
    (if there are none, the nearest one).

    ``slices``: the folder of the store, or a reader of it (:func:`~medcyclegan.data.open_reader`).
    """

    def __init__(
        self, rows_A: Iterable[SliceRow], rows_B: Iterable[SliceRow], slices: Path | SliceReader, sampling: Sampling
    ) -> None:
        self.slices_A = SliceIndex(rows_A)
        self.slices_B = SliceIndex(rows_B)
        self.sampling = sampling
        self._reader = StackReader(slices) if isinstance(slices, Path) else slices
        self._by_height = np.argsort(self.slices_B.heights, kind="stable")
        self._heights = self.slices_B.heights[self._by_height]
        self._order = functools.lru_cache(maxsize=4)(self._shuffle)

    @property
    def epoch_length(self) -> int:
        """The number of steps of one pass over the larger domain, rounded up."""
        return -(-max(len(self.slices_A), len(self.slices_B)) // self.sampling.batch_size)

    def sample(self, i: int) -> Sample:
        """Return sample ``i``, counted from 0 over the whole run."""
        flip_A, flip_B, choice = random_at(self.sampling.seed, Stream.SAMPLE, i).random(3)
        slice_A = self._slice_of_pass(Stream.PASS_A, len(self.slices_A), i)
        if self.sampling.pairing == "height":
            slice_B = self._slice_at_height(self.slices_A.heights[slice_A], choice)
        else:
            slice_B = self._slice_of_pass(Stream.PASS_B, len(self.slices_B), i)
        probability = self.sampling.flip_probability
        return Sample((slice_A, slice_B), (bool(flip_A < probability), bool(flip_B < probability)))

    def batch(self, step: int) -> Batch:
        """Return this process's share of the batch of ``step``, counted from 0."""
        samples = self._samples(step)
        real_B = torch.stack([self._read(self.slices_B, s.slices[1], s.flips[1]) for s in samples])
        return self._read_A(samples), real_B

    def batch_of_A(self, step: int) -> tuple[torch.Tensor]:
        """Return the slices of A in :meth:`batch` alone, without reading those of B."""
        return (self._read_A(self._samples(step)),)

    def _samples(self, step: int) -> list[Sample]:
        share = self.sampling.batch_size // self.sampling.world
        first = step * self.sampling.batch_size + self.sampling.rank * share
        return [self.sample(i) for i in range(first, first + share)]

    def _read_A(self, samples: Iterable[Sample]) -> torch.Tensor:
        return torch.stack([self._read(self.slices_A, s.slices[0], s.flips[0]) for s in samples])

    def _read(self, slices: SliceIndex, number: int, flip: bool) -> torch.Tensor:
        image = self._reader.read_image(*slices.find(number))
        return image.flip(2) if flip else image

    def _shuffle(self, stream: Stream, count: int, number: int) -> NDArray[np.int64]:
        return random_at(self.sampling.seed, stream, number).permutation(count)

    def _slice_of_pass(self, stream: Stream, count: int, i: int) -> int:
        return int(self._order(stream, count, i // count)[i % count])

    def _slice_at_height(self, height: float, choice: float) -> int:
        """Return the slice of B at position ``choice``, in [0, 1), of those in the band around ``height``."""
        first, end = np.searchsorted(self._heights, (height - HEIGHT_BAND, height + HEIGHT_BAND))
        if first == end:
            return self.slices_B.nearest_height(height)
        return int(self._by_height[first + int(choice * (end - first))])
