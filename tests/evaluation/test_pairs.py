"""Pairs by name, by BIDS entities and from a CSV, and ambiguous cases."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from support import dicom_phantoms as made

from medcyclegan.errors import AmbiguousError, ReadError
from medcyclegan.evaluation import find_pairs, read_pairs
from medcyclegan.evaluation import pairs as evaluation_pairs
from medcyclegan.io import FoundVolume, ReadOptions, write_volume
from medcyclegan.volume import Volume


@pytest.fixture
def put(tmp_path):
    """Write a tiny volume under each of the names."""
    volume = Volume(np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.eye(4))

    def write(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_volume(volume, path)

    return write


def found(root, **more):
    sides = {name: root / place for name, place in more.items()}
    pairs = find_pairs(root / "fakes", root / "refs", **sides, options=ReadOptions())
    return [(p.case, *(None if v is None else v.name for v in (p.reference, p.mask, p.source))) for p in pairs]


def test_two_single_volumes_are_a_pair_regardless_of_their_names(tmp_path, put):
    put("fakes/a.nii.gz", "refs/b.mha", "masks/m.nii")
    assert found(tmp_path, mask="masks/m.nii") == [("a", "b", "m", None)]


def test_folders_are_matched_by_name_regardless_of_the_ending(tmp_path, put):
    put("fakes/a.nii.gz", "fakes/p/c.nii", "refs/a.mha", "refs/p/c.nii.gz", "refs/unused.nii", "in/a.nii", "in/p/c.nii")
    assert found(tmp_path, source="in") == [("a", "a", None, "a"), ("p/c", "p/c", None, "p/c")]


def test_folders_are_matched_by_bids_entities(tmp_path, put):
    put("fakes/sub-01_ses-1_desc-synthetic_T2w.nii.gz", "fakes/sub-01_ses-2_desc-synthetic_T2w.nii.gz")
    put("fakes/sub-02_desc-synthetic_T2w.nii.gz")
    for ses in ("1", "2"):
        put(f"refs/sub-01/ses-{ses}/anat/sub-01_ses-{ses}_T2w.nii.gz")
    put("refs/sub-02/ses-5/anat/sub-02_ses-5_T2w.nii.gz")
    assert [reference for _, reference, _, _ in found(tmp_path)] == [
        "sub-01/ses-1/anat/sub-01_ses-1_T2w",
        "sub-01/ses-2/anat/sub-01_ses-2_T2w",
        "sub-02/ses-5/anat/sub-02_ses-5_T2w",
    ]


def test_several_possible_partners_are_refused(tmp_path, put):
    put("fakes/sub-01_T2w.nii.gz", "fakes/sub-02_T2w.nii.gz")
    put("refs/sub-01_run-1_T2w.nii.gz", "refs/sub-01_run-2_T2w.nii.gz", "refs/sub-02_T2w.nii.gz")
    with pytest.raises(AmbiguousError, match=r"sub-01_T2w: 2 volumes could be its reference .*--pairs"):
        found(tmp_path)


def test_fakes_without_a_reference_are_left_out_with_a_warning(tmp_path, put, caplog):
    put("fakes/a.nii", "fakes/b.nii", "refs/a.nii", "refs/c.nii")
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path) == [("a", "a", None, None)]
    assert "1 of 2 fakes have no reference and are left out: b" in caplog.text


def test_nothing_to_pair_is_refused(tmp_path, put):
    put("fakes/a.nii", "fakes/b.nii", "refs/c.nii", "refs/d.nii")
    with pytest.raises(
        ReadError, match=r"none of the 2 volumes in .* \(a, b\) has a reference in .* \(c, d\).*--pairs"
    ):
        found(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="no volume found"):
        found(tmp_path, mask="empty")
    with pytest.raises(ReadError, match="no such file or folder"):
        found(tmp_path, mask="missing")


def test_a_missing_mask_or_input_is_refused(tmp_path, put):
    put("fakes/a.nii", "fakes/b.nii", "refs/a.nii", "refs/b.nii", "masks/a.nii")
    with pytest.raises(ReadError, match="b: no mask has the same name"):
        found(tmp_path, mask="masks")


def test_a_csv_names_pairs_from_its_own_folder(tmp_path, put):
    put("x/a.nii", "x/b.nii", "x/m.nii")
    table = tmp_path / "pairs.csv"
    table.write_text("fake,reference,mask,input,case\nx/a.nii,x/b.nii,x/m.nii,,one\nx/b.nii,x/a.nii,,x/a.nii,\n")
    pairs = read_pairs(table)
    assert [(p.case, p.fake.name, p.reference.name) for p in pairs] == [("one", "a", "b"), ("b", "b", "a")]
    assert pairs[0].mask.name == "m"
    assert (pairs[0].source, pairs[1].source.name, pairs[1].mask) == (None, "a", None)


def test_a_csv_whose_reference_holds_two_series_takes_the_chosen_one(tmp_path, put):
    put("a.nii")
    uids = []
    for name in ("one", "other"):
        datasets = made.slices_of(made.placed_volume((12, 14, 8)), seed=name)
        made.save(datasets, tmp_path / "study" / name)
        uids.append(str(datasets[0].SeriesInstanceUID))
    table = tmp_path / "pairs.csv"
    table.write_text("fake,reference\na.nii,study\n")
    with pytest.raises(AmbiguousError, match="contains 2 volumes"):
        read_pairs(table)
    for uid in uids:
        (pair,) = read_pairs(table, ReadOptions(series=uid))
        assert pair.reference.series_uid == uid


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns are none"),
        ("fake,truth\na,b\n", "columns are fake, truth"),
        ("fake,reference\nx/a.nii,\n", "line 2: give a fake and a reference"),
        ("fake,reference\nx/a.nii,x/a.nii,more\n", "line 2"),
        ("fake,reference\n", "no pairs"),
        ("fake,reference\nx/a.nii,x/a.nii\nx/a.nii,x/b.nii\n", "several pairs are called a"),
        ("fake,reference\nx/a.nii,x/missing.nii\n", "no such file"),
    ],
)
def test_an_incomplete_csv_is_refused(tmp_path, put, text, said):
    put("x/a.nii", "x/b.nii")
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ReadError, match=said):
        read_pairs(tmp_path / "pairs.csv")


def test_sessions_of_a_patient_are_distinguished_by_their_names(tmp_path, put, caplog):
    names = ["sub-01_ses-1_T2w", "sub-01_ses-2_T2w", "P02_visit1", "P02_visit2", "c/one", "c/two", "alone"]
    put(*(f"{folder}/{name}.nii" for folder in ("fakes", "refs") for name in names))
    pairs = find_pairs(tmp_path / "fakes", tmp_path / "refs", options=ReadOptions())
    assert {pair.case: pair.patient for pair in pairs} == {
        "sub-01_ses-1_T2w": "sub-01", "sub-01_ses-2_T2w": "sub-01", "P02_visit1": "P02", "P02_visit2": "P02",
        "c/one": "c", "c/two": "c", "alone": "alone",
    }  # fmt: skip
    assert "7 cases count as 4 patients" in caplog.text


def test_nothing_is_logged_if_each_case_is_another_patient(tmp_path, put, caplog):
    put("fakes/a.nii", "fakes/b.nii", "refs/a.nii", "refs/b.nii")
    found(tmp_path)
    assert "count as" not in caplog.text


def test_dicom_identifies_the_patient_and_the_id_is_not_kept(tmp_path, put):
    """Two references with one PatientID and one with another, regardless of the names of their folders."""
    for name, patient in (("a", "MARKER-1"), ("b", "MARKER-1"), ("c", "MARKER-2")):
        put(f"fakes/{name}.nii")
        datasets = made.slices_of(made.placed_volume((12, 14, 8)), seed=name)
        for dataset in datasets:
            dataset.PatientID = patient
        made.save(datasets, tmp_path / "refs" / name)
    pairs = find_pairs(tmp_path / "fakes", tmp_path / "refs", options=ReadOptions())
    assert [(pair.case, pair.patient) for pair in pairs] == [("a", "a"), ("b", "a"), ("c", "c")]


def test_the_column_patient_decides(tmp_path, put):
    put("x/a.nii", "x/b.nii")
    rows = ["one,x/a.nii,x/b.nii,p", "two,x/a.nii,x/b.nii,p", "three,x/a.nii,x/b.nii,"]
    (tmp_path / "pairs.csv").write_text("\n".join(["case,fake,reference,patient", *rows]) + "\n")
    assert [pair.patient for pair in read_pairs(tmp_path / "pairs.csv")] == ["p", "p", "three"]


def test_the_work_grows_with_the_volumes_and_not_with_their_square(tmp_path, monkeypatch):
    """A cohort of ten thousand is paired with ten thousand lookups."""
    looks = []
    parse = evaluation_pairs._entities
    monkeypatch.setattr(evaluation_pairs, "_entities", lambda name: looks.append(name) or parse(name))
    names = [f"sub-{n:03d}" for n in range(200)]
    volumes = {
        folder: [FoundVolume(tmp_path, "nifti", f"{name}_{end}", tmp_path) for name in names]
        for folder, end in (("fakes", "desc-synthetic_T2w"), ("refs", "T2w"))
    }
    monkeypatch.setattr(evaluation_pairs, "_found", lambda path, options: volumes[path.name])
    pairs = find_pairs(tmp_path / "fakes", tmp_path / "refs", options=ReadOptions())
    assert [(pair.fake.name[:7], pair.reference.name[:7]) for pair in pairs] == [(name, name) for name in names]
    assert len(looks) <= 5 * len(names)
