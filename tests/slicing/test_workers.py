"""Processes that are killed take nothing with them but what kills them twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from medcyclegan.slicing.workers import run_in_processes


def work(job: tuple[int, str]) -> str:
    number, folder = job
    once = Path(folder, f"{number}")
    if number == 3 or (number == 1 and not once.exists()):
        once.write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return f"done {number}"


def killed(job: tuple[int, str]) -> str:
    return f"killed {job[0]}"


def test_one_that_is_killed_twice_is_named_and_the_rest_finish(tmp_path) -> None:
    jobs = [(number, str(tmp_path)) for number in range(5)]
    results = sorted(run_in_processes(work, jobs, 2, killed))
    assert results == [(n, "killed 3" if n == 3 else f"done {n}") for n in range(5)]
