"""Slices kept in the memory of a device, so that batches are assembled there."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from medcyclegan.data.stacks import StackReader, open_stack
from medcyclegan.errors import TrainingError
from medcyclegan.manifest import SliceRow

__all__ = ["ResidentStacks", "SliceReader", "open_reader"]

log = logging.getLogger(__name__)

#: Largest share of a device's free memory that slices may take; networks and their activations need the rest.
_SHARE = 0.25


class ResidentStacks:
    """The stacks of ``rows`` in the memory of ``device``, in the store's number format; replaces StackReader.

    Slices are tensors on the device; reading one does not make the host wait for the device.
    """

    def __init__(self, store: Path, rows: Iterable[SliceRow], device: torch.device) -> None:
        self._stacks = {row.file: torch.from_numpy(np.array(open_stack(store, row))).to(device) for row in rows}

    def read_image(self, row: SliceRow, place: int) -> torch.Tensor:
        """Return slice ``place`` of a row's stack, ``(1, H, W)`` float32 in [-1, 1]."""
        return self._stacks[row.file][place][None].float()


#: Reads slices from memory-mapped files or from the memory of a device.
SliceReader = StackReader | ResidentStacks


def open_reader(
    store: Path, rows: Iterable[SliceRow], device: torch.device, wish: Literal["auto", "on", "off"]
) -> SliceReader:
    """Return a reader of the slices of ``rows``, from the memory of ``device`` if requested and if they fit.

    ``auto``: on a CUDA device whose free memory is at least four times their size, else from memory-mapped files.
    Raises :class:`~medcyclegan.errors.TrainingError` for ``on`` if they do not fit, and
    :class:`~medcyclegan.errors.StoreError` for stacks that do not match their rows.
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
                    f"{free / 2**30:.2f} GiB free, of which slices may take a quarter: use auto or off"
                )
            log.info("the slices take %.2f GiB, too much for %s: reading them from files", size / 2**30, device)
            return StackReader(store)
    log.info("the slices are kept in the memory of %s: %.3f GiB", device, size / 2**30)
    return ResidentStacks(store, chosen, device)
