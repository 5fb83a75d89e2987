"""Folds by patient, and finding held-out volumes among the inputs."""

import dataclasses

import numpy as np
import pytest
from support.cohorts import make_cohort
from support.stores import make_store

from medcyclegan.cohort import select_volumes
from medcyclegan.config import load_config
from medcyclegan.errors import StoreError, UsageError
from medcyclegan.manifest import MANIFEST, load_manifest, rows_to_text
from medcyclegan.slicing import find_held_out, save_fold, slice_volumes


@pytest.fixture(scope="module")
def sliced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sliced")
    make_cohort(folder / "bids", 6)
    volumes = {name: select_volumes(folder / "bids", [f"suffix={name.upper()}w"]) for name in ("t1", "t2")}
    config = load_config("smoke", ["slicing.size=64", "slicing.pixel_mm=4"])
    result = slice_volumes(volumes, folder / "slices", config=config)
    return folder, volumes, result


def test_refused_volumes_are_returned_with_their_names(sliced):
    folder, _, result = sliced
    names = {f"{r.domain}/{v.name}" for r, v in zip(result.refused, result.refused_volumes, strict=True)}
    assert names == {
        "t1/sub-00/anat/sub-00_T1w", "t1/sub-02/anat/sub-02_T1w", "t2/sub-01/anat/sub-01_T2w",
    }  # fmt: skip
    assert "sub-00" not in (folder / "slices" / "refused.jsonl").read_text()


def test_held_out_volumes_are_found_again(sliced):
    folder, volumes, _ = sliced
    held = find_held_out(folder / "slices", volumes)
    rows = [row for row in load_manifest(folder / "slices") if row.split == "test"]
    assert len(held) == len(rows) > 0
    assert {h.patient for h in held} == {row.patient for row in rows}
    assert len({h.found.name.split("/")[0] for h in held}) == len({h.patient for h in held})
    with pytest.raises(StoreError, match="was not sliced from these volumes"):
        find_held_out(folder / "slices", {"t1": volumes["t2"][:1]})
    with pytest.raises(StoreError, match="no slice store with its key"):
        find_held_out(folder / "nowhere", volumes)


def test_every_patient_is_held_out_once(sliced, tmp_path):
    folder, volumes, _ = sliced
    tested = []
    for fold in range(3):
        out = save_fold(folder / "slices", tmp_path / str(fold), fold=fold, folds=3)
        rows = load_manifest(out)
        assert len(rows) == 9
        tested += sorted({row.patient for row in rows if row.split == "test"})
        for patient in {row.patient for row in rows}:
            assert len({row.split for row in rows if row.patient == patient}) == 1
        held = find_held_out(out, volumes, keyed_store=folder / "slices")
        assert {h.patient for h in held} == {row.patient for row in rows if row.split == "test"}
        assert not (out / ".key").exists()
    assert sorted(tested) == sorted({row.patient for row in load_manifest(folder / "slices")})
    row = load_manifest(tmp_path / "0")[0]
    assert np.array_equal(np.load(tmp_path / "0" / row.file), np.load(folder / "slices" / row.file))


def test_more_folds_than_patients_are_refused(sliced, tmp_path):
    with pytest.raises(UsageError, match="with 6 patients"):
        save_fold(sliced[0] / "slices", tmp_path / "x", fold=0, folds=7)


def test_the_folds_do_not_depend_on_the_store_key(sliced, tmp_path):
    folder, volumes, _ = sliced
    config = load_config("smoke", ["slicing.size=64", "slicing.pixel_mm=4"])
    slice_volumes(volumes, tmp_path / "other", config=config)
    tested = []
    for number, store in enumerate((folder / "slices", tmp_path / "other")):
        rows = [load_manifest(save_fold(store, tmp_path / f"{number}{f}", fold=f, folds=3)) for f in range(3)]
        tested.append([sorted((r.content, r.split) for r in own) for own in rows])
        assert len({row.case for row in rows[0]}) == 9
    assert tested[0] == tested[1]
    assert not {r.case for r in load_manifest(folder / "slices")} & {r.case for r in load_manifest(tmp_path / "other")}


def test_patients_of_the_same_slices_are_still_several(tmp_path):
    same = [np.zeros((2, 32, 32), np.float16)] * 2
    rows = make_store(tmp_path / "slices", {"a": same, "b": same})
    alike = [dataclasses.replace(row, content="0" * 64) for row in rows]
    (tmp_path / "slices" / MANIFEST).write_text(rows_to_text(alike), "utf-8")
    folds = [load_manifest(save_fold(tmp_path / "slices", tmp_path / str(f), fold=f, folds=4)) for f in range(4)]
    assert sorted(row.patient for rows in folds for row in rows if row.split == "test") == sorted(
        r.patient for r in rows
    )
