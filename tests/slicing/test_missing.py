"""Volumes that are no longer among the inputs are removed from the store, and no others."""

import json
import logging
import shutil

import numpy as np
import pytest
from support import dicom_phantoms as made
from support.phantoms import head_mr
from support.volume_folders import TINY, TINY_SHAPE, add_tiny

from medcyclegan.errors import StoreError
from medcyclegan.io import ReadOptions, find_volumes
from medcyclegan.manifest import MANIFEST, load_manifest
from medcyclegan.slicing import slice_volumes


def cases(store, domain="t1"):
    return {row.case for row in load_manifest(store) if row.domain == domain}


def stacks(store):
    return {path.relative_to(store).as_posix() for path in store.rglob("*.npy")}


def test_what_is_gone_from_the_inputs_is_removed(volumes, store, caplog):
    before, sheet = stacks(store), (store / "t1.png").read_bytes()
    (volumes / "t1" / "a.nii").unlink()
    (volumes / "t2" / "e.nii").unlink()
    result = slice_volumes(volumes, store, config=TINY)
    assert (len(result.sliced), len(result.finished)) == (0, 3)
    assert len(load_manifest(store)) == 3
    assert stacks(store) == {row.file for row in load_manifest(store)} < before
    assert len(list((store / ".rows").iterdir())) == 3
    assert (store / "t1.png").read_bytes() != sheet
    assert json.loads((store / "run.json").read_text())["volumes"] == 3
    assert "t1: 1 volume is no longer among the inputs: the slices are removed" in caplog.text
    assert "t2: 1 volume is no longer among the inputs" in caplog.text


def test_they_are_kept_on_request(volumes, store, caplog):
    (volumes / "t1" / "a.nii").unlink()
    slice_volumes(volumes, store, config=TINY, keep_missing=True)
    assert len(cases(store)) == 3
    assert "--keep-missing keeps the slices" in caplog.text
    slice_volumes(volumes, store, config=TINY)
    assert len(cases(store)) == 2


def test_the_manifest_no_longer_names_them_before_anything_is_sliced(volumes, store, monkeypatch):
    (volumes / "t1" / "a.nii").unlink()
    add_tiny(volumes / "t1", "new", seed=9)

    def killed(job):
        raise KeyboardInterrupt

    monkeypatch.setattr("medcyclegan.slicing.volumes.slice_case", killed)
    with pytest.raises(KeyboardInterrupt):
        slice_volumes(volumes, store, config=TINY)
    assert stacks(store) == {row.file for row in load_manifest(store)}
    assert len(cases(store)) == 2


def test_a_volume_that_is_refused_after_a_change_loses_its_slices(volumes, store):
    (volumes / "t1" / "a.nii").write_text("no volume")
    result = slice_volumes(volumes, store, config=TINY)
    assert len(result.refused) == 1
    assert len(cases(store)) == 2
    assert stacks(store) == {row.file for row in load_manifest(store)}


def test_the_refusal_of_a_volume_that_is_gone_is_forgotten(volumes, store):
    (volumes / "t1" / "a.nii").write_text("no volume")
    slice_volumes(volumes, store, config=TINY)
    assert (store / "refused.jsonl").read_text()
    (volumes / "t1" / "a.nii").unlink()
    slice_volumes(volumes, store, config=TINY)
    assert (store / "refused.jsonl").read_text() == ""


def test_a_domain_whose_folder_is_gone_is_removed(volumes, store):
    shutil.rmtree(volumes / "t1")
    slice_volumes(volumes, store, config=TINY)
    assert {row.domain for row in load_manifest(store)} == {"t2"}
    assert not (store / "t1.png").exists()
    assert all(name.startswith("t2/") for name in stacks(store))


def test_a_folder_without_volumes_may_be_a_missing_disk(volumes, store):
    before = stacks(store)
    for path in (volumes / "t1").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match=r"t1 holds no volumes, but .* has slices of 3: is a disk missing"):
        slice_volumes(volumes, store, config=TINY)
    assert stacks(store) == before
    slice_volumes(volumes, store, config=TINY, keep_missing=True)
    assert stacks(store) == before


def test_what_came_from_elsewhere_stays(volumes, store, tmp_path, caplog):
    add_tiny(tmp_path / "more", "x", "y", seed=9)
    with caplog.at_level(logging.INFO):
        slice_volumes(tmp_path / "more", store, config=TINY, domain="t1")
    assert len(cases(store)) == 5
    assert "5 volumes are of other inputs and stay in the store" in caplog.text
    (volumes / "t1" / "a.nii").unlink()
    (tmp_path / "more" / "x.nii").unlink()
    slice_volumes(volumes, store, config=TINY)
    assert len(cases(store)) == 4, "of the other folder nothing is known in this call"
    slice_volumes(tmp_path / "more", store, config=TINY, domain="t1")
    assert len(cases(store)) == 3


def test_files_and_folders_that_are_named_one_by_one(tmp_path):
    add_tiny(tmp_path / "files", "a", "b", "c")
    for name in ("p", "q", "r"):
        add_tiny(tmp_path / "folders" / name, name, seed=ord(name))
    store = tmp_path / "slices"

    def again():
        slice_volumes(sorted((tmp_path / "files").iterdir()), store, config=TINY, domain="t1")
        slice_volumes(sorted((tmp_path / "folders").iterdir()), store, config=TINY, domain="t2")
        return len(cases(store, "t1")), len(cases(store, "t2"))

    assert again() == (3, 3)
    slice_volumes(tmp_path / "files" / "a.nii", store, config=TINY, domain="t1")
    slice_volumes(tmp_path / "folders" / "p", store, config=TINY, domain="t2")
    assert again() == (3, 3), "what is not named but there is not gone"
    (tmp_path / "files" / "b.nii").unlink()
    shutil.rmtree(tmp_path / "folders" / "q")
    assert again() == (2, 2)


def test_inputs_and_store_may_be_moved_together(volumes, store, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    for path in (volumes, store):
        shutil.move(path, tmp_path / "elsewhere" / path.name)
    (tmp_path / "elsewhere" / "volumes" / "t1" / "a.nii").unlink()
    monkeypatch.chdir(tmp_path / "elsewhere")
    slice_volumes("volumes", "slices", config=TINY)
    assert len(cases(tmp_path / "elsewhere" / "slices")) == 2


@pytest.mark.parametrize("shard", [0, 1])
def test_any_shard_removes_them(volumes, store, shard):
    (volumes / "t1" / "a.nii").unlink()
    slice_volumes(volumes, store, config=TINY, shard=(shard, 2))
    assert len(cases(store)) == 2


def test_a_list_of_volumes_is_all_of_them(tmp_path):
    add_tiny(tmp_path / "t1", "a", "b", "c")
    found = find_volumes(tmp_path / "t1", ReadOptions())
    slice_volumes({"t1": found}, tmp_path / "slices", config=TINY)
    slice_volumes({"t1": found[1:]}, tmp_path / "slices", config=TINY)
    assert len(cases(tmp_path / "slices")) == 2


def test_a_named_series_does_not_remove_the_others(tmp_path):
    for number in (1, 2):
        made.save(made.slices_of(head_mr(TINY_SHAPE, seed=number), seed=str(number)), tmp_path / "t1" / str(number))
    slice_volumes(tmp_path / "t1", tmp_path / "slices", config=TINY, domain="t1")
    (uid,) = {found.series_uid for found in find_volumes(tmp_path / "t1" / "2", ReadOptions())}
    slice_volumes(tmp_path / "t1", tmp_path / "slices", config=TINY, domain="t1", reading=ReadOptions(series=uid))
    assert len(cases(tmp_path / "slices")) == 2


def test_the_last_volume_takes_the_manifest_with_it(volumes, store):
    for path in (*(volumes / "t1").iterdir(), *(volumes / "t2").iterdir()):
        path.write_text("no volume")
    result = slice_volumes(volumes, store, config=TINY)
    assert len(result.refused) == 5
    assert not stacks(store)
    assert not (store / MANIFEST).exists()


@pytest.mark.parametrize("origin", [[], ["0f" * 8], None])
def test_a_row_without_its_origin_is_sliced_again(volumes, store, caplog, origin):
    (file,) = [f for f in (store / ".rows").iterdir() if f.name.startswith("t1@")][:1]
    complete = json.loads(file.read_text())
    damaged = {name: value for name, value in complete.items() if name != "origin"}
    file.write_text(json.dumps(damaged if origin is None else {**damaged, "origin": origin}))
    result = slice_volumes(volumes, store, config=TINY)
    assert len(result.sliced) == 1
    assert "the origin must be two hashes" in caplog.text
    assert json.loads(file.read_text()) == complete


def test_nothing_outside_the_store_is_removed(volumes, store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    precious = outside / "0123456789abcdef.npy"
    np.save(precious, np.zeros(3))
    (row,) = [r for r in (store / ".rows").iterdir() if r.name.startswith("t1@")][:1]
    origin = json.loads(row.read_text())["origin"]
    lines = [
        {"domain": "../outside", "case": "0123456789abcdef", "reason": "x", "origin": origin},
        {"domain": "t1", "case": "../../outside/0123456789abcdef", "reason": "x", "origin": origin},
        {"domain": "t1", "case": "0123456789abcdef", "reason": "x", "origin": 3},
    ]
    (store / "refused.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    slice_volumes(volumes, store, config=TINY)
    assert precious.exists()
    shutil.move(store / "t1", outside / "t1")
    (store / "t1").symlink_to(outside / "t1")
    (volumes / "t1" / "a.nii").unlink()
    with pytest.raises(StoreError, match="leads out of the slice store"):
        slice_volumes(volumes, store, config=TINY)
    assert len(list((outside / "t1").glob("*.npy"))) == 3
