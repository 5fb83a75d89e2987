"""Pairs of slices in a slice store, of patients with both domains on one grid, such as those of ``synthesize``."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from medcyclegan.data import Sampling, SliceReader, Stream, open_reader, random_at, row_pairs, shared_slices
from medcyclegan.manifest import SliceRow

__all__ = ["StorePairs"]

#: A slice: the row of its volume, and its index in the stack.
Place = tuple[SliceRow, int]


@dataclasses.dataclass(frozen=True, eq=False)
class StorePairs:
    """Batches of pairs from the slices of a store; sample ``i`` is a pure function of the seed and ``i``.

    Each pass over the pairs uses a new random order. Both slices of a pair are mirrored together; the target of a slice
    is the other slice of its pair.
    """

    store: Path
    rows: tuple[tuple[SliceRow, ...], tuple[SliceRow, ...]]
    slices_on_device: Literal["auto", "on", "off"]

    @functools.cached_property
    def pairs(self) -> list[tuple[Place, Place]]:
        """The places of slices of one patient at one position."""
        return [
            ((pair[0], place_A), (pair[1], place_B))
            for pair in row_pairs(*self.rows)
            for place_A, place_B in shared_slices(pair)
        ]

    @property
    def description(self) -> str:
        """A description of the pairs, for the log."""
        return f"of the slice store: {len(self.pairs)} pairs"

    def describe(self, steps: int) -> dict[str, Any]:
        """Return what ``model.json`` records: the number of pairs."""
        return {"kind": "slice store", "pairs": len(self.pairs)}

    def to_record(self, base: Path) -> dict[str, Any]:
        """Return the entries of ``run.json`` for continuing, in addition to the store."""
        return {"kind": "slice store"}

    @property
    def has_held_out(self) -> bool:
        """False: the pairs for validation are those of the store."""
        return False

    def held_out(self, count: int, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Return an empty batch: the pairs for validation are those of the store."""
        return ()

    def bytes_in_memory(self, device: torch.device) -> int:
        """Return 0: slices are memory-mapped, and slices on the device are counted elsewhere."""
        return 0

    @property
    def smaller(self) -> str:
        """An empty string: the pairs take no memory."""
        return ""

    @contextlib.contextmanager
    def opened(self, device: torch.device, sampling: Sampling) -> Iterator[Callable[[int], tuple[torch.Tensor, ...]]]:
        """Yield the function that returns this process's share of the batch of a step."""
        rows = [row for own in self.rows for row in own]
        reader = open_reader(self.store, rows, device, self.slices_on_device)
        yield functools.partial(self._batch, reader, sampling)

    def _batch(self, reader: SliceReader, sampling: Sampling, step: int) -> tuple[torch.Tensor, ...]:
        share = sampling.batch_size // sampling.world
        first = step * sampling.batch_size + sampling.rank * share
        images: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        for i in range(first, first + share):
            turn, place = divmod(i, len(self.pairs))
            number = _permutation(sampling.seed, turn, len(self.pairs))[place]
            mirrored = random_at(sampling.seed, Stream.SAMPLE, i).random() < sampling.flip_probability
            for own, (row, index) in zip(images, self.pairs[number], strict=True):
                image = reader.read_context(row, index, sampling.context)
                own.append(image.flip(2) if mirrored else image)
        real_A, real_B = torch.stack(images[0]), torch.stack(images[1])
        return real_A, real_B, real_A, real_B


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, turn: int, count: int) -> list[int]:
    order: list[int] = random_at(seed, Stream.PASS_A, turn).permutation(count).tolist()
    return order
