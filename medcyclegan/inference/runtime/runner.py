"""Run a generator on batches of slices, with smaller batches if memory runs out."""

from __future__ import annotations

import functools
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol

import psutil
import torch

from medcyclegan.config import Generator
from medcyclegan.device import is_out_of_memory

__all__ = ["BatchSize", "SliceGenerator", "SliceRunner", "choose_batch_size"]

log = logging.getLogger(__name__)

BatchSize = int | Literal["auto"]

#: Float32 maps of a generator's widest layer in memory at once; measured on CPUs: 3.3 (ResNet), 2.6 (U-Net).
_LIVE_MAPS = 3.5
#: The same on a CUDA device, including cuDNN's workspace.
_CUDA_LIVE_MAPS = 7.0
#: Larger batches are not faster, and in float32 half as fast (measured on an H100).
_MOST_CUDA = 8
#: Threads that share one slice; one slice per thread needs twice the memory and is not faster.
_THREADS_A_SLICE = 2
#: Memory in bytes that networks may always use on a CPU; beyond it, at most the size of the volume in float32.
_CPU_ALLOWANCE = 256 * 2**20


class SliceGenerator(Protocol):
    """A callable that translates slices, ``(N, 1, H, W)`` to the same shape, float32 on the CPU."""

    device: torch.device
    #: Whether several threads may call it at once, each with a different slice.
    shareable: bool

    def __call__(self, slices: torch.Tensor) -> torch.Tensor:
        """Translate ``slices``; both are in [-1, 1]."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the generator to ``device``."""
        ...


def choose_batch_size(generator: Generator, canvas: tuple[int, int], device: torch.device, volume_voxels: int) -> int:
    """Return the number of slices to translate at a time on canvases of ``canvas`` (rows, columns).

    On a CUDA device: as many as fit into half of its free memory, at most 8. On a CPU, where two threads share a
    slice: half the number of threads, but fewer if the feature maps would need more memory than the volume in float32
    (or 256 MiB if that is larger) or than half of the free memory.
    """
    one_slice = 4 * generator.filters * canvas[0] * canvas[1]
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(max(1, min(_MOST_CUDA, 0.5 * free // (_CUDA_LIVE_MAPS * one_slice))))
    allowed = min(max(_CPU_ALLOWANCE, 4 * volume_voxels), psutil.virtual_memory().available / 2)
    return int(max(1, min(torch.get_num_threads() // _THREADS_A_SLICE, allowed // (_LIVE_MAPS * one_slice))))


class SliceRunner:
    """Translate any number of slices with one generator, ``batch_size`` at a time.

    On a CPU, groups of threads translate one slice of the batch each. This is faster than many threads on one slice,
    and in float32 results do not depend on the batch. If memory runs out, the batch is halved, and finally the
    generator moves to the CPU; both are logged as warnings. Use it as a context manager, which ends its threads.
    """

    def __init__(self, generator: SliceGenerator, batch_size: int) -> None:
        self.generator = generator
        self.batch_size = batch_size
        self._pool: ThreadPoolExecutor | None = None
        self._threads = torch.get_num_threads()

    @property
    def at_once(self) -> int:
        """Return the number of slices to pass in at once: on a CPU at most the number of threads."""
        shared = self.generator.device.type == "cpu" and self.generator.shareable
        return min(self.batch_size, self._threads) if shared else self.batch_size

    def __enter__(self) -> SliceRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_pool()

    def __call__(self, slices: torch.Tensor) -> torch.Tensor:
        """Translate ``slices`` ``(N, 1, H, W)`` in [-1, 1], float32 on the CPU, to the same shape."""
        results: list[torch.Tensor] = []
        done = 0
        while done < len(slices):
            batch = slices[done : done + self.batch_size]
            try:
                results.append(self._translate(batch))
            except (torch.OutOfMemoryError, MemoryError) as error:
                self._retreat(error)
                continue
            done += len(batch)
        return torch.cat(results) if len(results) > 1 else results[0]

    def _translate(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) == 1 or self.generator.device.type != "cpu" or not self.generator.shareable:
            return _generate(self.generator, batch)
        one_slice = functools.partial(_generate, self.generator)
        return torch.cat(list(self._threads_for_slices().map(one_slice, torch.split(batch, 1))))

    def _threads_for_slices(self) -> ThreadPoolExecutor:
        if self._pool is None:
            workers = min(self.batch_size, self._threads)
            share = self._threads // workers
            self._pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
        return self._pool

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
            # The number set in the pool's threads has become the process's default for new threads.
            torch.set_num_threads(self._threads)

    def _retreat(self, error: BaseException) -> None:
        """Halve the batch; at one slice, move to the CPU; if already there, raise MemoryError."""
        where = self.generator.device
        if self.batch_size > 1:
            self._close_pool()
            self.batch_size //= 2
            log.warning("memory ran out on %s: slices translated at a time are now %d", where, self.batch_size)
        elif where.type != "cpu":
            log.warning("memory ran out on %s at one slice: continuing on the CPU", where)
            self.generator.to(torch.device("cpu"))
        else:
            raise MemoryError("the generator did not fit with one slice at a time") from error


def _generate(generator: SliceGenerator, slices: torch.Tensor) -> torch.Tensor:
    """Translate, and convert the CPU allocator's RuntimeError to a MemoryError."""
    try:
        with torch.inference_mode():
            return generator(slices)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError("out of memory on the CPU") from error
        raise
