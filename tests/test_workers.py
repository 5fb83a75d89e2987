"""Killed processes: only a job whose process is killed twice is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from medcyclegan.errors import GeometryError
from medcyclegan.workers import run_in_processes

Job = tuple[int, str]


def work(job: Job) -> str:
    number, folder = job
    once = Path(folder, f"{number}")
    if number == 3 or (number == 1 and not once.exists()):
        once.write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return f"done {number}"


def always_killed(_job: Job) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def refused(job: Job) -> str:
    number, folder = job
    if number == 0:
        raise GeometryError("no geometry: leave it out")
    time.sleep(0.5)
    Path(folder, f"{number}").write_text("whole")
    return "done"


class NotPortableError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def not_portable(job: Job) -> object:
    if job[0] == 0:
        raise NotPortableError("broken ", "glass")
    return (lambda: None) if job[0] == 1 else "done"


def crashing(job: Job) -> str:
    if job[0] < 3:
        os._exit(3)
    return "done"


def killed_then_refused(job: Job) -> str:
    number, folder = job
    once = Path(folder, f"{number}")
    if not once.exists():
        once.write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    raise GeometryError("no geometry: leave it out")


def killed(job: Job) -> str:
    return f"killed {job[0]}"


def test_one_that_is_killed_twice_is_named_and_the_rest_finish(tmp_path) -> None:
    jobs = [(number, str(tmp_path)) for number in range(5)]
    results = sorted(run_in_processes(work, jobs, 2, killed))
    assert results == [(n, "killed 3" if n == 3 else f"done {n}") for n in range(5)]


def test_all_may_be_killed(tmp_path) -> None:
    jobs = [(number, str(tmp_path)) for number in range(3)]
    assert sorted(run_in_processes(always_killed, jobs, 3, killed)) == [(n, f"killed {n}") for n in range(3)]


def test_what_is_raised_is_raised_here_when_the_others_have_finished_their_job(tmp_path) -> None:
    jobs = [(number, str(tmp_path)) for number in range(4)]
    with pytest.raises(GeometryError, match="leave it out"):
        list(run_in_processes(refused, jobs, 2, killed))
    assert all(path.read_text() == "whole" for path in tmp_path.iterdir())


def test_an_exception_that_cannot_be_pickled_is_sent_as_text() -> None:
    with pytest.raises(RuntimeError, match="broken glass"):
        list(run_in_processes(not_portable, [(0, "")], 1, killed))
    with pytest.raises(RuntimeError, match="pickle"):
        list(run_in_processes(not_portable, [(1, "")], 1, killed))


def test_those_that_crash_are_replaced() -> None:
    jobs = [(number, "") for number in range(5)]
    results = sorted(run_in_processes(crashing, jobs, 2, killed))
    assert results == [(n, f"killed {n}" if n < 3 else "done") for n in range(5)]


def test_no_process_is_left_when_the_second_try_is_refused(tmp_path) -> None:
    with pytest.raises(GeometryError, match="leave it out"):
        list(run_in_processes(killed_then_refused, [(0, str(tmp_path))], 2, killed))
    assert not multiprocessing.active_children()
