"""Start the command line in forks of a process that has done the imports, for scripts that start it very often.

Also the process that translates is forked instead of spawned. Everything else is what a user runs.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import types
from multiprocessing.connection import Connection
from pathlib import Path


class Forks:
    """Forks commands; their exit codes are written to ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tests = Path(__file__).parents[1]
        code = (
            f"import sys; sys.path.insert(0, {str(tests)!r}); from support import forked_services as f; f.serve_forks()"
        )
        command = [sys.executable, "-c", code, str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, words: list[str]) -> int:
        """Run ``medcyclegan WORDS`` in a new process; return its id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def exit_code(self, process: int) -> int | None:
        """Return the exit code of an ended process; None if it was killed."""
        file = self.folder / f"exit-{process}"
        return int(file.read_text()) if file.exists() else None

    def close(self) -> None:
        """End the process that forks."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def is_alive(process: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait(process: int) -> None:
    """Wait until a process has ended."""
    while is_alive(process):
        time.sleep(0.01)


#: The ends of pipes that a forked process inherits; while it holds them, it does not see that the service has ended.
_ends: list[Connection] = []


def _pipe() -> tuple[Connection, Connection]:
    ours, theirs = multiprocessing.Pipe()
    _ends.append(ours)
    return ours, theirs


def _close_inherited() -> None:
    """Close what a spawned process would not have: ends of pipes, the queue's lock, and sockets of the service."""
    for end in _ends:
        end.close()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.endswith("/lock"):
                os.close(int(name))
            elif target.startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as copy:
                    if copy.family == socket.AF_INET:
                        os.close(int(name))


def serve_forks() -> None:
    """Fork a command for each line of stdin; print the id of its process."""
    import medcyclegan.inference
    import medcyclegan.service.node  # noqa: F401
    from medcyclegan.cli.main import main

    spawned = multiprocessing.get_context
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended processes leave no zombies
    for line in sys.stdin:
        process = os.fork()
        if process:
            print(process, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.register_at_fork(after_in_child=_close_inherited)
        fork = types.SimpleNamespace(Pipe=_pipe, Process=spawned("fork").Process)
        multiprocessing.get_context = lambda _name=None, fork=fork: fork
        code = 1
        with contextlib.suppress(SystemExit):
            try:
                main(json.loads(line))
            except SystemExit as ended:
                code = int(ended.code or 0)
        Path(sys.argv[1], f"exit-{os.getpid()}").write_text(str(code))
        os._exit(code)
