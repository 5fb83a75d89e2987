"""A run from start to end: its folder, its resumption to the bit, its refusals."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from medcyclegan.config import Config, load_config, parse_config
from medcyclegan.errors import StoreError, TrainingError, UsageError, WriteError
from medcyclegan.inference import ModelBundle
from medcyclegan.inference.training_set import TrainingSet
from medcyclegan.provenance import hash_file
from medcyclegan.training import train
from medcyclegan.training.run_folder import create_run
from medcyclegan.training.step import CycleGANStep

TIMINGS = ("seconds_per_step", "images_per_second", "data_wait")


def with_values(config: Config, **training) -> Config:
    values = config.model_dump(mode="json")
    values["training"].update(training)
    return parse_config(values, "test")


def rows_of(run: Path) -> list[dict]:
    """Return the rows of metrics.jsonl without what depends on the clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]


def weights_of(run: Path) -> dict[str, str]:
    return {name: hash_file(run / "model" / f"{name}.safetensors") for name in ("G_AB", "G_BA")}


def record_of(run: Path) -> dict:
    return json.loads((run / "run.json").read_text("utf-8"))


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function that makes the step after ``count`` more of them do something else first."""

    def set_up(count: int, action) -> None:
        original = CycleGANStep.__call__
        calls = []

        def step(self, engine, batch):
            calls.append(1)
            if len(calls) == count + 1:
                action()
            return original(self, engine, batch)

        monkeypatch.setattr(CycleGANStep, "__call__", step)

    yield set_up
    monkeypatch.undo()


class PowerCutError(Exception):
    """Stands for whatever ends a run without a word."""


def cut_power() -> None:
    raise PowerCutError


def test_a_run_leaves_what_the_design_says(store: Path, tiny: Config, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    run = train(store, config=with_values(tiny, panel_every=10), out=tmp_path / "runs", device="cpu")
    assert re.fullmatch(r"\d{8}-\d{6}", run.name)
    assert os.readlink(tmp_path / "runs" / "latest") == run.name
    assert sorted(p.name for p in (run / "panels").iterdir()) == ["step-000010.png", "step-000017.png"]
    kept = ["step-000015.pt", "step-000015.pt.sha256", "step-000017.pt", "step-000017.pt.sha256"]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == kept
    assert not list(run.rglob(".tmp-*"))
    config = load_config(run / "config.yaml")
    assert yaml.safe_load((run / "config.yaml").read_text("utf-8")) == config.model_dump(mode="json")
    assert config.slicing.size == 32
    record = record_of(run)
    assert (record["state"], record["step"], record["steps"]) == ("finished", 17, 17)
    assert record["training_slices"] == {"t1": 7, "t2": 5}
    assert record["sessions"][0]["versions"]["torch"] == torch.__version__
    assert record["sessions"][0]["device"] == "cpu"
    assert str(tmp_path) not in json.dumps(record)
    assert "7 and 5 slices: 17 steps of 2 + 2 slices, 4.25 epochs, on cpu in fp32" in caplog.text
    assert "--config demo" in caplog.text
    assert "--config smoke" in caplog.text


def test_metrics_rows_hold_means_rates_and_validations(whole_run, store: Path, tiny: Config, tmp_path: Path) -> None:
    each = rows_of(train(store, config=with_values(tiny, log_every=1), out=tmp_path / "a", device="cpu"))
    every_fourth = rows_of(whole_run)
    validations = [row["step"] for row in every_fourth if "validation_cycle_A" in row]
    assert validations == [8, 16, 17]
    assert all(row["validation_cycle_B"] > 0 for row in every_fourth if "validation_cycle_A" in row)
    losses = [row for row in every_fourth if "generators" in row]
    assert [row["step"] for row in losses] == [4, 8, 12, 16, 17]
    single = {row["step"]: row for row in each if "generators" in row}
    for name in ("generators", "cycle_A", "identity_B", "adversarial_AB", "discriminator_A"):
        assert losses[1][name] == pytest.approx(np.mean([single[step][name] for step in (5, 6, 7, 8)]))
    assert single[1]["learning_rate"] == 1e-3
    assert single[17]["learning_rate"] == pytest.approx(1e-3 / 9)
    raw = json.loads((whole_run / "metrics.jsonl").read_text("utf-8").splitlines()[0])
    assert raw["seconds_per_step"] > 0
    assert raw["images_per_second"] == pytest.approx(4 / raw["seconds_per_step"], rel=0.01)
    assert 0 <= raw["data_wait"] <= 1


def test_the_model_holds_all_that_translation_needs(whole_run: Path) -> None:
    bundle = ModelBundle.load(whole_run / "model")
    assert [domain.name for domain in bundle.domains] == ["t1", "t2"]
    assert bundle.domains[0].modality == "MR"
    assert bundle.domains[0].scaling.upper == 100.5  # the median of 100 and 101; the held-out 102 does not count
    assert bundle.preparation.size == 32
    assert bundle.provenance["steps"] == 17
    assert bundle.provenance["training_volumes"] == {"t1": 2, "t2": 1}
    checkpoint = torch.load(whole_run / "checkpoints" / "step-000017.pt", weights_only=True)
    for name in ("G_AB", "G_BA"):
        for key, tensor in bundle.weights[name].items():
            assert torch.equal(tensor, checkpoint["averages"][name][key])
            assert not torch.equal(tensor, checkpoint["networks"][f"{name}.{key}"])


def test_the_model_knows_what_its_training_set_was_like(whole_run: Path) -> None:
    known = ModelBundle.load(whole_run / "model").provenance["training_set"]
    for name in ("t1", "t2"):
        described = TrainingSet.from_dict(known[name])
        assert described.volumes > 0
        assert -1 <= min(described.histogram) < max(described.histogram) <= 1


def test_two_runs_give_the_same_bytes_and_leave_the_random_state_alone(whole_run, store, tiny, tmp_path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    second = train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert weights_of(second) == weights_of(whole_run)
    assert rows_of(second) == rows_of(whole_run)


def test_looking_at_the_networks_does_not_change_them(whole_run, store, tiny, tmp_path) -> None:
    watched = with_values(tiny, panel_every=1, log_every=1, checkpoint_steps=3)
    watched = watched.model_copy(update={"validation": tiny.validation.model_copy(update={"every_epochs": 0.1})})
    run = train(store, config=watched, out=tmp_path / "runs", device="cpu")
    assert len(list((run / "panels").iterdir())) == 17
    assert len([row for row in rows_of(run) if "validation_cycle_A" in row]) == 17
    assert weights_of(run) == weights_of(whole_run)


def test_without_tensorboard_it_says_so_and_trains(store, tiny, tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level("INFO")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = train(store, config=tiny, out=tmp_path / "runs", max_steps=2, device="cpu")
    assert "TensorBoard is not installed" in caplog.text
    assert not (run / "tensorboard").exists()


def test_tensorboard_holds_the_losses_and_the_panels(store, tiny, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(store, config=tiny, out=tmp_path / "runs", max_steps=5, device="cpu")
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("generators")] == [4, 5]
    assert [event.step for event in events.Scalars("validation_cycle_A")] == [5]
    assert [event.step for event in events.Images("panel")] == [5]
    names = [path.name for path in (run / "tensorboard").iterdir()]
    assert names
    assert not [name for name in names if socket.gethostname() in name.split(".")]


@pytest.mark.parametrize("lost", [2, 8, 13, 16])
def test_a_killed_run_ends_in_the_weights_of_one_that_was_not(
    whole_run, store, tiny, tmp_path, interrupt, lost, monkeypatch
) -> None:
    interrupt(lost, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    broken = tmp_path / "runs" / "latest"
    assert record_of(broken)["state"] == "failed"
    run = train(resume=broken, device="cpu")
    assert weights_of(run) == weights_of(whole_run)
    assert rows_of(run) == rows_of(whole_run)
    record = record_of(run)
    assert record["state"] == "finished"
    assert [s["first_step"] for s in record["sessions"]] == [0, lost // 5 * 5]
    assert "reason" not in record


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_first_and_says_how_to_go_on(
    whole_run, store, tiny, tmp_path, interrupt, number, monkeypatch
) -> None:
    handler = signal.getsignal(number)
    interrupt(7, lambda: os.kill(os.getpid(), number))
    message = f"stopped by {number.name} after step 8 of 17.*go on with medcyclegan train --resume .*runs"
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


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    whole_run, store, tiny, tmp_path, interrupt, monkeypatch, caplog
) -> None:
    interrupt(11, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    latest = tmp_path / "runs" / "latest"
    path = latest / "checkpoints" / "step-000010.pt"
    path.write_bytes(path.read_bytes()[:-1])
    run = train(resume=latest, device="cpu")
    assert "step-000010.pt is damaged" in caplog.text
    assert record_of(run)["sessions"][1]["first_step"] == 5
    assert weights_of(run) == weights_of(whole_run)
    assert rows_of(run) == rows_of(whole_run)


def test_a_finished_run_is_left_as_it_is(whole_run, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert train(resume=run) == run
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert "is finished, 17 of 17 steps" in caplog.text


def test_a_kill_between_the_last_checkpoint_and_the_end_is_mended(whole_run, store, tmp_path) -> None:
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    expected = weights_of(run)
    record = record_of(run) | {"state": "running", "step": 15}
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    (run / "model" / "G_AB.safetensors").unlink()
    train(store, resume=run, device="cpu")
    assert weights_of(run) == expected
    assert record_of(run)["state"] == "finished"
    assert record_of(run)["step"] == 17


def test_a_torn_last_row_and_leftovers_of_a_kill_are_removed(
    whole_run, store, tiny, tmp_path, interrupt, monkeypatch
) -> None:
    interrupt(9, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    latest = tmp_path / "runs" / "latest"
    with (latest / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "ep')
    (latest / "checkpoints" / ".tmp-12345678-step-000010.pt").write_bytes(b"half")
    run = train(resume=latest, device="cpu")
    assert rows_of(run) == rows_of(whole_run)
    assert not list(run.rglob(".tmp-*"))


def test_two_processes_cannot_train_one_run(store, tiny, tmp_path, interrupt, monkeypatch) -> None:
    interrupt(2, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    latest = tmp_path / "runs" / "latest"
    with (latest / ".lock").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="is being trained by another process"):
            train(resume=latest)
    assert record_of(train(resume=latest, device="cpu"))["state"] == "finished"


def test_resume_refuses_a_store_that_has_changed(store, tiny, tmp_path, interrupt, monkeypatch) -> None:
    interrupt(6, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    manifest = store / "manifest.jsonl"
    manifest.write_text(manifest.read_text("utf-8").replace('"upper":100.0', '"upper":90.0'), "utf-8")
    with pytest.raises(TrainingError, match="has changed since"):
        train(resume=tmp_path / "runs" / "latest")


def edit(run: Path, *changes: tuple[str, str]) -> None:
    """Replace text in a run's configuration, as its owner would."""
    text = (run / "config.yaml").read_text("utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (run / "config.yaml").write_text(text, "utf-8")


def test_before_the_first_checkpoint_the_record_follows_what_was_edited(
    store, tiny, tmp_path, interrupt, monkeypatch
) -> None:
    interrupt(2, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    latest = tmp_path / "runs" / "latest"
    edit(latest, ("seed: 0", "seed: 3"), ("batch_size: 2", "batch_size: 1"))
    record = json.loads((train(resume=latest) / "run.json").read_text("utf-8"))
    slices = max(record["training_slices"].values())
    assert (record["seed"], record["epoch_length"]) == (3, slices)


def test_a_setting_that_earlier_versions_did_not_have_is_no_change(
    store, tiny, tmp_path, interrupt, monkeypatch, caplog
) -> None:
    caplog.set_level("INFO")
    interrupt(6, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    (checkpoint,) = (tmp_path / "runs" / "latest" / "checkpoints").glob("step-*.pt")
    state = torch.load(checkpoint, weights_only=True)
    del state["config"]["training"]["cuda_graphs"]
    torch.save(state, checkpoint)
    sum_file = checkpoint.with_name(checkpoint.name + ".sha256")
    sum_file.write_text(f"{hash_file(checkpoint)}  {checkpoint.name}\n")
    train(resume=tmp_path / "runs" / "latest")
    assert "going on after step" in caplog.text
    assert "cuda_graphs" not in caplog.text


def test_resume_names_what_was_edited_and_refuses_what_cannot_change(
    store, tiny, tmp_path, interrupt, monkeypatch, caplog
) -> None:
    caplog.set_level("INFO")
    interrupt(6, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    monkeypatch.undo()
    latest = tmp_path / "runs" / "latest"
    edit(latest, ("learning_rate: 0.001", "learning_rate: 0.002"), ("cycle_weight: 10.0", "cycle_weight: 3.0"))
    both = (
        r"cycle_weight was 10.0 .* and is 3.0 now; training.learning_rate was 0.001 at the checkpoint and is 0.002 now"
    )
    with pytest.raises(TrainingError, match=both):
        train(resume=latest)
    edit(latest, ("learning_rate: 0.002", "learning_rate: 0.001"), ("cycle_weight: 3.0", "cycle_weight: 10.0"))
    edit(latest, ("max_steps: 17", "max_steps: 30"))
    with pytest.raises(TrainingError, match=r"max_steps was 17 .* is 30 now \(schedule linear: the rate depends on it"):
        train(resume=latest)
    edit(latest, ("max_steps: 30", "max_steps: 17"), ("panel_every: 100", "panel_every: 16"))
    edit(latest, ("slices_on_device: auto", "slices_on_device: 'on'"))
    run = train(resume=latest, device="cpu")
    assert "training.panel_every was 100 at the checkpoint and is 16 now" in caplog.text
    assert "training.slices_on_device was auto at the checkpoint and is on now" in caplog.text
    assert (run / "panels" / "step-000016.png").exists()


def test_a_finished_run_of_constant_rate_goes_on_when_it_is_given_more_steps(store, tiny, tmp_path) -> None:
    constant = with_values(tiny, schedule="constant", max_steps=12)
    longer = train(store, config=with_values(constant, max_steps=17), out=tmp_path / "longer", device="cpu")
    run = train(store, config=constant, out=tmp_path / "runs", device="cpu")
    assert record_of(run)["steps"] == 12
    edit(run, ("max_steps: 12", "max_steps: 17"))
    train(resume=run, device="cpu")
    assert (record_of(run)["state"], record_of(run)["step"], record_of(run)["steps"]) == ("finished", 17, 17)
    first, second = (torch.load(r / "checkpoints" / "step-000017.pt", weights_only=True) for r in (run, longer))
    assert all(torch.equal(first["networks"][name], second["networks"][name]) for name in first["networks"])
    edit(run, ("max_steps: 17", "max_steps: 5"))
    assert train(resume=run) == run  # finished, and fewer steps cannot be had: left as it is


def test_a_session_that_computes_otherwise_says_so(whole_run, store, tmp_path, caplog) -> None:
    """Compiled networks and another torch round differently, as another number of threads does."""
    caplog.set_level("INFO")
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    record = record_of(run) | {"state": "running"}
    record["sessions"][-1]["compiled"] = True
    record["sessions"][-1]["versions"]["torch"] = "1.0"
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    train(store, resume=run, device="cpu")
    (said,) = (text for text in caplog.messages if "computed otherwise than before" in text)
    assert "compiled True, now False; torch 1.0, now " in said
    caplog.clear()
    (run / "run.json").write_text(json.dumps(record_of(run) | {"state": "running"}), "utf-8")
    train(store, resume=run, device="cpu")
    assert "computed otherwise" not in caplog.text


def test_a_moved_workspace_resumes(store, tiny, tmp_path, interrupt, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    store.rename(tmp_path / "here" / "slices")
    interrupt(6, cut_power)
    with pytest.raises(PowerCutError):
        train(tmp_path / "here" / "slices", config=tiny, out=tmp_path / "here" / "runs", device="cpu")
    monkeypatch.undo()
    (tmp_path / "here").rename(tmp_path / "there")
    run = train(resume=tmp_path / "there" / "runs" / "latest")
    assert record_of(run)["state"] == "finished"


def test_losses_that_are_not_finite_end_the_run_by_name(store, tiny, tmp_path, monkeypatch) -> None:
    original = CycleGANStep.__call__

    def poisoned(self, engine, batch):
        losses = original(self, engine, batch)
        return {**losses, "cycle_A": losses["cycle_A"] * float("nan")} if engine.state.iteration == 7 else losses

    monkeypatch.setattr(CycleGANStep, "__call__", poisoned)
    with pytest.raises(TrainingError, match=r"step 7: cycle_A became NaN or infinite.*learning_rate.*fp32"):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    record = record_of(tmp_path / "runs" / "latest")
    assert record["state"] == "failed"
    assert "cycle_A" in record["reason"]
    assert record["step"] == 5


def test_weights_that_are_not_finite_are_not_saved(store, tiny, tmp_path, monkeypatch) -> None:
    original = CycleGANStep.__call__

    def poisoned(self, engine, batch):
        losses = original(self, engine, batch)
        if engine.state.iteration == 10:
            with torch.no_grad():
                next(self.networks.G_AB.parameters()).fill_(float("nan"))
        return losses

    monkeypatch.setattr(CycleGANStep, "__call__", poisoned)
    with pytest.raises(TrainingError, match=r"step 10: weights became NaN"):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    checkpoints = tmp_path / "runs" / "latest" / "checkpoints"
    assert [path.name for path in checkpoints.glob("*.pt")] == ["step-000005.pt"]


def test_a_validation_that_is_not_finite_ends_the_run_by_name(store, tiny, tmp_path, monkeypatch) -> None:
    scores = {"cycle_A": float("inf"), "cycle_B": 0.1, "sliced_wasserstein_AB": float("nan")}
    monkeypatch.setattr("medcyclegan.training.validation.scores_of", lambda step, slices: scores)
    with pytest.raises(TrainingError, match=r"step 8: validation_cycle_A, validation_sliced_wasserstein_AB became NaN"):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")


def test_a_record_of_something_else_is_refused(whole_run, tmp_path) -> None:
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    for text in ("[]", "{}", "nonsense", '{"state": "running"}'):
        (run / "run.json").write_text(text, "utf-8")
        with pytest.raises(TrainingError, match=r"run\.json"):
            train(resume=run)


def run_out_on_the_cpu() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def run_out_on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("run_out", [run_out_on_the_cpu, run_out_on_a_gpu])
def test_too_little_memory_is_an_error_of_one_line(store, tiny, tmp_path, interrupt, run_out) -> None:
    interrupt(1, run_out)
    with pytest.raises(TrainingError, match=r"memory is too small.*batch_size"):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")


def test_networks_that_do_not_fit_are_refused_in_a_line(store, tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "to", lambda *_arguments: run_out_on_a_gpu())
    with pytest.raises(TrainingError, match=r"do not fit into the memory.*on cpu.*filters"):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_no_thread_is_left(store, tiny, tmp_path, interrupt) -> None:
    interrupt(3, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert not [t for t in threading.enumerate() if t.name.startswith("medcyclegan")]


def test_runs_that_start_in_one_second_have_folders_of_their_own(tiny, tmp_path, monkeypatch) -> None:
    """Both jobs of an array find the name free; the second to finish its folder must not replace the first's."""
    out, lexists = tmp_path / "runs", os.path.lexists
    monkeypatch.setattr("medcyclegan.training.run_folder.time.strftime", lambda form: "20260101-120000")
    first = create_run(out, tiny, {"of": "first"}).path
    seen_free = [first, first]  # the second's two looks, before the first was there

    def look(path: Path) -> bool:
        if path in seen_free:
            seen_free.remove(path)
            return False
        return lexists(path)

    monkeypatch.setattr(os.path, "lexists", look)
    second = create_run(out, tiny, {"of": "second"}).path
    assert [path.name for path in (first, second)] == ["20260101-120000", "20260101-120000-2"]
    assert json.loads((first / "run.json").read_text("utf-8")) == {"of": "first"}
    assert os.readlink(out / "latest") == second.name


def test_it_trains_outside_the_main_thread(store, tiny, tmp_path) -> None:
    done: list[Path] = []
    thread = threading.Thread(target=lambda: done.append(train(store, config=tiny, out=tmp_path / "r", device="cpu")))
    thread.start()
    thread.join()
    assert record_of(done[0])["state"] == "finished"


def test_refusals(store, tiny, tmp_path) -> None:
    with pytest.raises(UsageError, match="own configuration"):
        train(store, config=tiny, resume=tmp_path)
    with pytest.raises(UsageError, match="at least 1 step"):
        train(store, config=tiny, max_steps=0)
    with pytest.raises(TrainingError, match="no run to go on with"):
        train(out=tmp_path / "runs", resume=True)
    with pytest.raises(TrainingError, match=r"holds no config.yaml"):
        train(resume=tmp_path)
    with pytest.raises(StoreError, match="no slice store here"):
        train(tmp_path / "nowhere", config=tiny)
    with pytest.raises(UsageError, match="--device abacus"):
        train(store, config=tiny, out=tmp_path / "runs", device="abacus")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="is not a folder"):
        train(store, config=tiny, out=tmp_path / "file" / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_max_steps_replaces_the_epochs(store, tiny, tmp_path) -> None:
    run = train(store, config=tiny, out=tmp_path / "runs", max_steps=3, device="cpu")
    assert record_of(run)["steps"] == 3
    assert load_config(run / "config.yaml").training.max_steps == 3


def test_domains_and_their_order_can_be_chosen(store, tiny, tmp_path) -> None:
    run = train(store, config=tiny, domains=("t2", "t1"), out=tmp_path / "runs", max_steps=2, device="cpu")
    assert [domain.name for domain in ModelBundle.load(run / "model").domains] == ["t2", "t1"]
