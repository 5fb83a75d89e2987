"""Removing volumes: nothing stays in the store, also after an interruption; the runs that used them are found."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from support.volume_folders import TINY, add_tiny

from medcyclegan.cli.main import main
from medcyclegan.config import load_config
from medcyclegan.errors import StoreError
from medcyclegan.manifest import KEY_FILE, MANIFEST, load_manifest
from medcyclegan.run_record import LOCK_FILE
from medcyclegan.slicing import removal, save_fold, slice_volumes
from medcyclegan.slicing.key_file import load_names
from medcyclegan.slicing.lookup import list_volumes
from medcyclegan.slicing.store import SliceStore, load_store
from medcyclegan.slicing.trained_on import find_runs, find_stores
from medcyclegan.training import train

STEPS = ["training.max_steps=1", "networks.generator.filters=2", "networks.discriminator.filters=2"]
SHORT = load_config("smoke", [*STEPS, "validation.slices=1"])


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add_tiny(tmp_path / "volumes" / "t1", "a", "b", "c")
    add_tiny(tmp_path / "volumes" / "t2", "d", "e", seed=5)
    (tmp_path / "volumes" / "t2" / "junk.nii").write_bytes(b"junk")
    slice_volumes("volumes", "slices", config=TINY)
    return tmp_path / "slices"


def run(*arguments):
    return CliRunner().invoke(main, ["slices", *arguments])


def traces(store, case):
    """Return the files of a store that name or contain a case."""
    files = [path for path in store.rglob("*") if path.is_file()]
    return [p.relative_to(store).as_posix() for p in files if case in p.name or case.encode() in p.read_bytes()]


def key_of(store, number):
    return next(volume.key for volume in list_volumes(store) if volume.number == number)


def test_nothing_of_a_removed_volume_stays(store):
    domain, case = key_of(store, 2)
    before, sheet = load_manifest(store), (store / "t1.png").read_bytes()
    assert set(traces(store, case)) == {MANIFEST, f"t1/{case}.npy", f".rows/t1@{case}.json", KEY_FILE}
    result = run("--remove", "2")
    assert (result.exit_code, result.stdout) == (0, f"{store.parent}/volumes/t1/b.nii\n"), result.stderr
    assert "removed 1 volume from slices, but not the original:" in result.stderr
    assert traces(store, case) == []
    assert not (store / ".removing.jsonl").exists()
    assert load_manifest(store) == [row for row in before if (row.domain, row.case) != (domain, case)]
    assert (store / "t1.png").read_bytes() != sheet
    assert json.loads((store / "run.json").read_text())["volumes"] == 4
    slice_volumes("volumes", "slices", config=TINY)
    assert {v.number for v in list_volumes(store)} == {1, 3, 4, 5, 6, 7}, "the volume is still an input"


def test_a_refused_volume_can_be_removed(store):
    (refused,) = load_store(store).refusals()
    assert run("--remove", refused.case).exit_code == 0
    assert load_store(store).refusals() == []
    assert traces(store, refused.case) == []


def test_the_last_volumes_can_be_removed(store):
    assert run("--remove", "1", "--remove", "2", "--remove", "3", "--remove", "4", "--remove", "5").exit_code == 0
    assert not (store / MANIFEST).exists()
    assert list(store.rglob("*.npy")) == []
    assert not (store / "t1.png").exists()
    assert [v.number for v in list_volumes(store)] == [6]


STAGES = ["save_manifest", "remove_case", "save_refusals", "forget_volumes", "save_contact_sheets", "_update_record"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("later", ["slices", "slice-volumes"])
def test_an_interrupted_removal_is_finished_by_the_next_command(store, stage, later, monkeypatch):
    keys = [key_of(store, 2), key_of(store, 6)]
    with monkeypatch.context() as patch:
        place = SliceStore if hasattr(SliceStore, stage) else removal
        calls, real = [], getattr(place, stage)

        def killed(*arguments, **more):
            calls.append(stage)
            if stage == "remove_case" and len(calls) == 1:
                return real(*arguments, **more)
            raise KeyboardInterrupt

        patch.setattr(place, stage, killed)
        with pytest.raises(KeyboardInterrupt):
            removal.remove_volumes(load_store(store), keys)
    for row in load_manifest(store):
        assert len(np.load(store / row.file)) == len(row.slices), "the manifest names only slices that are there"
    if later == "slices":
        assert run("--remove", "1").exit_code == 0
        gone = {2, 6, 1}
    else:
        (store.parent / "volumes" / "t1" / "b.nii").unlink()
        (store.parent / "volumes" / "t2" / "junk.nii").unlink()
        slice_volumes("volumes", "slices", config=TINY)
        gone = {2, 6}
    assert {v.number for v in list_volumes(store)} == {1, 2, 3, 4, 5, 6} - gone
    for _, case in keys:
        assert traces(store, case) == []


def test_nothing_is_removed_while_slices_are_written(store):
    key = key_of(store, 1)
    with load_store(store).lock("shard-0-of-1"), pytest.raises(StoreError, match="another slice-volumes is writing"):
        removal.remove_volumes(load_store(store), [key])
    assert key in {volume.key for volume in list_volumes(store)}


def test_a_store_without_key_file_or_key(store):
    (store / KEY_FILE).unlink()
    save_fold(store, store.parent / "fold", fold=0, folds=2)
    case = load_manifest(store)[0].case
    for folder in (store, store.parent / "fold"):
        result = run(str(folder), "--remove", case[:10])
        assert (result.exit_code, result.stdout) == (0, "not known: run slice-volumes again on the same volumes\n")
        assert traces(folder, case) == []
        assert len(load_manifest(folder)) == 4
        assert not (folder / KEY_FILE).exists()
    assert (
        "also in the store fold: medcyclegan slices fold --remove"
        in run("--remove", load_manifest(store)[0].case).stderr
    )


def test_the_runs_that_used_a_volume_are_found(store, monkeypatch):
    first = train("slices", config=SHORT, out="runs")
    used = {row.case for row in load_manifest(store)}
    for row in load_manifest(store):
        (use,) = find_runs(store, [(row.domain, row.case)])
        assert (use.run.resolve(), use.use, use.state) == (first.resolve(), "trained", "finished")
        assert [path.name for path in use.models] == ["model"]
    assert find_runs(store, [("t1", "0" * 16)]) == []
    record = json.loads((first / "run.json").read_text())
    assert {case for split in record["cases"].values() for own in split.values() for case in own} == used
    result = run("--find", "1")
    assert f"the run {first} was trained on this (models: {first}/model)" in result.stderr
    removed, other = key_of(store, 1), key_of(store, 2)
    run("--remove", "1")
    assert [use.use for use in find_runs(store, [removed])] == ["trained"], "also when the store has changed"
    assert [use.use for use in find_runs(store, [other])] == ["trained"]


def test_runs_of_earlier_versions_are_found_by_fingerprint(store):
    run_folder = train("slices", config=SHORT, out="runs")
    record = json.loads((run_folder / "run.json").read_text())
    del record["cases"]
    (run_folder / "run.json").write_text(json.dumps(record))
    key, other = key_of(store, 1), key_of(store, 2)
    assert [use.use for use in find_runs(store, [key])] == ["trained"]
    result = run("--remove", "1")
    assert "was trained on this" in result.stderr
    assert [use.use for use in find_runs(store, [other])] == ["unknown"]
    assert "may have been trained on this: the store has changed since" in run("--find", "2").stderr


def test_validation_is_distinguished_from_training_and_folds_are_searched(store):
    lines = ["case,patient,split", "t1/a,a,train", "t1/b,b,validation", "t1/c,c,test", "t2/d,d,train", "t2/e,e,train"]
    (store.parent / "split.csv").write_text("\n".join(lines) + "\n")
    slice_volumes("volumes", "slices", config=TINY, split_file="split.csv")
    train("slices", config=SHORT, out="elsewhere/runs")
    uses = {number: [use.use for use in find_runs(store, [key_of(store, number)])] for number in (1, 2, 3)}
    assert uses == {1: ["trained"], 2: ["validated"], 3: []}
    save_fold(store, store.parent / "cv" / "fold-0", fold=0, folds=2)
    assert [path.as_posix() for path in find_stores(store, [key_of(store, 1)])] == ["cv/fold-0"]


def test_a_store_that_is_being_trained_on_keeps_its_volumes(store):
    import fcntl

    folder = train("slices", config=SHORT, out="runs")
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"state": "running"}))
    with (folder / LOCK_FILE).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = run("--remove", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {folder} is being trained on these slices: stop it first, or wait for it\n"
    assert len(load_manifest(store)) == 5


def test_a_run_does_not_contain_the_key_file(store):
    folder = train("slices", config=SHORT, out="runs")
    volumes = str(store.parent / "volumes").encode()
    assert [path for path in folder.rglob("*") if path.is_file() and volumes in path.read_bytes()] == []
    assert load_names(store)
