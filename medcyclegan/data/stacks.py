"""Slices of a slice store as memory-mapped arrays, for any number of volumes."""

from __future__ import annotations

import bisect
import collections
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medcyclegan.errors import StoreError
from medcyclegan.manifest import SliceRow, stack_file

__all__ = ["SliceIndex", "StackReader", "check_stacks", "open_stack"]

#: Stacks kept open: each holds a file descriptor, of which a process has about 1,024.
_MOST_OPEN = 64


class SliceIndex:
    """All slices of a set of rows, numbered consecutively in the order of domain and content.

    ``heights`` ``(len,)``: their relative heights, from 0 (lowest of its volume) to 1 (highest).
    """

    def __init__(self, rows: Iterable[SliceRow]) -> None:
        self.rows = sorted(rows, key=lambda row: (row.domain, row.content, row.case))
        self._starts = list(itertools.accumulate((len(row.slices) for row in self.rows), initial=0))
        self.heights: NDArray[np.float64] = np.array([h for row in self.rows for h in row.heights])

    def __len__(self) -> int:
        return self._starts[-1]

    def find(self, number: int) -> tuple[SliceRow, int]:
        """Return the row of slice ``number`` and the index of the slice in that row's stack."""
        place = bisect.bisect_right(self._starts, number) - 1
        return self.rows[place], number - self._starts[place]

    def spread(self, count: int) -> list[int]:
        """Return at most ``count`` slice numbers, evenly spaced."""
        step = max(1.0, len(self) / count)
        return [int((i + 0.5) * step) for i in range(min(count, len(self)))]

    def nearest_height(self, height: float) -> int:
        """Return the number of the first slice whose relative height is nearest to ``height``."""
        return int(np.argmin(np.abs(self.heights - height)))


class StackReader:
    """Reads slices from the store in folder ``store``; keeps recently used stacks memory-mapped."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._open: collections.OrderedDict[str, NDArray[Any]] = collections.OrderedDict()

    def read(self, row: SliceRow, place: int) -> NDArray[np.float32]:
        """Return slice ``place`` of a row's stack, ``(H, W)`` float32 in [-1, 1].

        Raises :class:`~medcyclegan.errors.StoreError`, naming the stack, if it does not match its row.
        """
        stack = self._open.get(row.file)
        if stack is None:
            stack = open_stack(self._store, row)
            self._open[row.file] = stack
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(row.file)
        return np.array(stack[place], dtype=np.float32)

    def read_image(self, row: SliceRow, place: int) -> torch.Tensor:
        """Return slice ``place`` of a row's stack, ``(1, H, W)`` float32 in [-1, 1]."""
        return torch.from_numpy(self.read(row, place)[None])


def check_stacks(store: Path, rows: Sequence[SliceRow]) -> int:
    """Check the header and the length of every stack; return the number of rows and columns of all slices.

    Raises :class:`~medcyclegan.errors.StoreError`, naming the first stack that is missing, damaged or does not match
    its row, or if rows were prepared differently.
    """
    first = rows[0].preparation
    for row in rows:
        for key in ("size", "fit", "pixel_mm"):
            if row.preparation.get(key) != first.get(key):
                raise StoreError(
                    f"{store / row.file} was made with {key} {row.preparation.get(key)}, others with "
                    f"{first.get(key)}: slice all volumes of a store with the same options"
                )
        open_stack(store, row)
    return _size(rows[0])


def _size(row: SliceRow) -> int:
    return int(row.preparation["size"])


def open_stack(store: Path, row: SliceRow) -> NDArray[Any]:
    """Return the memory-mapped stack of a row, ``(K, H, W)`` float16 or float32.

    Raises :class:`~medcyclegan.errors.StoreError`, naming the file, if it does not match its row.
    """
    path = stack_file(store, row)
    expected = (len(row.slices), _size(row), _size(row))
    try:
        stack = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: run slice-volumes again to create it") from None
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TokenError) as error:
        raise StoreError(f"{path} is damaged ({error}): remove it and run slice-volumes again") from None
    if stack.shape != expected or stack.dtype not in (np.float16, np.float32):
        raise StoreError(
            f"{path} holds {stack.dtype} {stack.shape}, but the manifest requires float16 or float32 {expected}: "
            "remove it and run slice-volumes again"
        )
    return stack
