"""Pairs among unpaired slices: ``losses.paired_weight``."""

import dataclasses

import pytest
from support.run_folders import rows_of
from support.stores import blobs, make_store

from medcyclegan.data import paired_slices
from medcyclegan.errors import ConfigError
from medcyclegan.manifest import MANIFEST, load_manifest, rows_to_text
from medcyclegan.training import train
from medcyclegan.training.plan import build_plan


@pytest.fixture
def store(tmp_path):
    """Return a store with one patient of both domains, with 3 slices, and two of one domain each."""
    folder = tmp_path / "slices"
    stacks = {name: [blobs(3, 32, 0, inverted=name == "t2"), blobs(3, 32, n)] for n, name in enumerate(("t1", "t2"))}
    make_store(folder, stacks)
    rows = load_manifest(folder)
    first = {row.domain: row.case for row in rows[::-1]}
    both = set(first.values())
    changed = [dataclasses.replace(row, patient=first["t1"] if row.case in both else row.case) for row in rows]
    (folder / MANIFEST).write_text(rows_to_text(changed), "utf-8")
    return folder


def with_pairs(tiny, weight=10.0, **losses):
    return tiny.model_copy(update={"losses": tiny.losses.model_copy(update={"paired_weight": weight, **losses})})


def test_pairs_of_one_patient_are_found_and_learned(store, tiny, tmp_path):
    assert len(paired_slices(build_plan(store, tiny).training)) == 3
    config = with_pairs(tiny, cycle_weight=0.0, adversarial_weight=0.0, identity_weight=0.0)
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"max_steps": 150, "schedule": "constant"})}
    )
    rows = [
        row for row in rows_of(train(store, config=config, out=tmp_path / "runs", device="cpu")) if "paired_AB" in row
    ]
    assert rows[-1]["paired_AB"] < 0.6 * rows[0]["paired_AB"]
    assert rows[-1]["paired_BA"] < 0.6 * rows[0]["paired_BA"]


def test_without_pairs_the_term_is_refused(shared_store, tiny, tmp_path):
    with pytest.raises(ConfigError, match="paired_weight needs pairs, but no training patient has both domains"):
        train(shared_store, config=with_pairs(tiny), out=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()
