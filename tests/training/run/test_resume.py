"""An interrupted run resumes bit-identically; which settings may change in between and which are refused."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch
from support.run_folders import record_of, rows_of, weights_of, with_training

from medcyclegan.errors import TrainingError
from medcyclegan.training import train
from medcyclegan.training.run.folder import RunFolder


@pytest.mark.parametrize("lost", [2, 8, 13, 16])
def test_a_killed_run_ends_in_the_weights_of_one_that_was_not(whole_run, lost, cut_short) -> None:
    broken = cut_short(lost)
    assert record_of(broken)["state"] == "failed"
    run = train(resume=broken, device="cpu")
    assert weights_of(run) == weights_of(whole_run)
    assert rows_of(run) == rows_of(whole_run)
    record = record_of(run)
    assert record["state"] == "finished"
    assert [s["first_step"] for s in record["sessions"]] == [0, lost // 5 * 5]
    assert "reason" not in record


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_first_and_the_message_explains_how_to_continue(
    whole_run, store, tiny, tmp_path, interrupt, number, monkeypatch
) -> None:
    handler = signal.getsignal(number)
    interrupt(7, lambda: os.kill(os.getpid(), number))
    message = f"stopped by {number.name} after step 8 of 17.*continue with medcyclegan train --resume .*runs"
    with pytest.raises(TrainingError, match=message):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert signal.getsignal(number) is handler
    monkeypatch.undo()
    stopped = tmp_path / "runs" / "latest"
    assert record_of(stopped)["state"] == "stopped"
    assert (stopped / "checkpoints" / "step-000008.pt").exists()
    assert (stopped / "model" / "model.json").exists()
    run = train(out=tmp_path / "runs", resume=True, device="cpu")
    assert weights_of(run) == weights_of(whole_run)
    assert rows_of(run) == rows_of(whole_run)


def test_a_damaged_checkpoint_falls_back_to_the_previous_one(whole_run, caplog, cut_short) -> None:
    latest = cut_short(11)
    path = latest / "checkpoints" / "step-000010.pt"
    path.write_bytes(path.read_bytes()[:-1])
    run = train(resume=latest, device="cpu")
    assert "step-000010.pt is damaged" in caplog.text
    assert record_of(run)["sessions"][1]["first_step"] == 5
    assert weights_of(run) == weights_of(whole_run)
    assert rows_of(run) == rows_of(whole_run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_before_a_first_step_has_ended_a_signal_stops_at_once(
    whole_run, store, tiny, tmp_path, interrupt, number, monkeypatch
) -> None:
    """The first step may compile for minutes, and there is nothing to save."""
    interrupt(0, lambda: os.kill(os.getpid(), number))
    message = f"stopped by {number.name} without saving; the last checkpoint is of step 0 of 17: .* --resume .*runs"
    with pytest.raises(TrainingError, match=message):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    run = tmp_path / "runs" / "latest"
    record = record_of(run)
    assert (record["state"], record["step"]) == ("stopped", 0)
    assert "interrupted" in record["reason"]
    assert record["sessions"][0]["data_wait"] == 0
    assert not list((run / "checkpoints").glob("*"))
    assert weights_of(train(resume=run, device="cpu")) == weights_of(whole_run)


def test_a_second_ctrl_c_stops_in_the_middle_of_a_step(
    whole_run, store, tiny, tmp_path, interrupt, monkeypatch, caplog
) -> None:
    caplog.set_level("INFO")

    def press_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert "SIGINT: finishing and saving the current step first; a second Ctrl-C stops immediately" in caplog.text
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still here")

    interrupt(12, press_twice)
    with pytest.raises(TrainingError, match=r"stopped by SIGINT without saving; the last checkpoint is of step 10 of"):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    run = tmp_path / "runs" / "latest"
    assert record_of(run)["state"] == "stopped"
    assert 0 <= record_of(run)["sessions"][0]["data_wait"] <= 1
    assert weights_of(train(resume=run, device="cpu")) == weights_of(whole_run)
    assert "reason" not in record_of(run)


def test_ctrl_c_before_there_is_a_run_leaves_none(store, tiny, tmp_path, monkeypatch) -> None:
    """For example while it tests whether networks can be compiled."""
    monkeypatch.setattr(torch, "compile", lambda *_arguments, **_options: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(TrainingError, match="stopped by SIGINT before the first step: nothing was trained"):
        train(store, config=with_training(tiny, compile="on"), out=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_a_report_that_checks_the_lock_does_not_keep_a_run_from_continuing(cut_short) -> None:
    latest = cut_short(2)
    with (latest / ".lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        released = threading.Timer(0.07, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        released.start()
        with RunFolder(latest).lock():
            pass
        released.join()


def test_a_finished_run_is_left_as_it_is(whole_run, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert train(resume=run) == run
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert "is finished after 17 steps" in caplog.text


def test_a_run_killed_between_the_last_checkpoint_and_the_end_is_completed(whole_run, store, tmp_path) -> None:
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    expected = weights_of(run)
    record = record_of(run) | {"state": "running", "step": 15}
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    (run / "model" / "G_AB.safetensors").unlink()
    train(store, resume=run, device="cpu")
    assert weights_of(run) == expected
    assert record_of(run)["state"] == "finished"
    assert record_of(run)["step"] == 17


def test_a_torn_last_row_and_leftovers_of_a_kill_are_removed(whole_run, cut_short) -> None:
    latest = cut_short(9)
    with (latest / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "ep')
    (latest / "checkpoints" / ".tmp-12345678-step-000010.pt").write_bytes(b"half")
    run = train(resume=latest, device="cpu")
    assert rows_of(run) == rows_of(whole_run)
    assert not list(run.rglob(".tmp-*"))


def test_two_processes_cannot_train_one_run(cut_short) -> None:
    latest = cut_short(2)
    with (latest / ".lock").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="is being trained by another process"):
            train(resume=latest)
    assert record_of(train(resume=latest, device="cpu"))["state"] == "finished"


def test_resume_refuses_a_store_that_has_changed(store, cut_short) -> None:
    latest = cut_short(6)
    manifest = store / "manifest.jsonl"
    manifest.write_text(manifest.read_text("utf-8").replace('"upper":100.0', '"upper":90.0'), "utf-8")
    with pytest.raises(TrainingError, match="has changed since"):
        train(resume=latest)


def edit(run: Path, *changes: tuple[str, str]) -> None:
    """Replace text in a run's configuration, as a user would."""
    text = (run / "config.yaml").read_text("utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (run / "config.yaml").write_text(text, "utf-8")


def test_before_the_first_checkpoint_the_record_follows_what_was_edited(cut_short) -> None:
    latest = cut_short(2)
    edit(latest, ("seed: 0", "seed: 3"), ("batch_size: 2", "batch_size: 1"))
    record = json.loads((train(resume=latest) / "run.json").read_text("utf-8"))
    slices = max(record["training_slices"].values())
    assert (record["seed"], record["epoch_length"]) == (3, slices)


def test_resume_names_what_was_edited_and_refuses_what_cannot_change(caplog, cut_short) -> None:
    caplog.set_level("INFO")
    latest = cut_short(6)
    edit(latest, ("learning_rate: 0.001", "learning_rate: 0.002"), ("cycle_weight: 10.0", "cycle_weight: 3.0"))
    both = (
        r"cycle_weight was 10.0 .* and is 3.0 now; training.learning_rate was 0.001 at the checkpoint and is 0.002 now"
    )
    with pytest.raises(TrainingError, match=both):
        train(resume=latest)
    edit(latest, ("learning_rate: 0.002", "learning_rate: 0.001"), ("cycle_weight: 3.0", "cycle_weight: 10.0"))
    edit(latest, ("max_steps: 17", "max_steps: 30"))
    with pytest.raises(
        TrainingError,
        match=r"max_steps was 17 .* is 30 now \(schedule linear: the learning rate of every step depends on it",
    ):
        train(resume=latest)
    edit(latest, ("max_steps: 30", "max_steps: 17"), ("panel_every: 100", "panel_every: 16"))
    edit(latest, ("slices_on_device: auto", "slices_on_device: 'on'"))
    run = train(resume=latest, device="cpu")
    assert "training.panel_every was 100 at the checkpoint and is 16 now" in caplog.text
    assert "training.slices_on_device was auto at the checkpoint and is on now" in caplog.text
    assert (run / "panels" / "step-000016.png").exists()


def test_a_finished_run_of_constant_rate_continues_if_it_is_given_more_steps(store, tiny, tmp_path) -> None:
    constant = with_training(tiny, schedule="constant", max_steps=12)
    longer = train(store, config=with_training(constant, max_steps=17), out=tmp_path / "longer", device="cpu")
    run = train(store, config=constant, out=tmp_path / "runs", device="cpu")
    assert record_of(run)["steps"] == 12
    edit(run, ("max_steps: 12", "max_steps: 17"))
    train(resume=run, device="cpu")
    assert (record_of(run)["state"], record_of(run)["step"], record_of(run)["steps"]) == ("finished", 17, 17)
    first, second = (torch.load(r / "checkpoints" / "step-000017.pt", weights_only=True) for r in (run, longer))
    assert all(torch.equal(first["networks"][name], second["networks"][name]) for name in first["networks"])
    edit(run, ("max_steps: 17", "max_steps: 5"))
    assert train(resume=run) == run  # finished, and steps cannot be undone: left unchanged


def test_a_session_that_computes_differently_is_reported(whole_run, store, tmp_path, caplog) -> None:
    """Compiled networks, other torch versions and other numbers of threads round differently."""
    caplog.set_level("INFO")
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    record = record_of(run) | {"state": "running"}
    record["sessions"][-1]["compiled"] = True
    record["sessions"][-1]["versions"]["torch"] = "1.0"
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    train(store, resume=run, device="cpu")
    (said,) = (text for text in caplog.messages if "computed differently from the last session" in text)
    assert "compiled True, now False; torch 1.0, now " in said
    caplog.clear()
    (run / "run.json").write_text(json.dumps(record_of(run) | {"state": "running"}), "utf-8")
    train(store, resume=run, device="cpu")
    assert "computed differently" not in caplog.text


def test_a_moved_workspace_resumes(store, tmp_path, cut_short) -> None:
    (tmp_path / "here").mkdir()
    store.rename(tmp_path / "here" / "slices")
    cut_short(6, tmp_path / "here" / "slices", tmp_path / "here" / "runs")
    (tmp_path / "here").rename(tmp_path / "there")
    run = train(resume=tmp_path / "there" / "runs" / "latest")
    assert record_of(run)["state"] == "finished"
