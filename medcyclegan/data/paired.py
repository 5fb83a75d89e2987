"""Batches of pairs: slices of patients with both domains on one grid."""

from __future__ import annotations

import functools

import torch

from medcyclegan.data.counter_random import Stream, random_at
from medcyclegan.data.resident import SliceReader
from medcyclegan.data.same_place import row_pairs, shared_slices
from medcyclegan.data.unpaired import Batch, Sampling
from medcyclegan.manifest import SliceRow

__all__ = ["PairedSlices", "Place", "paired_slices"]

#: A slice: the row of its volume, and its index in the stack.
Place = tuple[SliceRow, int]


def paired_slices(rows: tuple[tuple[SliceRow, ...], tuple[SliceRow, ...]]) -> list[tuple[Place, Place]]:
    """Return the places of slices of one patient at one position, in A and in B."""
    return [
        ((pair[0], place_A), (pair[1], place_B))
        for pair in row_pairs(*rows)
        for place_A, place_B in shared_slices(pair)
    ]


class PairedSlices:
    """An endless sequence of ``pairs``; pair ``i`` is a pure function of the seed and ``i``.

    Each pass over the pairs uses a new random order. Both slices of a pair are mirrored together.
    """

    def __init__(self, pairs: list[tuple[Place, Place]], reader: SliceReader, sampling: Sampling) -> None:
        self._pairs = pairs
        self._reader = reader
        self._sampling = sampling

    def batch(self, step: int) -> Batch:
        """Return this process's share of the pairs of ``step``, counted from 0."""
        sampling = self._sampling
        share = sampling.batch_size // sampling.world
        first = step * sampling.batch_size + sampling.rank * share
        images: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        for i in range(first, first + share):
            turn, place = divmod(i, len(self._pairs))
            number = _permutation(sampling.seed, turn, len(self._pairs))[place]
            mirrored = random_at(sampling.seed, Stream.SAMPLE, i).random() < sampling.flip_probability
            for own, (row, index) in zip(images, self._pairs[number], strict=True):
                image = self._reader.read_image(row, index)
                own.append(image.flip(2) if mirrored else image)
        return torch.stack(images[0]), torch.stack(images[1])


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, turn: int, count: int) -> list[int]:
    order: list[int] = random_at(seed, Stream.PASS_A, turn).permutation(count).tolist()
    return order
