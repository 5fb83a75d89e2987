"""Health warnings: each is logged for networks or runs with that failure, and none for working ones."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from scipy import ndimage
from support import failing_networks
from support.run_folders import with_training
from support.stores import blobs, make_store

from medcyclegan.networks import build_cyclegan
from medcyclegan.training import train
from medcyclegan.training.monitor.diagnostics import build_reference, displacement, edge_agreement, signs_of
from medcyclegan.training.monitor.health import Health
from medcyclegan.training.monitor.metrics_log import MetricsLog
from medcyclegan.training.plan import Plan, build_plan
from medcyclegan.training.run.folder import RunFolder
from medcyclegan.training.run.state import RunState
from medcyclegan.training.update.step import CycleGANStep, build_step

#: Generators that return a grey image for every input, as untrained ones nearly do.
BLANK = (torch.nn.Threshold(2.0, 0.4), torch.nn.Threshold(2.0, 0.4))


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return failing_networks.make_heads(tmp_path_factory.mktemp("heads"))


@pytest.fixture(scope="module")
def plan(heads: Path) -> Plan:
    return build_plan(heads, failing_networks.config(100))


@pytest.fixture(scope="module")
def pairs(heads: Path) -> dict:
    return failing_networks.failing_pairs(heads)


def watch(plan: Plan, pair, file: Path, steps: int = 40, state: dict | None = None) -> tuple[Health, dict]:
    """Check a pair of generators as a run of ``steps`` steps does; return the handler and the run's record."""
    step = build_of(plan)
    step.networks.G_AB, step.networks.G_BA = pair
    run_state = RunState(RunFolder(file.parent), {})
    health = Health(plan, step, MetricsLog(file, plan, step), run_state)
    if state is not None:
        health.load_state_dict(state)
    engine = Engine(lambda engine, batch: {})
    health.attach(engine)
    engine.run([0] * steps)
    return health, run_state._record["health"]


def build_of(plan: Plan) -> CycleGANStep:
    networks = build_cyclegan(plan.config.networks, plan.size, 0)
    return build_step(plan.config, networks, torch.device("cpu"), "fp32")


def names_of(record: dict) -> set[str]:
    return {warning["name"] for warning in record["warnings"]}


def test_sound_networks_are_passed_over_in_silence(plan: Plan, pairs, tmp_path: Path, caplog) -> None:
    _, record = watch(plan, pairs["nothing"], tmp_path / "metrics.jsonl")
    assert record == {"warnings": [], "last_check": 40}
    assert caplog.text == ""
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[0]["health_edges_AB"] > 0.4
    assert rows[0]["health_contrast_BA"] > 0.1
    assert rows[0]["health_shift_AB"] < 0.2
    assert rows[0]["health_unrestored_AB"] < 0.5


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("identity collapse", "synthetic t2 is its input almost unchanged.*identity_weight"),
        ("contrast inversion", "contrast of synthetic t2 is inverted.*another seed"),
        ("hidden signal", "synthetic t2 carries a hidden signal.*8 bits.*cycle_weight"),
        ("edges lost", "edges of t1 and of its synthetic t2 agree at -?0.0"),
        ("displacement", r"synthetic t2 is displaced against its input by 2.\d pixels"),
        ("signal outside the head", r"synthetic t2 has signal outside the head of its input, \d+% of"),
        ("noise", r"synthetic t2 is noisy: its fine texture is \d\.\d times .*learning_rate"),
    ],
)
def test_each_fault_is_found_and_reported_once(
    plan: Plan, pairs, tmp_path: Path, caplog, fault: str, words: str
) -> None:
    has_learned, _ = watch(plan, pairs["nothing"], tmp_path / "before.jsonl", steps=10)
    _, record = watch(plan, pairs[fault], tmp_path / "metrics.jsonl", state=has_learned.state_dict())
    assert f"{fault} AB" in names_of(record)
    said = [r.getMessage() for r in caplog.records if re.search(words, r.getMessage(), re.IGNORECASE)]
    assert len(said) == 1
    warning = next(w for w in record["warnings"] if w["name"] == f"{fault} AB")
    assert (warning["step"], warning["last_step"]) == (30, 40)
    assert said[0] == f"step 30: {warning['message']}"


def test_a_contrast_may_be_half_way_in_the_first_half_of_the_steps(plan: Plan, pairs, tmp_path: Path) -> None:
    _, record = watch(plan, pairs["half-way contrast"], tmp_path / "a.jsonl", steps=69)
    assert record["warnings"] == []
    _, record = watch(plan, pairs["half-way contrast"], tmp_path / "b.jsonl", steps=70)
    assert [(w["name"], w["step"]) for w in record["warnings"]] == [("half-way contrast AB", 70)]


def test_networks_that_have_learned_nothing_are_waited_for(plan: Plan, tmp_path: Path, monkeypatch) -> None:
    """The output is grey for every input: that is a fault from half of the steps on, and the only one."""
    health, record = watch(plan, BLANK, tmp_path / "a.jsonl", steps=69)
    assert record == {"warnings": [], "last_check": 60}
    assert health.check_at(60).learned is False
    _, record = watch(plan, BLANK, tmp_path / "b.jsonl", steps=70)
    assert names_of(record) == {"nothing learned AB", "nothing learned BA"}
    assert "try a higher losses.cycle_weight" in record["warnings"][0]["message"]
    # In a longer run, the warning comes after at most 2,000 steps, but never before a tenth of all steps.
    for most, first in ((20, 40), (5, 30)):
        monkeypatch.setattr("medcyclegan.training.monitor.health._PATIENCE_STEPS", most)
        _, record = watch(plan, BLANK, tmp_path / f"{most}.jsonl", steps=first)
        assert {w["step"] for w in record["warnings"]} == {first}


def test_one_direction_does_not_wait_for_the_other(plan: Plan, pairs, tmp_path: Path) -> None:
    _, record = watch(plan, pairs["hidden signal"], tmp_path / "a.jsonl", steps=40)
    assert names_of(record) == {"hidden signal AB"}, "BA has learned nothing"


def test_networks_that_had_learned_and_fall_apart_are_warned_of(plan: Plan, pairs, tmp_path: Path) -> None:
    health, _ = watch(plan, pairs["nothing"], tmp_path / "a.jsonl", steps=20)
    assert health.check_at(20).learned is True
    _, record = watch(plan, BLANK, tmp_path / "b.jsonl", steps=30, state=health.state_dict())
    assert {"nothing learned AB", "edges lost AB"} <= names_of(record)


def test_no_fault_counts_in_the_first_tenth(plan: Plan, heads: Path, pairs, tmp_path: Path) -> None:
    often = dataclasses.replace(plan, config=with_training(plan.config, panel_every=2))
    _, record = watch(often, pairs["displacement"], tmp_path / "a.jsonl", steps=16)
    assert {(w["name"], w["step"]) for w in record["warnings"]} == {("displacement AB", 14), ("displacement BA", 14)}


def test_warnings_of_a_step_are_those_that_held_at_its_look(plan: Plan, pairs, tmp_path: Path) -> None:
    health, record = watch(plan, pairs["signal outside the head"], tmp_path / "a.jsonl", steps=40)
    health._step.networks.G_AB, health._step.networks.G_BA = pairs["nothing"]
    engine = Engine(lambda engine, batch: {})
    health.attach(engine)
    for engine.state.iteration in range(41, 61):
        engine.fire_event(Events.ITERATION_COMPLETED)
    assert health._state._record["health"]["last_check"] == 60
    (warning,) = record["warnings"]
    assert (warning["step"], warning["last_step"]) == (30, 40)
    names = {n: [w["name"] for w in health.warnings_at(n)] for n in (1, 29, 30, 49, 50, 60, 99)}
    held = ["signal outside the head AB"]
    assert names == {1: [], 29: [], 30: held, 49: held, 50: [], 60: [], 99: []}
    again, _ = watch(plan, pairs["nothing"], tmp_path / "c.jsonl", steps=1, state=health.state_dict())
    assert again.warnings_at(49) == health.warnings_at(49)
    assert again.check_at(0).step == 10, "before the first check, that one"


def test_one_bad_check_is_not_reported_and_a_resumed_run_continues_to_count(plan: Plan, pairs, tmp_path: Path) -> None:
    halo = pairs["signal outside the head"]
    health, record = watch(plan, halo, tmp_path / "a.jsonl", steps=29)
    assert names_of(record) == set()
    _, record = watch(plan, halo, tmp_path / "b.jsonl", steps=10, state=health.state_dict())
    assert names_of(record) == {"signal outside the head AB"}
    health, _ = watch(plan, pairs["nothing"], tmp_path / "c.jsonl", steps=10, state=health.state_dict())
    _, record = watch(plan, halo, tmp_path / "d.jsonl", steps=20, state=health.state_dict())
    assert names_of(record) == set()


def test_discriminators_that_the_generators_never_hear_of_saturate(tmp_path: Path, caplog) -> None:
    stacks = {"bright": [blobs(20, 32, 0)], "dark": [blobs(20, 32, 1, inverted=True)]}
    make_store(tmp_path / "slices", stacks)
    config = failing_networks.config(150, adversarial_weight=0.0, identity_weight=10.0)
    run = train(tmp_path / "slices", config=config, out=tmp_path / "runs", device="cpu")
    names = names_of(json.loads((run / "run.json").read_text("utf-8"))["health"])
    assert {"saturated discriminator A", "saturated discriminator B", "contrast inversion AB"} <= names
    assert "the discriminator of dark detects every synthetic slice" in caplog.text


def test_displacement_is_measured_to_a_fifth_of_a_pixel(plan: Plan, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = ndimage.gaussian_filter(random.normal(size=(4, 96, 96)), (0, 3, 3)).astype(np.float32)
    images *= np.hypot(*np.mgrid[-48:48, -48:48]) < 40
    for shift in ((0.0, 0.0), (0.6, -0.4), (3.0, 1.5), (-7.0, 5.0)):
        moved = -ndimage.shift(images, (0, *shift), order=3)
        assert displacement(images, moved) == pytest.approx(shift, abs=0.2)
    apart = np.stack([np.roll(image, 4 * (-1) ** n, axis=0) for n, image in enumerate(images)])
    assert displacement(images, apart) == (0.0, 0.0)
    assert edge_agreement(images, -images, images != 0) == pytest.approx(1.0)


def test_constant_slices_make_no_signs_and_no_errors() -> None:
    flat = np.full((2, 32, 32), -1.0, dtype=np.float32)
    reference = build_reference(flat, flat[:, None])
    assert reference.target_contrast == 0.0
    assert displacement(flat, flat) == (0.0, 0.0)


def test_signal_in_a_head_of_which_only_a_part_of_the_scalp_is_bright_is_not_outside() -> None:
    """A strong bias field makes the head's mask an open ring, which is not filled."""
    rows, columns = np.mgrid[:64, :64]
    radius = np.hypot(rows - 32, columns - 32)
    real = np.full((2, 64, 64), -1.0, dtype=np.float32)
    real[:, (radius > 18) & (radius < 22) & (columns < 48)] = 0.8
    brain = np.where(radius < 15, 0.5, -1.0).astype(np.float32)[None].repeat(2, axis=0)
    reference = build_reference(real, np.stack([brain, brain], axis=1))
    assert not reference.head[:, 32, 32].any(), "the ring is open"
    assert signs_of(reference, brain, real, real)["outside"] == 0.0
    halo = np.maximum(brain, np.where(radius > 28, 0.5, -1.0)).astype(np.float32)
    assert signs_of(reference, halo, real, real)["outside"] > 0.3
