"""Two at once in one folder, locks of the dead, a worker killed by the kernel: no mixed result, nothing lost.

``python tests/reliability/torture.py concurrency``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from reliability import wholeness
from reliability.sandbox import Limits, Row, run, start
from reliability.workspace import AFFINE, make_workspace
from support.phantoms import head_ct, write_nifti

_SLICE = ["slice-volumes", "--config", "config.yaml"]


def both(work: Path, one: list[str], other: list[str]) -> list[tuple[int, str]]:
    """Start two commands at once; return exit code and standard error of each."""
    logs = [work.parent / f".both-{number}" for number in (0, 1)]
    processes = [start(arguments, work, Limits(), log) for arguments, log in zip((one, other), logs, strict=True)]
    for process in processes:
        process.join()
    return [(p.exitcode or 0, Path(f"{log}.err").read_text("utf-8")) for p, log in zip(processes, logs, strict=True)]


def _judge(name: str, ended: list[tuple[int, str]], said: str) -> list[str]:
    """At least one is done; the other too, or refused in a line that says why."""
    wrong = [f"{name}: exit {code}: {err[-300:]}" for code, err in ended
             if "Traceback" in err or (code and (code != 1 or said not in err))]  # fmt: skip
    return wrong if any(code == 0 for code, _ in ended) else [*wrong, f"{name}: neither was done"]


def slice_twice(work: Path, expected: bytes) -> list[str]:
    """Slice into one store twice at once."""
    shutil.rmtree(work / "slices", ignore_errors=True)
    (work / "slices").mkdir()
    shutil.copy(work / "made" / ".key", work / "slices" / ".key")
    wrong = _judge("two slice-volumes", both(work, _SLICE, _SLICE), "another slice-volumes is writing here")
    wrong += wholeness.faults(work / "slices")
    same = (work / "slices" / "manifest.jsonl").read_bytes() == expected
    return wrong if same else [*wrong, "two slice-volumes: the store differs from an undisturbed one"]


def train_twice(work: Path) -> list[str]:
    """Start two trainings at once, which are two runs; then resume one run twice at once."""
    shutil.rmtree(work / "runs", ignore_errors=True)
    command = ["train", "--config", "config.yaml", "--slices", "made"]
    wrong = _judge("two trains", both(work, command, command), "nothing")
    runs = [path for path in (work / "runs").iterdir() if not path.is_symlink() and not path.name.startswith(".")]
    weights = {(path / "model" / "G_AB.safetensors").read_bytes() for path in runs}
    if len(runs) != 2 or len(weights) != 1:
        wrong.append(f"two trains: {len(runs)} runs with {len(weights)} results")
    latest = (work / "runs" / "latest").resolve()
    for path in latest.glob("checkpoints/*"):
        path.unlink()
    record = json.loads((latest / "run.json").read_text())
    (latest / "run.json").write_text(json.dumps({**record, "state": "running", "step": 0}))
    resume = ["train", "--resume"]
    wrong += _judge("two resumes", both(work, resume, resume), "is being trained by another process")
    if (latest / "model" / "G_AB.safetensors").read_bytes() not in weights:
        wrong.append("two resumes: another result")
    return wrong + wholeness.faults(work / "runs")


def stale_locks(work: Path, expected: bytes, change: int = 20) -> list[str]:
    """Kill the holder of the locks before its change number ``change`` to the disk; the next continues at once."""
    shutil.rmtree(work / "slices", ignore_errors=True)
    (work / "slices").mkdir()
    shutil.copy(work / "made" / ".key", work / "slices" / ".key")
    killed = run(_SLICE, work, Limits(change=change))
    again = run(_SLICE, work)
    wrong = [] if again.kind == "done" else [f"a dead slice-volumes: {again.err[-300:]}"]
    if killed.code != -signal.SIGKILL:
        wrong.append(f"a dead slice-volumes: it ended with {killed.code} before it could be killed")
    if (work / "slices" / "manifest.jsonl").read_bytes() != expected:
        wrong.append("a dead slice-volumes: another store")
    return wrong


def killed_worker(work: Path, *, always: bool, workers: int = 8) -> list[str]:
    """Slice 12 volumes with 8 workers; SIGKILL whichever opens one of them, the first time or always."""
    folder, name = work / "many", "always" if always else "once"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(work / "slices-many", ignore_errors=True)
    for number in range(12):
        write_nifti(head_ct((40, 48, 8), AFFINE, seed=number), folder / "ct" / f"v{number:02d}.nii.gz")
    victim = write_nifti(head_ct((320, 320, 160), AFFINE), folder / "ct" / "v05.nii.gz")
    arguments = ["slice-volumes", str(folder), "--config", "config.yaml", "--out", "slices-many"]
    command = [sys.executable, "-m", "medcyclegan", *arguments, "--workers", str(workers)]
    process = subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stop = threading.Event()
    counts: Counter[str] = Counter()
    watcher = threading.Thread(target=_kill_readers, args=(process.pid, victim.resolve(), always, stop, counts))
    watcher.start()
    _, err = process.communicate(timeout=3600)
    stop.set()
    watcher.join()
    rows = (work / "slices-many" / "manifest.jsonl").read_text().splitlines()
    wrong = [] if counts["kills"] else [f"killed {name}: no worker was caught"]
    if always and (len(rows) != 11 or "v05.nii.gz refused: its worker process was killed" not in err):
        wrong.append(f"killed {name}: {len(rows)} of 12 sliced: {err[-400:]}")
    if not always and (len(rows) != 12 or process.returncode):
        wrong.append(f"killed {name}: {len(rows)} of 12 sliced, exit {process.returncode}: {err[-400:]}")
    return wrong + (["killed: a traceback"] if "Traceback" in err else [])


def _kill_readers(parent: int, victim: Path, always: bool, stop: threading.Event, counts: Counter[str]) -> None:
    while not stop.is_set():
        for child in _descendants(parent):
            if _has_open(child, victim):
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:  # it has ended in the meantime
                    continue
                counts["kills"] += 1
                if not always:
                    return
        time.sleep(0.002)


def _descendants(parent: int) -> list[int]:
    """Return the processes below a process; workers are children of the one that they are forks of."""
    found = []
    try:
        for task in Path(f"/proc/{parent}/task").iterdir():
            for pid in map(int, (task / "children").read_text().split()):
                found += [pid, *_descendants(pid)]
    except OSError:
        return found
    return found


def _has_open(pid: int, file: Path) -> bool:
    try:
        return any(os.readlink(entry.path) == str(file) for entry in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def measure(rounds: int = 10) -> Row:
    """Return the row of the table."""
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        work = make_workspace(Path(root, "work"))
        outcome = run([*_SLICE, "--out", "made"], work)
        assert outcome.kind == "done", outcome.err
        expected = (work / "made" / "manifest.jsonl").read_bytes()
        for number in range(rounds):
            wrong += slice_twice(work, expected) + stale_locks(work, expected, 4 + 4 * number)
            wrong += train_twice(work) if number % 3 == 0 else []
            print(f"  round {number + 1} of {rounds}: {len(wrong)} wrong", flush=True)
        kills = max(2, rounds // 3)
        for number in range(kills):
            wrong += killed_worker(work, always=number % 2 == 1)
            print(f"  worker killed in {number + 1} of {kills} runs: {len(wrong)} wrong", flush=True)
    pairs = rounds + 2 * len(range(0, rounds, 3))
    figure = f"{pairs} pairs at once, {rounds} dead holders, {kills} times 8 workers with one killed: "
    return Row("concurrency", f"{figure}{len(wrong)} mixed, lost or unclear", wrong)
