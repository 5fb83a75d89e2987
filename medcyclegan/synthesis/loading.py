"""Load label maps from disk as labeled heads, and keep them in memory, because preparing one takes seconds."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from medcyclegan.errors import VolumeError
from medcyclegan.io import read_volume
from medcyclegan.synthesis.head import LabelledHead, build_head
from medcyclegan.volume import Volume

__all__ = ["load_head", "load_heads", "read_label_map"]

#: A file, its modification time and size, and the rows of its table of labels.
_Key = tuple[Path, tuple[int, int] | None, tuple[tuple[int, str], ...]]
#: The number of heads that are kept; one of 256 x 256 x 256 voxels takes about 40 MB.
_MOST_KEPT = 24
#: The number of label maps that are prepared at a time.
_THREADS = 8


def read_label_map(path: Path) -> Volume:
    """Read a label map, which no option selects or repairs.

    Raises what :func:`~medcyclegan.io.read_volume` raises, with a remedy that needs no option.
    """
    try:
        return read_volume(path)
    except VolumeError as error:
        if " --" not in error.remedy:
            raise
        problem = str(error).removesuffix(error.remedy).removesuffix(": ")
        raise type(error)(problem, remedy="save one label map of whole numbers, 3-D, in each file") from None


def load_head(labels: Path, table: Mapping[int, str], device: torch.device | None = None) -> LabelledHead:
    """Return the head of a label map on ``device`` (default: the CPU), from memory if it was loaded recently.

    Raises the errors of :func:`read_label_map` and :func:`~medcyclegan.synthesis.build_head`.
    """
    status = labels.stat() if labels.exists() else None
    # The key includes the file's state, so a changed file is read again.
    key = (labels, status and (status.st_mtime_ns, status.st_size), tuple(sorted(table.items())))
    return _head(key) if device is None or device.type == "cpu" else _head_on(key, str(device))


def load_heads(labels: Sequence[Path], table: Mapping[int, str], device: torch.device) -> None:
    """Prepare the heads of several label maps in parallel, at most as many as are kept."""
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(lambda path: load_head(path, table, device), labels[:_MOST_KEPT]):
            pass


@functools.lru_cache(maxsize=_MOST_KEPT)
def _head(key: _Key) -> LabelledHead:
    labels, _, table = key
    return build_head(read_label_map(labels), dict(table))


@functools.lru_cache(maxsize=_MOST_KEPT)
def _head_on(key: _Key, device: str) -> LabelledHead:
    return _head(key).to(torch.device(device))
