"""A run from start to end: its folder, its failures, the errors that it reports."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.run_folders import PowerCutError, cut_power, record_of, rows_of, weights_of, with_training

from medcyclegan.config import Config, load_config
from medcyclegan.errors import ModelError, StoreError, TrainingError, UsageError, WriteError
from medcyclegan.manifest import load_manifest, rows_to_text
from medcyclegan.model import ModelBundle
from medcyclegan.model.fitness import Fitness, ModelWarning
from medcyclegan.model.training_set import TrainingSet
from medcyclegan.training import train
from medcyclegan.training.run.folder import create_run
from medcyclegan.training.update.step import CycleGANStep


def test_a_run_writes_the_documented_files(store: Path, tiny: Config, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO", "medcyclegan")
    run = train(store, config=with_training(tiny, panel_every=10), out=tmp_path / "runs", device="cpu")
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
    assert "7 and 5 slices: 17 steps of 2 + 2 slices, 4.25 epochs, on " in caplog.text
    assert len(re.findall(r"t1: 3 patients .*, 3 volumes .*, 10 slices \(7 train, 3 validation\)", caplog.text)) == 1


def test_metrics_rows_hold_means_rates_and_validations(whole_run, store: Path, tiny: Config, tmp_path: Path) -> None:
    each = rows_of(train(store, config=with_training(tiny, log_every=1), out=tmp_path / "a", device="cpu"))
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


def test_the_model_carries_its_fitness(whole_run: Path, store: Path, tiny: Config, tmp_path: Path, monkeypatch) -> None:
    """Each of the two models has the fitness of its own weights."""
    fitness = Fitness.of(ModelBundle.load(whole_run / "model-last").provenance)
    assert (fitness.steps, fitness.patients, fitness.warnings) == (17, {"t1": 2, "t2": 1}, ())
    assert fitness.learned is not None
    assert fitness.scores.keys() > fitness.input_scores.keys() > {"sliced_wasserstein_AB", "histogram_BA"}
    both = {"displacement AB": "moved", "edges lost BA": "lost"}
    looks = [{}, {}, both, both, {"edges lost BA": "lost"}]  # after steps 4, 8, 12, 16 and 17
    values = [0.1, 0.5, 0.3]  # after steps 8, 16 and 17
    monkeypatch.setattr("medcyclegan.training.monitor.health.find_faults", lambda *_: looks.pop(0))
    monkeypatch.setattr("medcyclegan.training.monitor.health._CONSECUTIVE_CHECKS", 1)
    monkeypatch.setattr("medcyclegan.training.monitor.health.Health._counts", lambda *_: True)
    monkeypatch.setattr("medcyclegan.training.monitor.validation.key_value", lambda scores, metric: values.pop(0))
    run = train(store, config=with_training(tiny, panel_every=4), out=tmp_path / "runs", device="cpu")
    best, last = (Fitness.of(ModelBundle.load(run / name).provenance) for name in ("model", "model-last"))
    assert (best.steps, best.warnings) == (8, ())
    assert (last.steps, last.warnings) == (17, (ModelWarning("edges lost", "t1", 12, "lost"),))
    assert best.scores != last.scores
    card = (run / "model-last" / "MODEL_CARD.md").read_text("utf-8")
    assert "- **warning from step 12, still active**: lost" in card


def test_two_runs_give_the_same_bytes_and_leave_the_random_state_alone(whole_run, store, tiny, tmp_path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    second = train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert weights_of(second) == weights_of(whole_run)
    assert rows_of(second) == rows_of(whole_run)


def test_looking_at_the_networks_does_not_change_them(whole_run, store, tiny, tmp_path) -> None:
    watched = with_training(tiny, panel_every=1, log_every=1, checkpoint_steps=3)
    watched = watched.model_copy(update={"validation": tiny.validation.model_copy(update={"every_epochs": 0.1})})
    run = train(store, config=watched, out=tmp_path / "runs", device="cpu")
    assert len(list((run / "panels").iterdir())) == 17
    assert len([row for row in rows_of(run) if "validation_cycle_A" in row]) == 17
    assert weights_of(run) == weights_of(whole_run)


def test_missing_tensorboard_is_reported_and_training_continues(store, tiny, tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level("INFO", "medcyclegan")
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
    monkeypatch.setattr("medcyclegan.training.monitor.validation.scores_of", lambda step, slices: scores)
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
    with pytest.raises(TrainingError, match=r"do not fit into the free memory of cpu.*filters"):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_no_thread_is_left(store, tiny, tmp_path, interrupt) -> None:
    interrupt(3, cut_power)
    with pytest.raises(PowerCutError):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert not [t for t in threading.enumerate() if t.name.startswith("medcyclegan")]


def test_runs_that_start_in_one_second_have_folders_of_their_own(tiny, tmp_path, monkeypatch) -> None:
    """Both jobs of an array find the name free; the later one must not replace the folder of the earlier one."""
    out, lexists = tmp_path / "runs", os.path.lexists
    monkeypatch.setattr("medcyclegan.training.run.folder.time.strftime", lambda form: "20260101-120000")
    first = create_run(out, tiny, b'{"of": "first"}').path
    seen_free = [first, first]  # the second job checks twice before the first folder exists

    def look(path: Path) -> bool:
        if path in seen_free:
            seen_free.remove(path)
            return False
        return lexists(path)

    monkeypatch.setattr(os.path, "lexists", look)
    second = create_run(out, tiny, b'{"of": "second"}').path
    assert [path.name for path in (first, second)] == ["20260101-120000", "20260101-120000-2"]
    assert json.loads((first / "run.json").read_text("utf-8")) == {"of": "first"}
    assert os.readlink(out / "latest") == second.name


def test_a_reference_is_copied_where_there_are_no_hard_links(tiny, tmp_path, monkeypatch) -> None:
    def refuse(*names: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "manifest.jsonl").write_text("{}")
    monkeypatch.setattr(os, "link", refuse)
    run = create_run(tmp_path / "runs", tiny, b"{}", reference=tmp_path / "store").path
    assert (run / "reference" / "manifest.jsonl").read_text() == "{}"


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
    with pytest.raises(TrainingError, match="there is no run to continue"):
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


def test_slices_of_which_no_model_can_be_made_are_refused_before_the_first_step(store, tiny, tmp_path) -> None:
    """The error is not delayed until the first checkpoint, hours later, or until the model is loaded."""
    text = (store / "manifest.jsonl").read_text("utf-8")
    (store / "manifest.jsonl").write_text(text.replace('"modality":"MR"', '"modality":"magnetic resonance"'), "utf-8")
    with pytest.raises(ModelError, match=r"no model can be built from these slices .*magnetic resonance"):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_a_modality_of_some_volumes_is_that_of_the_model(store, tiny, tmp_path) -> None:
    rows = load_manifest(store)
    told = next(row for row in rows if row.domain == "t1" and row.split == "train")
    untold = [row if row in (told,) else dataclasses.replace(row, modality=None) for row in rows]
    (store / "manifest.jsonl").write_text(rows_to_text(untold), "utf-8")
    run = train(store, config=tiny, out=tmp_path / "runs", max_steps=1, device="cpu")
    assert [domain.modality for domain in ModelBundle.load(run / "model").domains] == ["MR", None]


def test_max_steps_replaces_the_epochs(store, tiny, tmp_path) -> None:
    run = train(store, config=tiny, out=tmp_path / "runs", max_steps=3, device="cpu")
    assert record_of(run)["steps"] == 3
    assert load_config(run / "config.yaml").training.max_steps == 3


def test_domains_and_their_order_can_be_chosen(store, tiny, tmp_path) -> None:
    run = train(store, config=tiny, domains=("t2", "t1"), out=tmp_path / "runs", max_steps=2, device="cpu")
    assert [domain.name for domain in ModelBundle.load(run / "model").domains] == ["t2", "t1"]
