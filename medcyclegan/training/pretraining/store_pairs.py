"""Pairs of slices in a slice store, of patients with both domains on one grid, such as those of ``synthesize``."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from medcyclegan.data import PairedSlices, Place, Sampling, open_reader, paired_slices
from medcyclegan.manifest import SliceRow

__all__ = ["StorePairs"]


@dataclasses.dataclass(frozen=True, eq=False)
class StorePairs:
    """Batches of pairs from the slices of a store (:class:`~medcyclegan.data.PairedSlices`).

    The target of a slice is the other slice of its pair.
    """

    store: Path
    rows: tuple[tuple[SliceRow, ...], tuple[SliceRow, ...]]
    slices_on_device: Literal["auto", "on", "off"]

    @functools.cached_property
    def pairs(self) -> list[tuple[Place, Place]]:
        """The places of slices of one patient at one position."""
        return paired_slices(self.rows)

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
        slices = PairedSlices(self.pairs, reader, sampling)

        def read_batch(step: int) -> tuple[torch.Tensor, ...]:
            real_A, real_B = slices.batch(step)
            return real_A, real_B, real_A, real_B

        yield read_batch
