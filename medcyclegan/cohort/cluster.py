"""Run shards of a command as jobs on this machine or on a SLURM cluster, with submitit.

Jobs are command lines, so that each can be repeated by hand from its log. submitit stores its records of a job (as
pickle files) in the folder of the logs, which only its owner can read.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medcyclegan.errors import ConfigError, UsageError
from medcyclegan.shards import choose_shard

__all__ = ["cluster_options", "run_on_cluster", "shard_of"]

log = logging.getLogger(__name__)

#: Seconds that a command has to save its state after it was told to stop.
_GRACE = 60


def cluster_options() -> argparse.ArgumentParser:
    """Return a parent parser with the options that split a cohort script into parts and run them as jobs."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = parser.add_argument_group("shards and jobs")
    group.add_argument(
        "--num-shards", type=int, metavar="N", help="number of parts of the work, or of jobs with --cluster"
    )
    group.add_argument(
        "--shard-id", type=int, metavar="I", help="run this part, counted from 0 (default: SLURM_ARRAY_TASK_ID)"
    )
    group.add_argument("--cluster", choices=["local", "slurm"], help="run the parts as jobs with submitit")
    group.add_argument(
        "--logs", type=Path, default=Path("logs"), help="folder for the logs of the jobs (default: logs)"
    )
    group.add_argument(
        "--job", action="append", default=[], metavar="KEY=VALUE",
        help="option of each job: timeout_min, mem_gb, gpus_per_node, slurm_partition, slurm_array_parallelism, ...",
    )  # fmt: skip
    return parser


def shard_of(arguments: argparse.Namespace) -> tuple[int, int]:
    """Return the shard ``(number, count)`` from parsed :func:`cluster_options`."""
    return choose_shard(arguments.num_shards, arguments.shard_id)


def run_on_cluster(script: str, argv: Sequence[str] | None = None, *, more: Sequence[str | Path] = ()) -> int:
    """Run ``script`` with the command line ``argv`` (default: this process's) as one job per shard; wait for all.

    ``more``: additional arguments for each job. Returns the number of jobs that failed; each is logged with the path
    of its log. Jobs that the cluster stops (SLURM: time limit, preemption) are queued again, and the shard continues.
    Raises :class:`~medcyclegan.errors.ConfigError` without submitit, :class:`~medcyclegan.errors.UsageError` for an
    unknown job option.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    arguments, rest = cluster_options().parse_known_args(words)
    count = 1 if arguments.num_shards is None else arguments.num_shards
    choose_shard(count, 0)
    shards = range(count) if arguments.shard_id is None else [arguments.shard_id]
    executor = _build_executor(arguments, Path(script).stem)
    command = [sys.executable, str(Path(script).resolve()), *rest, *map(str, more)]
    with executor.batch():
        jobs = [
            executor.submit(_Command((*command, "--num-shards", str(count), "--shard-id", str(shard))))
            for shard in shards
        ]
    failed = 0
    for shard, job in zip(shards, jobs, strict=True):
        reason = _wait(job)
        if reason is not None:
            failed += 1
            log.error("shard %d of %d, job %s: %s; its log is %s", shard, count, job.job_id, reason, job.paths.stderr)
    return failed


def _build_executor(arguments: argparse.Namespace, name: str) -> Any:
    try:
        import submitit
    except ModuleNotFoundError:
        raise ConfigError("--cluster needs submitit: pip install 'medcyclegan[cluster]'") from None
    arguments.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    arguments.logs.chmod(0o700)
    executor = submitit.AutoExecutor(folder=arguments.logs / "%j", cluster=arguments.cluster)
    try:
        executor.update_parameters(**({"name": name, "timeout_min": 24 * 60} | _job_options(arguments.job)))
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(f"--job: {' '.join(str(error).split())}") from None
    return executor


def _job_options(words: Sequence[str]) -> dict[str, int | str]:
    options: dict[str, int | str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--job {word}: write an option of a job and its value, such as timeout_min=600")
        options[key] = int(value) if value.isdecimal() else value
    return options


def _wait(job: Any) -> str | None:
    """Return why a job failed, or None if it succeeded."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        code = job.result()
    except UncompletedJobError:
        return "was killed before it ended; run the same command again to continue"
    except FailedJobError as error:
        return str(error).strip().splitlines()[-1]
    if code < 0:
        return f"was killed by signal {-code}; run the same command again to continue"
    return None if code == 0 else f"exit code {code}"


@dataclasses.dataclass
class _Command:
    """A command line as a job of submitit; when stopped, it lets the command save its state, and is queued again."""

    arguments: tuple[str, ...]
    running: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        # SLURM signals the whole process group of a task; the command must get signals from checkpoint() only.
        self.running = subprocess.Popen(self.arguments, start_new_session="SLURM_JOB_ID" in os.environ)  # noqa: S603
        return self.running.wait()

    def checkpoint(self, *_: Any, **__: Any) -> Any:
        """Stop the command and return it for another submission; submitit calls this when a job is stopped."""
        from submitit.helpers import DelayedSubmission

        if self.running is not None:
            self.running.terminate()
            if not _ends_within(self.running.pid, _GRACE):
                os.kill(self.running.pid, signal.SIGKILL)
        return DelayedSubmission(_Command(self.arguments))


def _ends_within(pid: int, seconds: float) -> bool:
    """Wait for a child process to end without taking its exit code, which another call waits for.

    The signal handler runs inside that other call, which holds the lock of ``Popen``, so ``Popen.wait`` would block.
    """
    end = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):  # its exit code was already taken
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
    return True
