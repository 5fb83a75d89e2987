"""The private key file: which number and hash is which volume; numbers never change, and the file is never copied."""

import csv
import os
import stat

import pytest
from support import dicom_phantoms as made
from support.phantoms import head_mr
from support.volume_folders import TINY, TINY_SHAPE, add_tiny

from medcyclegan.errors import StoreError
from medcyclegan.io import ReadOptions
from medcyclegan.manifest import KEY_FILE, load_manifest
from medcyclegan.slicing import save_fold, slice_volumes
from medcyclegan.slicing.key_file import load_names
from medcyclegan.slicing.lookup import StoredVolume, find_volume, list_volumes, volumes_of_patient
from medcyclegan.slicing.store import load_store


def numbers(store):
    return {os.path.basename(named.path): named.number for named in load_names(store).values()}


def test_every_volume_has_a_number_and_only_the_owner_can_read_them(volumes, store):
    file = store / KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with file.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["number"], row["path"]) for row in rows] == [
        ("1", str(volumes / "t1/a.nii")), ("2", str(volumes / "t1/b.nii")), ("3", str(volumes / "t1/c.nii")),
        ("4", str(volumes / "t2/d.nii")), ("5", str(volumes / "t2/e.nii")),
    ]  # fmt: skip
    assert {(row["domain"], row["case"]) for row in rows} == {(r.domain, r.case) for r in load_manifest(store)}
    for path in store.rglob("*"):
        assert path == file or not path.is_file() or str(volumes).encode() not in path.read_bytes()


def test_numbers_never_change_and_are_not_used_again(volumes, store):
    before = numbers(store)
    add_tiny(volumes / "t1", "0", seed=20)
    slice_volumes(volumes, store, config=TINY)
    assert numbers(store) == before | {"0.nii": 6}
    (volumes / "t1" / "0.nii").unlink()
    (volumes / "t1" / "b.nii").unlink()
    slice_volumes(volumes, store, config=TINY)
    assert set(numbers(store)) == {"a.nii", "c.nii", "d.nii", "e.nii"}
    add_tiny(volumes / "t1", "new", seed=30)
    slice_volumes(volumes, store, config=TINY)
    assert numbers(store)["new.nii"] == 7
    assert {name: number for name, number in numbers(store).items() if name != "new.nii"} == {
        name: number for name, number in before.items() if name != "b.nii"
    }


def test_all_shards_give_the_same_numbers(tmp_path, volumes, store):
    for shard in ((1, 2), (0, 2)):
        slice_volumes(volumes, tmp_path / "sharded", config=TINY, shard=shard)
    assert numbers(tmp_path / "sharded") == numbers(store)


def test_a_series_has_its_uid_and_a_refused_volume_its_number(tmp_path, volumes, store):
    slices = made.slices_of(made.placed_volume())
    made.save(slices[:4] + slices[5:], volumes / "t1" / "series")
    slice_volumes(volumes, store, config=TINY, reading=ReadOptions())
    (refused,) = load_store(store).refusals()
    found = find_volume(list_volumes(store), refused.case, store)
    assert (found.number, found.path) == (6, str(volumes / "t1" / "series"))
    assert found.series_uid == slices[0].SeriesInstanceUID
    assert "slice spacing" in found.refused


def test_a_store_without_its_key_file_gets_numbers_when_it_is_sliced_again(volumes, store):
    before = load_manifest(store)
    (store / KEY_FILE).unlink()
    assert {(v.number, v.path) for v in list_volumes(store)} == {(None, "")}
    with pytest.raises(StoreError, match="no numbers, because its key file is missing or it is a fold"):
        find_volume(list_volumes(store), "1", store)
    case = before[0].case
    assert find_volume(list_volumes(store), case[:8].upper(), store).case == case
    slice_volumes([volumes / "t1"], store, config=TINY, domain="t1")
    named = load_names(store)
    assert sorted(v.number for v in named.values()) == [1, 2, 3, 4, 5]
    assert [named[key].path for key in sorted(named) if key[0] == "t2"] == ["", ""]
    slice_volumes(volumes, store, config=TINY)
    assert all(v.path for v in load_names(store).values())
    assert load_manifest(store) == before


def test_a_fold_does_not_contain_it(tmp_path, store):
    save_fold(store, tmp_path / "fold", fold=0, folds=2)
    assert not (tmp_path / "fold" / KEY_FILE).exists()
    assert len(list_volumes(tmp_path / "fold")) == 5


@pytest.mark.parametrize("text", ["junk\n1\n", "number,domain,case,path,series_uid\nx,t1,ab,,\n", "number\n", None])
def test_a_damaged_file_is_refused_and_kept(volumes, store, text):
    file = store / KEY_FILE
    damaged = file.read_text() + "1,t1,00aa00aa,,\n" if text is None else text
    file.write_text(damaged)
    with pytest.raises(StoreError, match=r"\.names\.csv .*: remove it, and run slice-volumes again"):
        slice_volumes(volumes, store, config=TINY)
    assert file.read_text() == damaged
    file.unlink()
    slice_volumes(volumes, store, config=TINY)
    assert len(load_names(store)) == 5


def test_paths_that_are_hard_to_write_are_kept(tmp_path):
    add_tiny(tmp_path / "v" / "t1", 'a, "b"', "line\nbreak", "umläut", os.fsdecode(b"caf\xe9"))
    slice_volumes(tmp_path / "v", tmp_path / "s", config=TINY)
    assert set(numbers(tmp_path / "s")) == set(os.listdir(tmp_path / "v" / "t1"))


def test_a_reference_is_a_number_or_the_beginning_of_a_hash(store):
    volumes = list_volumes(store)
    assert find_volume(volumes, "3", store).number == 3
    for wrong in ("9", "zz", "", "ab", "0"):
        with pytest.raises(StoreError, match="medcyclegan slices lists its volumes"):
            find_volume(volumes, wrong, store)
    with pytest.raises(StoreError, match=r"2 volumes abcd .* name more digits"):
        find_volume([StoredVolume("t1", f"abcd{n}" + "0" * 11) for n in range(2)], "abcd", store)


def test_a_patient_is_named_by_id_hash_or_volume(tmp_path):
    for n, patient in enumerate(("P1", "P1", "2")):
        slices = made.slices_of(head_mr(TINY_SHAPE, seed=n), seed=f"s{n}")
        for dataset in slices:
            dataset.PatientID = patient
        made.save(slices, tmp_path / "v" / "t1" / f"s{n}")
    add_tiny(tmp_path / "v" / "t1", "broken")
    (tmp_path / "v" / "t1" / "broken.nii").write_bytes(b"junk")
    store = tmp_path / "s"
    slice_volumes(tmp_path / "v", store, config=TINY)
    volumes = list_volumes(store)
    by_number = {volume.number: volume for volume in volumes}

    def found(reference):
        return [volume.number for volume in volumes_of_patient(volumes, reference, store)]

    assert found("P1") == found("3") == [2, 3]
    assert found("4") == [4]
    assert found(by_number[3].case[:8]) == found(by_number[2].row.patient) == [2, 3]
    with pytest.raises(StoreError, match=r"2 can mean several patients, (?=.*the PatientID)(?=.*a volume's number)"):
        found("2")
    assert found(by_number[4].row.patient[:8]) == [4]
    with pytest.raises(StoreError, match="volume 1 was refused, so its patient is not known"):
        found("1")
    with pytest.raises(StoreError, match="no volume P3"):
        found("P3")
