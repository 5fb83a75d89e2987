"""The state of a run: as recorded, and after its process was killed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from medcyclegan.errors import ReadError
from medcyclegan.run_record import load_run_record, run_state


def test_a_run_is_running_while_a_process_holds_it(tmp_path: Path) -> None:
    record = {"state": "running"}
    assert run_state(tmp_path, record) == "interrupted", "nobody ever held it"
    with (tmp_path / ".lock").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run_state(tmp_path, record) == "running"
    assert run_state(tmp_path, record) == "interrupted"


def test_looking_does_not_hold_it(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    run_state(tmp_path, {"state": "running"})
    with (tmp_path / ".lock").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("state", ["finished", "failed", "stopped"])
def test_what_was_recorded_at_an_end_stays(tmp_path: Path, state: str) -> None:
    assert run_state(tmp_path, {"state": state}) == state


def test_a_record_without_a_state_has_an_unknown_one(tmp_path: Path) -> None:
    assert run_state(tmp_path, {}) == "unknown"


def test_the_record_is_believed_if_the_lock_cannot_be_checked(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_arguments) -> None:
        raise OSError(38, os.strerror(38))

    (tmp_path / ".lock").touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run_state(tmp_path, {"state": "running"}) == "running"


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"run\.json cannot be read.*name the folder of a training run"):
        load_run_record(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ReadError, match=r"run\.json is not a training run's record"):
        load_run_record(tmp_path)
