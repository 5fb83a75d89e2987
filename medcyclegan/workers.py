"""Run jobs in other processes: several at once, or one after the other in a process that may be killed."""

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

__all__ = ["WorkerProcess", "interrupts_blocked", "run_in_processes"]

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_in_processes(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, killed: Callable[[Job], Result]
) -> Iterator[tuple[int, Result]]:
    """Run jobs in ``workers`` processes; yield the index and the result of each job when it ends.

    If the kernel kills a process (because memory ran out), the other processes continue, and its job is run again after
    they have ended, alone; if its process is killed again, the result is ``killed(job)``. An exception of ``work`` is
    raised here after the running jobs have ended.
    """
    waiting, again = deque(enumerate(jobs)), []
    workers = max(1, min(workers, len(jobs)))
    threads = max(1, torch.get_num_threads() // workers)
    team: list[WorkerProcess[Job, Result]] = []
    try:
        while waiting or team:
            while waiting and len(team) < workers:
                team.append(WorkerProcess(work, threads, *waiting.popleft()))
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
        log.warning("a worker process was killed: its volume is processed again, alone")
        alone = WorkerProcess(work, torch.get_num_threads(), number, jobs[number])
        try:
            results = alone.receive()
        finally:
            alone.end()
        yield number, results[0] if results else killed(jobs[number])


class WorkerProcess(Generic[Job, Result]):
    """A process that runs one job after the other.

    Each worker has a separate pipe: with a shared queue, a worker that is killed while it holds the lock of the queue
    would block all others forever.
    """

    def __init__(self, work: Callable[[Job], Result], threads: int, number: int, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(work, theirs, threads), daemon=True)
        with interrupts_blocked():
            self._process.start()
        theirs.close()
        self.give(number, job)

    def give(self, number: int, job: Job) -> None:
        """Send job ``number`` to the process; if the process is dead, :meth:`receive` reports it."""
        self.number = number
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(job)

    def receive(self, seconds: float | None = None) -> list[Result]:
        """Wait for the result of the job; return it as a list of one, or an empty list if the process has died.

        Raises :class:`TimeoutError` if there is none after ``seconds``.
        """
        try:
            if seconds is not None and not self.connection.poll(seconds):
                raise TimeoutError
            result, error = self.connection.recv()
        except TimeoutError:
            raise
        except (EOFError, OSError):
            return []
        if error is not None:
            raise error
        return [result]

    def kill(self) -> None:
        """End the process at once, also in the middle of a job; :meth:`receive` then returns an empty list."""
        self._process.kill()

    def end(self) -> int | None:
        """Let the process finish its job and exit; return its exit code."""
        self.connection.close()
        self._process.join()
        return self._process.exitcode


def _ready(team: Sequence[WorkerProcess[Job, Result]]) -> list[WorkerProcess[Job, Result]]:
    """Wait until some workers have finished their job or died, and return them."""
    ready = wait([worker.connection for worker in team])
    return [worker for worker in team if worker.connection in ready]


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C, which reaches every process of a terminal, in processes that are started in this context.

    The main process lets them finish their jobs.
    """
    resource_tracker.ensure_running()  # starting it later would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(work: Callable[[Any], Any], connection: Connection, threads: int) -> None:
    """Run one job after the other until ``connection`` is closed; answer with the result or the exception."""
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send_bytes(_answer(work, connection.recv()))


def _answer(work: Callable[[Any], Any], job: Any) -> bytes:
    """Run a job; return its result and its exception, pickled; an exception of another type is sent as text."""
    try:
        return pickle.dumps((work(job), None))
    except (MedCycleGANError, OSError, MemoryError) as error:
        return pickle.dumps((None, error))
    except BaseException as error:  # raised again at the other end
        return pickle.dumps((None, RuntimeError("".join(traceback.format_exception(error)))))
