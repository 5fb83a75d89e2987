"""A slice store kept in a device's memory: batches are then put together where they are used."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from medcyclegan.data.stacks import StackReader, neighbours, open_stack
from medcyclegan.errors import TrainingError
from medcyclegan.manifest import SliceRow

__all__ = ["ResidentStacks", "SliceReader", "open_reader"]

log = logging.getLogger(__name__)

#: The share of a device's free memory that slices may take: networks and their maps need the rest.
_SHARE = 0.25


class ResidentStacks:
    """The stacks of ``rows`` on ``device``, in the store's own number format: what StackReader reads, without a file.

    Its slices are tensors on the device, taken out without the host waiting for it.
    """

    def __init__(self, store: Path, rows: Iterable[SliceRow], device: torch.device) -> None:
        self._stacks = {row.file: torch.from_numpy(np.array(open_stack(store, row))).to(device) for row in rows}

    def read_context(self, row: SliceRow, place: int, context: int = 1) -> torch.Tensor:
        """Return slice ``place`` of a row's stack between its neighbours, ``(context, H, W)`` float32 in [-1, 1]."""
        stack = self._stacks[row.file]
        return torch.stack([stack[number] for number in neighbours(row.slices, place, context)]).float()


#: What gives slices with their neighbours: from memory-mapped files, or from a device's memory.
SliceReader = StackReader | ResidentStacks


def open_reader(
    store: Path, rows: Iterable[SliceRow], device: torch.device, wish: Literal["auto", "on", "off"]
) -> SliceReader:
    """Return what reads the slices of ``rows``: from ``device``'s memory where that is wished, and they fit.

    ``auto``: on a CUDA device whose free memory holds them four times, else from memory-mapped files.
    Raises :class:`~medcyclegan.errors.TrainingError` for ``on`` where they do not fit, and
    :class:`~medcyclegan.errors.StoreError` for stacks that are not as their rows say.
    """
    chosen = list(rows)
    if wish == "off" or (wish == "auto" and device.type != "cuda"):
        return StackReader(store)
    size = sum(open_stack(store, row).nbytes for row in chosen)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if size > _SHARE * free:
            if wish == "on":
                raise TrainingError(
                    f"training.slices_on_device = on: the slices take {size / 2**30:.2f} GiB and {device} has "
                    f"{free / 2**30:.2f} GiB free, of which slices may take a quarter: take auto or off"
                )
            log.info("the slices take %.2f GiB, too much for %s: they are read from files", size / 2**30, device)
            return StackReader(store)
    log.info("the slices lie in the memory of %s: %.3f GiB", device, size / 2**30)
    return ResidentStacks(store, chosen, device)
