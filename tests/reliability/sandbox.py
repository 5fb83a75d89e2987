"""Commands run as processes that can be limited and killed, without paying for the imports each time.

A fork server (:mod:`multiprocessing`) imports the package once; every command is a fork of it.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_PRELOADED = [
    "reliability.sandbox",
    "medcyclegan.cli.main",
    "medcyclegan.training",
    "medcyclegan.export",
    "medcyclegan.report",
    "medcyclegan.io.dicom_write",
    "medcyclegan.io.other",
    "medcyclegan.io.images",
]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(_PRELOADED)
#: A command that takes longer hangs.
LONGEST_S = 120.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a command: exit code (negative: the signal that killed it), what it said, seconds, peak MB."""

    code: int
    out: str
    err: str
    seconds: float
    peak_mb: float
    timed_out: bool = False

    @property
    def kind(self) -> str:
        """``done``, ``refused`` (one line and exit code 1 or 2), ``traceback``, ``hang`` or ``crash``."""
        if self.timed_out:
            return "hang"
        if "Traceback (most recent call last)" in self.err:
            return "traceback"
        if self.code == 0:
            return "done"
        last = self.err.strip().splitlines()[-1:] or [""]
        return "refused" if self.code in (1, 2) and last[0].startswith("Error: ") else "crash"


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a command: seconds until it counts as hung, until it is killed; address space, file size."""

    seconds: float = LONGEST_S
    kill_after: float | None = None
    memory_mb: int | None = None
    file_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: what was done, its figure, and what was wrong (nothing, it is hoped)."""

    name: str
    figure: str
    wrong: list[str]

    def show(self) -> int:
        """Print the row and what was wrong; return the exit code."""
        for fault in self.wrong[:40]:
            print(f"  wrong: {fault}")
        print(f"{self.name}: {self.figure}", flush=True)
        return int(bool(self.wrong))


def start(arguments: Sequence[str], folder: Path, limits: Limits, log: Path) -> BaseProcess:
    """Start ``medcyclegan ARGUMENTS`` in ``folder``; what it says goes to ``log``.out and ``log``.err."""
    process = _CONTEXT.Process(target=_command, args=(list(arguments), str(folder), limits, str(log)))
    process.start()
    return process


def run(arguments: Sequence[str], folder: Path, limits: Limits | None = None) -> Outcome:
    """Run ``medcyclegan ARGUMENTS`` in ``folder`` to its end, or to its limits."""
    limits = limits or Limits()
    log = folder.parent / f".log-{os.getpid()}"
    began = time.monotonic()
    process = start(arguments, folder, limits, log)
    process.join(limits.kill_after if limits.kill_after is not None else limits.seconds)
    alive = process.is_alive()
    if alive:
        process.kill()
        process.join()
    seconds = time.monotonic() - began
    texts = {}
    for name in ("out", "err", "peak"):
        file = Path(f"{log}.{name}")
        texts[name] = file.read_text("utf-8", "replace") if file.exists() else ""
        file.unlink(missing_ok=True)
    code = process.exitcode if process.exitcode is not None else -signal.SIGKILL
    process.close()
    timed_out = alive and limits.kill_after is None
    return Outcome(code, texts["out"], texts["err"], seconds, float(texts["peak"] or 0), timed_out)


def _command(arguments: list[str], folder: str, limits: Limits, log: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
    os.chdir(folder)
    import torch

    torch.set_num_threads(1)
    if limits.memory_mb is not None:
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_mb << 20,) * 2)
    if limits.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes,) * 2)
    from medcyclegan.cli.main import main

    sys.argv = ["medcyclegan", *arguments]
    code = 0
    try:
        main(arguments, prog_name="medcyclegan")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if limits.file_bytes is None:
        Path(f"{log}.peak").write_text(str(peak_mb()))
    os._exit(code)


def peak_mb() -> float:
    """Return the largest resident size that this process had, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0
