"""Read batches ahead in a thread, so that training does not wait for the disk."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

from medcyclegan.data.unpaired import Batch

__all__ = ["BATCHES_AHEAD", "prefetched_batches"]

#: Number of batches that are read ahead.
BATCHES_AHEAD = 4


def prefetched_batches(
    read_batch: Callable[[int], Batch], first: int, end: int, *, pin: bool = False
) -> Generator[Batch, None, None]:
    """Yield ``read_batch(step)`` for the steps from ``first`` to ``end`` - 1, read ahead by a thread.

    ``pin``: put host tensors into page-locked memory, from which copies to a CUDA device overlap with computation.
    An exception of ``read_batch`` is raised in place of that batch. Closing the generator
    (``contextlib.closing``) ends the thread.
    """

    def read(step: int) -> Batch:
        real_A, real_B = read_batch(step)
        return (real_A.pin_memory(), real_B.pin_memory()) if pin and real_A.device.type == "cpu" else (real_A, real_B)

    steps = iter(range(first, end))
    ahead: collections.deque[Future[Batch]] = collections.deque()
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
