"""Jobs: if the cluster stops a job, its command saves its state, and the job is queued again."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from medcyclegan.cohort.cluster import _Command

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'medcyclegan[cluster]'")

SAVES = """
import signal, sys, time
def save(*_):
    open(sys.argv[1], "w").write("saved")
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
open(sys.argv[1], "w").write("running")
time.sleep(60)
"""


class TakenBackError(Exception):
    """Act as the handler of submitit after the checkpoint, which does not return to the job."""


def test_a_job_that_is_taken_back_saves_at_once_and_is_queued_again(tmp_path):
    """The signal arrives while the job waits for its command, as with submitit."""
    place = tmp_path / "state"
    command = _Command((sys.executable, "-c", SAVES, str(place)))
    again = []

    def take_back(number, frame):
        again.append(command.checkpoint())
        raise TakenBackError

    def signal_when_it_runs():
        while not place.exists() or place.read_text() != "running":
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, take_back)
    started = time.monotonic()
    try:
        threading.Thread(target=signal_when_it_runs).start()
        with pytest.raises(TakenBackError):
            command()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert place.read_text() == "saved"
    assert time.monotonic() - started < 30, "it does not wait out the whole grace"
    assert again[0].function.arguments == command.arguments
    assert again[0].function.running is None
    assert command.running.wait() == 1


def test_a_command_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("medcyclegan.cohort.cluster._GRACE", 0.3)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    command = _Command((sys.executable, "-c", stubborn))
    command.running = subprocess.Popen(command.arguments, stdout=subprocess.PIPE)
    command.running.stdout.readline()
    command.checkpoint()
    assert command.running.wait(10) == -signal.SIGKILL
    command.running.stdout.close()
