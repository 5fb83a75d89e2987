"""Work in several processes that outlives any one of them: what a kill takes along is done again, alone."""

from __future__ import annotations

import concurrent.futures
import logging
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

__all__ = ["run_in_processes"]

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_in_processes(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, killed: Callable[[Job], Result]
) -> Iterator[tuple[int, Result]]:
    """Yield the place and the result of every job as it ends, worked on in ``workers`` processes.

    Where the kernel kills a process (for want of memory), the pool it belongs to is lost. The jobs that may have been
    in it are then done one by one, each in a process of its own; one that is killed again has the result
    ``killed(job)``. The rest go on in a new pool. What ``work`` raises is raised here.
    """
    left = dict(enumerate(jobs))
    while left:
        for number, result in _run_pool(work, left, min(workers, len(left))):
            del left[number]
            yield number, result
        # A pool hands out jobs in order: what it was working on are the first of those without a result.
        suspects = {number: left.pop(number) for number in list(left)[: workers + 1]}
        if suspects:
            log.warning("a worker process was killed: %d volumes are done again, one at a time", len(suspects))
        for number, job in suspects.items():
            alone = [result for _, result in _run_pool(work, {number: job}, 1)]
            yield number, alone[0] if alone else killed(job)


def _run_pool(work: Callable[[Job], Result], jobs: Mapping[int, Job], workers: int) -> Iterator[tuple[int, Result]]:
    """Yield the number and the result of each job, as they end, until one of the processes is killed."""
    # Not "forkserver", though it starts faster: a worker was seen to hang for ever after another one had been killed.
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // workers)
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        futures = {pool.submit(work, job): number for number, job in jobs.items()}
        for future in concurrent.futures.as_completed(futures):
            if not isinstance(future.exception(), BrokenProcessPool):
                yield futures[future], future.result()
