"""Run a federated job in the simulator of NVIDIA FLARE, as docs/howto/federated.md describes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

__all__ = ["finish", "kill_all", "start_simulator"]


def start_simulator(job: Path, workspace: Path, sites: Path, names: Sequence[str]) -> subprocess.Popen:
    """Start the simulator with the sites ``names``, whose slices and runs are in ``sites/<name>``.

    What it prints is written to ``simulator.txt`` beside ``workspace``.
    """
    (workspace / "local").mkdir(parents=True, exist_ok=True)
    classes = [f"medcyclegan.federated.flare.{name}" for name in ("FederatedTraining", "SiteExecutor")]
    allowed = {"class_allow_list": classes, "allow_log_streaming": False}
    (workspace / "local" / "resources.json").write_text(json.dumps(allowed))
    places = {"MEDCYCLEGAN_SLICES": f"{sites}/{{site}}/slices", "MEDCYCLEGAN_RUNS": f"{sites}/{{site}}/runs"}
    command = [sys.executable, "-m", "nvflare.cli", "simulator", str(job), "-w", str(workspace)]
    with (workspace.parent / "simulator.txt").open("wb") as printed:
        return subprocess.Popen(
            [*command, "-c", ",".join(names), "-t", str(len(names))],
            env={**os.environ, **places, "OMP_NUM_THREADS": "1", "MEDCYCLEGAN_DEVICE": "cpu"},
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(process: subprocess.Popen, workspace: Path, timeout_s: float = 300.0) -> str:
    """Wait for the end of the simulator; return what it printed."""
    try:
        process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        kill_all(process)
        raise
    return (workspace.parent / "simulator.txt").read_text("utf-8", errors="replace")


def kill_all(process: subprocess.Popen) -> None:
    """Kill the simulator with all of its processes, as a power failure does."""
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()
