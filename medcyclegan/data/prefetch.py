"""Read batches ahead in a thread, so that training does not wait for the disk."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

import torch

__all__ = ["BATCHES_AHEAD", "prefetched_batches"]

#: A batch: the slices of A and of B, or more tensors.
B = TypeVar("B", bound=tuple[torch.Tensor, ...])

#: Number of batches that are read ahead.
BATCHES_AHEAD = 4


def prefetched_batches(
    read_batch: Callable[[int], B], first: int, end: int, *, pin: bool = False
) -> Generator[B, None, None]:
    """Yield ``read_batch(step)`` for the steps from ``first`` to ``end`` - 1, read ahead by a thread.

    ``pin``: put host tensors into page-locked memory, from which copies to a CUDA device overlap with computation.
    An exception of ``read_batch`` is raised in place of that batch. Closing the generator
    (``contextlib.closing``) ends the thread.
    """

    def read(step: int) -> B:
        batch = read_batch(step)
        if not pin or batch[0].device.type != "cpu":
            return batch
        return cast(B, tuple(images.pin_memory() for images in batch))

    steps = iter(range(first, end))
    ahead: collections.deque[Future[B]] = collections.deque()
    with ThreadPoolExecutor(1, thread_name_prefix="medcyclegan-batches") as thread:
        try:
            for step in steps:
                ahead.append(thread.submit(read, step))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for batch in ahead:
                batch.cancel()
