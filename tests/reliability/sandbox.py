"""Commands run as processes that can be limited and killed, without paying for the imports each time.

A fork server (:mod:`multiprocessing`) imports the package once; every command is a fork of it. Seconds here are a
process's own: the time in which it waited for a processor that others had is left out, so that on a busy machine
moments stay where they are in the work, and nothing counts as hung because others run.
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
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

_PRELOADED = [
    "reliability.sandbox",
    "medcyclegan.cli.main",
    "medcyclegan.training",
    "medcyclegan.export",
    "medcyclegan.report",
    "medcyclegan.io.dicom.write.series",
    "medcyclegan.io.itk.write",
    "medcyclegan.io.images",
    "matplotlib.backends.backend_agg",
    "networkx",
    "torch._dynamo",
    "torch.onnx._internal.exporter._core",
]
_CONTEXT = multiprocessing.get_context("forkserver")
_own_server: list[int | None] = [None]
#: A command that takes longer hangs.
LONGEST_S = 120.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a command: exit code (negative: the signal that killed it), what it said, seconds, peak MB.

    ``changes``: how often it was about to change the disk, where that was counted and it was not killed.
    """

    code: int
    out: str
    err: str
    seconds: float
    peak_mb: float
    timed_out: bool = False
    changes: int = 0

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
    """Limits of a command: seconds until it counts as hung, until it is killed; address space, file size.

    ``change``: it is killed when it is about to change the disk for the time of this number; 0 only counts.
    """

    seconds: float = LONGEST_S
    kill_after: float | None = None
    memory_mb: int | None = None
    file_bytes: int | None = None
    change: int | None = None


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
    _begin_server()
    process = _CONTEXT.Process(target=_command, args=(list(arguments), str(folder), limits, str(log)))
    process.start()
    return process


def _begin_server() -> None:
    """Have a fork server with all that commands import: that of another part of this process may have less."""
    server = forkserver._forkserver
    if server._forkserver_pid is None or server._forkserver_pid != _own_server[0]:
        server._stop()
        _CONTEXT.set_forkserver_preload(_PRELOADED)
        server.ensure_running()
        _own_server[0] = server._forkserver_pid


def run(arguments: Sequence[str], folder: Path, limits: Limits | None = None) -> Outcome:
    """Run ``medcyclegan ARGUMENTS`` in ``folder`` to its end, or to its limits."""
    limits = limits or Limits()
    log = folder.parent / f".log-{os.getpid()}"
    process = start(arguments, folder, limits, log)
    seconds, alive = _wait(process, limits.seconds if limits.kill_after is None else limits.kill_after)
    texts = {}
    for name in ("out", "err", "end"):
        file = Path(f"{log}.{name}")
        texts[name] = file.read_text("utf-8", "replace") if file.exists() else ""
        file.unlink(missing_ok=True)
    peak, changes = (texts["end"] or "0 0").split()
    code = process.exitcode if process.exitcode is not None else -signal.SIGKILL
    process.close()
    timed_out = alive and limits.kill_after is None
    return Outcome(code, texts["out"], texts["err"], seconds, float(peak), timed_out, int(changes))


def _wait(process: BaseProcess, seconds: float) -> tuple[float, bool]:
    """Wait until a process ends, or has had its ``seconds``: then kill it. Return its seconds and whether it was."""
    began, own = time.monotonic(), 0.0
    while process.is_alive():
        own = max(own, time.monotonic() - began - _waited(process.pid))
        if own >= seconds:
            process.kill()
            process.join()
            return own, process.exitcode == -signal.SIGKILL
        process.join(max(0.001, min(1.0, seconds - own)))
    return own, False


def _waited(pid: int | None) -> float:
    """Return for how many seconds a process was ready to run but did not; 0 where the kernel does not say."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


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

    changes = [0]
    if limits.change is not None:
        sys.addaudithook(lambda event, values: _before(event, values, changes, limits.change))
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
        end, changes[0] = f"{peak_mb()} {changes[0]}", -1_000_000
        Path(f"{log}.end").write_text(end)
    os._exit(code)


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGING = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}


def _before(event: str, values: tuple[object, ...], changes: list[int], last: int | None) -> None:
    """Count what is about to change the disk (PEP 578), and be killed before number ``last``."""
    writing = event == "open" and isinstance(values[2], int) and values[2] & _WRITING
    if event in _CHANGING or (writing and not isinstance(values[0], int) and not str(values[0]).startswith("/dev/")):
        changes[0] += 1
        if changes[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)


def peak_mb() -> float:
    """Return the largest resident size that this process had, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0
