"""Work in several processes that outlives any one of them: what a kill takes along is done again, alone."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import torch

from medcyclegan.errors import MedCycleGANError

__all__ = ["run_in_processes"]

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_in_processes(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, killed: Callable[[Job], Result]
) -> Iterator[tuple[int, Result]]:
    """Yield the place and the result of every job as it ends, worked on in ``workers`` processes.

    Where the kernel kills a process (for want of memory), the others go on without it, and its job is done again
    when they have ended, with no other beside it; one whose process dies again has the result ``killed(job)``. What
    ``work`` raises is raised here, when the jobs in hand have ended.
    """
    waiting, again = deque(enumerate(jobs)), []
    workers = max(1, min(workers, len(jobs)))
    threads = max(1, torch.get_num_threads() // workers)
    team: list[_Worker[Job, Result]] = []
    try:
        while waiting or team:
            while waiting and len(team) < workers:
                team.append(_Worker(work, threads, *waiting.popleft()))
            for worker in _ready(team):
                number, results = worker.number, worker.receive()
                if results and waiting:
                    worker.give(*waiting.popleft())
                else:
                    team.remove(worker)
                    short_of_memory = worker.end() == -signal.SIGKILL
                if results:
                    yield number, results[0]
                else:
                    again.append(number)
                    workers = max(1, workers - short_of_memory)
    finally:
        for worker in team:
            worker.end()
    for number in again:
        log.warning("a worker process was killed: its volume is done again, with no other beside it")
        alone = _Worker(work, torch.get_num_threads(), number, jobs[number])
        try:
            results = alone.receive()
        finally:
            alone.end()
        yield number, results[0] if results else killed(jobs[number])


class _Worker(Generic[Job, Result]):
    """A process that does one job after the other.

    It has a pipe of its own: where all share a queue, one that is killed while it holds the queue's lock leaves the
    others waiting for ever.
    """

    def __init__(self, work: Callable[[Job], Result], threads: int, number: int, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(work, theirs, threads), daemon=True)
        with _interrupts_blocked():
            self._process.start()
        theirs.close()
        self.give(number, job)

    def give(self, number: int, job: Job) -> None:
        """Hand over the job ``number``. That the process is dead shows when it is asked for the result."""
        self.number = number
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(job)

    def receive(self) -> list[Result]:
        """Wait for the job's result and return it, alone in a list, which is empty where the process has died."""
        try:
            result, error = self.connection.recv()
        except (EOFError, OSError):
            return []
        if error is not None:
            raise error
        return [result]

    def end(self) -> int | None:
        """Let the process finish what it is at, and end; return its exit code."""
        self.connection.close()
        self._process.join()
        return self._process.exitcode


def _ready(team: Sequence[_Worker[Job, Result]]) -> list[_Worker[Job, Result]]:
    """Wait until some have ended their job, or died, and return these."""
    ready = wait([worker.connection for worker in team])
    return [worker for worker in team if worker.connection in ready]


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Keep Ctrl-C, which reaches every process of a terminal, from those that are started in here.

    The one that is in charge lets them finish their jobs.
    """
    resource_tracker.ensure_running()  # which would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(work: Callable[[Any], Any], connection: Connection, threads: int) -> None:
    """Do one job after the other until the other end of ``connection`` is closed; what is raised is its answer."""
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send_bytes(_answer(work, connection.recv()))


def _answer(work: Callable[[Any], Any], job: Any) -> bytes:
    """Return what a job comes to, its result and what it raised, pickled; what may not travel is told in words."""
    try:
        return pickle.dumps((work(job), None))
    except (MedCycleGANError, OSError, MemoryError) as error:
        return pickle.dumps((None, error))
    except BaseException as error:  # raised again at the other end
        return pickle.dumps((None, RuntimeError("".join(traceback.format_exception(error)))))
