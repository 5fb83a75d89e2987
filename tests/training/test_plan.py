"""The plan of a training run, from the store and the configuration."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.stores import make_row, make_store

from medcyclegan.config import Config, parse_config
from medcyclegan.errors import StoreError, UsageError
from medcyclegan.manifest import MANIFEST, load_manifest, rows_to_text
from medcyclegan.training.plan import build_plan, choose_domains


def stack(count: int, size: int = 32) -> np.ndarray:
    return np.zeros((count, size, size))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    splits = {"t1": ["train", "validation", "test"], "t2": ["train", "train"]}
    make_store(tmp_path, {"t1": [stack(7), stack(3), stack(2)], "t2": [stack(4), stack(5)]}, splits)
    return tmp_path


def plan_of(store: Path, **training):
    return build_plan(store, parse_config({"training": training}, "test"))


def test_only_training_slices_count(store: Path) -> None:
    plan = plan_of(store, epochs=3)
    assert plan.domains == ("t1", "t2")
    assert plan.slices == (7, 9)
    assert [len(rows) for rows in plan.held_out] == [1, 0]
    assert plan.size == 32
    assert plan.epoch_length == 9
    assert plan.steps == 27


def test_an_epoch_is_the_larger_domain_over_the_batch(store: Path) -> None:
    assert plan_of(store, batch_size=2).epoch_length == 5
    assert plan_of(store, batch_size=2, epochs=10).steps == 50
    assert plan_of(store, max_steps=13).steps == 13


def test_intervals(store: Path) -> None:
    plan = plan_of(store, checkpoint_epochs=0.5, epochs=2)
    assert plan.checkpoint_every == 4
    assert plan_of(store, checkpoint_steps=7).checkpoint_every == 7
    assert plan.validate_every == 45
    assert [step for step in range(1, 19) if plan.is_due(step, 4)] == [4, 8, 12, 16, 18]


def test_the_configuration_becomes_what_the_store_was_made_with(store: Path, caplog) -> None:
    caplog.set_level("INFO")
    config = parse_config({"slicing": {"size": 256, "fit": "stretch"}, "domains": {"t1": {"modality": "CT"}}}, "test")
    plan = build_plan(store, config)
    assert plan.config.slicing.size == 32
    assert plan.config.slicing.fit == "physical"
    assert plan.config.domains["t1"].modality is None
    assert set(plan.config.domains) == {"t1", "t2"}
    assert "made with size 32 (not 256), fit physical (not stretch)" in caplog.text
    assert "slices of t1 differ in modality or scaling from the configuration" in caplog.text


def test_nothing_is_logged_if_they_agree(store: Path, caplog) -> None:
    caplog.set_level("INFO")
    build_plan(store, build_plan(store, Config()).config)
    assert caplog.text.count("made with") == 1  # the first call, whose size is 256


def test_domains_can_be_named_in_either_order(store: Path) -> None:
    assert build_plan(store, Config(), ("t2", "t1")).slices == (9, 7)


def test_the_fingerprint_sees_the_training_slices(store: Path) -> None:
    before = build_plan(store, Config()).fingerprint
    assert build_plan(store, Config()).fingerprint == before
    rows = make_store(store, {"t1": [stack(7)], "t2": [stack(4), stack(6)]})
    assert build_plan(store, Config()).fingerprint != before
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (["t1"], "holds one domain, t1, but a CycleGAN needs two"),
        (["ct", "t1", "t2"], r"holds 3 domains \(ct, t1, t2\): choose two with --domains A B"),
    ],
)
def test_one_domain_or_three_are_refused(tmp_path: Path, domains, message) -> None:
    make_store(tmp_path, {name: [stack(2)] for name in domains})
    with pytest.raises(StoreError, match=message):
        build_plan(tmp_path, Config())


def test_two_of_three_can_be_chosen(tmp_path: Path) -> None:
    make_store(tmp_path, {name: [stack(2)] for name in ("ct", "t1", "t2")})
    plan = build_plan(tmp_path, Config(), ("t2", "ct"))
    assert plan.domains == ("t2", "ct")
    assert set(plan.config.domains) == {"t2", "ct"}


def test_unknown_and_repeated_domains_are_refused(tmp_path: Path) -> None:
    rows = [make_row("t1", 0, (2, 32, 32)), make_row("t2", 0, (2, 32, 32))]
    with pytest.raises(StoreError, match="no domain t22: did you mean t2"):
        choose_domains(rows, ("t1", "t22"), tmp_path)
    with pytest.raises(StoreError, match="no domain pet: it holds t1, t2"):
        choose_domains(rows, ("t1", "pet"), tmp_path)
    with pytest.raises(UsageError, match="two different domains"):
        choose_domains(rows, ("t1", "t1"), tmp_path)
    with pytest.raises(UsageError, match="two different domains"):
        choose_domains(rows, ("t1",), tmp_path)


def test_a_domain_without_training_volumes_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path, {"t1": [stack(2)], "t2": [stack(2)]}, {"t2": ["test"]})
    with pytest.raises(StoreError, match="no volume of t2 is for training"):
        build_plan(tmp_path, Config())


def test_a_missing_stack_is_found_before_the_first_step(store: Path) -> None:
    victim = sorted((store / "t2").glob("*.npy"))[1]
    victim.unlink()
    with pytest.raises(StoreError, match=f"{victim.name} is missing"):
        build_plan(store, Config())


def test_missing_stacks_of_test_volumes_do_not_matter(tmp_path: Path) -> None:
    rows = make_store(tmp_path, {"t1": [stack(2), stack(3)], "t2": [stack(2)]}, {"t1": ["train", "test"]})
    (tmp_path / next(row.file for row in rows if row.split == "test")).unlink()
    assert build_plan(tmp_path, Config()).slices == (2, 2)


def test_rows_in_another_order_make_the_same_plan(store: Path) -> None:
    before = build_plan(store, Config()).fingerprint
    lines = (store / MANIFEST).read_text("utf-8").splitlines(keepends=True)
    (store / MANIFEST).write_text("".join(reversed(lines)), "utf-8")
    assert build_plan(store, Config()).fingerprint == before


UNITS = {
    "HU": {"kind": "window", "lower": -1024.0, "upper": 3071.0, "unit": "HU", "air": None},
    "arbitrary units": {"kind": "percentile", "lower": 0.0, "upper": 900.0, "unit": "arbitrary units", "air": None},
}


def change_rows(store: Path, domain: str, split: str, **changes) -> None:
    """Change the manifest's rows of one split of one domain."""
    rows = [
        dataclasses.replace(row, **changes) if (row.domain, row.split) == (domain, split) else row
        for row in load_manifest(store)
    ]
    (store / MANIFEST).write_text(rows_to_text(rows), "utf-8")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_domain_of_two_modalities_is_refused_in_every_split(store: Path, split: str) -> None:
    change_rows(store, "t1", split, modality="CT")
    with pytest.raises(StoreError, match=r"the domain t1 mixes volumes of CT \(1\) and MR \(2\): .*slice again"):
        build_plan(store, Config())


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_domain_of_two_units_is_refused_in_every_split(store: Path, split: str) -> None:
    change_rows(store, "t1", split, scaling=UNITS["HU"])
    with pytest.raises(StoreError, match=r"t1 mixes intensities in HU \(1\) and arbitrary units \(2\): .*slice again"):
        build_plan(store, Config())


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_domain_scaled_by_two_rules_is_refused_in_every_split(store: Path, split: str) -> None:
    """The model has a single rule for scaling every input of the domain."""
    (row,) = (row for row in load_manifest(store) if (row.domain, row.split) == ("t1", split))
    change_rows(store, "t1", split, preparation={**row.preparation, "percentiles": [1.0, 99.0]})
    with pytest.raises(
        StoreError, match=r"of t1 were scaled by different rules, .*\[0.5,99.5\].*\(2\) and .*\[1.0,99.0"
    ):
        build_plan(store, Config())


def test_volumes_with_and_without_a_modality_can_be_mixed(store: Path) -> None:
    change_rows(store, "t1", "validation", modality=None)
    assert build_plan(store, Config()).slices == (7, 9)


def test_an_impossible_scaling_is_refused(store: Path) -> None:
    change_rows(store, "t2", "train", scaling={**UNITS["HU"], "lower": 4000.0})
    with pytest.raises(StoreError, match=r"a volume of t2 has no usable scaling \(.*must ascend.*slice it again"):
        build_plan(store, Config())
