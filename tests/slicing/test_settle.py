"""From rows to manifest: the same image under any names is in one split, and a domain has one modality."""

import dataclasses
import itertools
import logging

import numpy as np
import pytest
from PIL import Image
from support import dicom_phantoms as made
from support.phantoms import head_ct, head_mr, write_nifti
from support.stores import make_row

from medcyclegan.config import load_config
from medcyclegan.errors import ConfigError, IntensityError
from medcyclegan.manifest import load_manifest
from medcyclegan.slicing import save_fold, save_split_file, slice_volumes
from medcyclegan.slicing.settle import settle_rows
from medcyclegan.slicing.split import read_split_file

SHAPE = (24, 28, 8)
SMALL = load_config("default", ["slicing.size=32", "slicing.pixel_mm=8"])


def make_cohort(folder, patients=8):
    for n in range(patients):
        write_nifti(head_mr(SHAPE, seed=n), folder / "t1" / f"P{n:02d}_t1.nii")
        write_nifti(head_mr(SHAPE, seed=50 + n, inverted=True), folder / "t2" / f"P{n:02d}_t2.nii")
    return folder


def splits(store):
    return {row.content: row.split for row in load_manifest(store)}


def test_copies_under_other_names_are_never_in_two_splits(tmp_path, caplog):
    volumes = make_cohort(tmp_path / "v")
    for n in range(8):
        scan = head_mr(SHAPE, seed=n)
        changed = scan.replace(array=(scan.array * 2 + 5).astype(np.float64))
        write_nifti(changed if n % 2 else scan, volumes / "t1" / f"other{chr(97 + n)}.nii.gz")
    slice_volumes(volumes, tmp_path / "s", config=SMALL)
    rows = load_manifest(tmp_path / "s")
    by_patient = {patient: {row.split for row in own} for patient, own in groups(rows).items()}
    assert len(by_patient) == 8
    assert all(len(found) == 1 for found in by_patient.values())
    assert [len(own) for own in groups(rows).values()] == [3] * 8
    assert "are the same image, or nearly: they count as one patient" in caplog.text
    assert {row.patient_source for row in rows} == {"name", "same image"}
    for fold in range(3):
        again = load_manifest(save_fold(tmp_path / "s", tmp_path / f"fold{fold}", fold=fold, folds=3))
        assert all(len({row.split for row in own}) == 1 for own in groups(again).values())


def groups(rows):
    found = {}
    for row in rows:
        found.setdefault(row.patient, []).append(row)
    return found


def test_shards_agree_whoever_ends_last(tmp_path):
    volumes = make_cohort(tmp_path / "v")
    for n in range(8):
        write_nifti(head_mr(SHAPE, seed=n), volumes / "t1" / f"other{chr(97 + n)}.nii.gz")
    slice_volumes(volumes, tmp_path / "whole", config=SMALL)
    for name, order in (("forward", (0, 1, 2)), ("backward", (2, 1, 0))):
        for shard in order:
            slice_volumes(volumes, tmp_path / name, config=SMALL, shard=(shard, 3))
        assert splits(tmp_path / name) == splits(tmp_path / "whole")
        assert slice_volumes(volumes, tmp_path / name, config=SMALL).sliced == ()
        assert splits(tmp_path / name) == splits(tmp_path / "whole")


def test_what_trained_once_is_not_held_out_later(tmp_path):
    volumes = make_cohort(tmp_path / "v")
    slice_volumes(volumes, tmp_path / "s", config=SMALL)
    before = splits(tmp_path / "s")
    for n in range(8):
        write_nifti(head_mr(SHAPE, seed=n), volumes / "t1" / f"other{chr(97 + n)}.nii.gz")
    slice_volumes(volumes, tmp_path / "s", config=SMALL)
    after = splits(tmp_path / "s")
    assert all(after[content] == "train" for content, split in before.items() if split == "train")


def test_a_split_file_that_parts_the_same_image_is_refused(tmp_path):
    volumes = make_cohort(tmp_path / "v", patients=2)
    write_nifti(head_mr(SHAPE, seed=1), volumes / "t1" / "other.nii")
    file = tmp_path / "split.csv"
    file.write_text("case,patient,split\nt1/other,other,test\nt1/P01_t1,P01,train\n")
    with pytest.raises(ConfigError, match=r"t1/P01_t1 and t1/other are the same .* one into train and one into test"):
        slice_volumes(volumes, tmp_path / "s", config=SMALL, split_file=file)
    file.write_text("case,patient,split\nt1/other,other,test\nt1/P01_t1,P01,test\n")
    slice_volumes(volumes, tmp_path / "s", config=SMALL, split_file=file)
    file.write_text("case,patient,split\nt1/other,other,test\n")
    slice_volumes(volumes, tmp_path / "whose", config=SMALL, split_file=file)
    assert sorted(row.split for row in load_manifest(tmp_path / "whose")) == ["test"] * 3 + ["train"] * 2


def test_the_template_of_a_split_file_gives_the_same_splits(tmp_path, caplog):
    volumes = make_cohort(tmp_path / "v")
    write_nifti(head_mr(SHAPE, seed=1), volumes / "t1" / "other.nii")
    slice_volumes(volumes, tmp_path / "s", config=SMALL)
    file = save_split_file(volumes, tmp_path / "split.csv", tmp_path / "s", config=SMALL)
    listed = {case: (patient, split) for case, patient, split in read_split_file(file)}
    assert len(listed) == 17
    assert listed["t1/other"] == listed["t1/P01_t1"] == listed["t2/P01_t2"]
    slice_volumes(volumes, tmp_path / "again", config=SMALL, split_file=file)
    assert splits(tmp_path / "again") == splits(tmp_path / "s")
    assert {row.patient_source for row in load_manifest(tmp_path / "again")} == {"split file"}
    fresh = save_split_file(volumes, tmp_path / "fresh.csv", tmp_path / "none", config=SMALL)
    assert dict(row[:2] for row in read_split_file(fresh))["t1/other"] == "other"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"train", "test"}, "train"),
        ({"validation", "test"}, "validation"),
        ({"train", "validation"}, "train"),
        ({"test"}, "test"),
    ],
)
def test_the_split_that_wins_depends_on_no_order(given, expected):
    rows = [make_row("t1", n, (2, 32, 32), split=split, likeness="same text") for n, split in enumerate(sorted(given))]
    for order in itertools.permutations(rows):
        settled = settle_rows(order, {})
        assert {row.split for row in settled} == {expected}
        assert {row.patient for row in settled} == {min(row.patient for row in rows)}
        assert all((row.likeness, row.origin) == ("", ()) for row in settled)


def test_rows_without_a_likeness_stay_as_they_are():
    rows = [make_row("t1", n, (2, 32, 32), split="test" if n else "train") for n in range(3)]
    assert settle_rows(rows, {}) == rows
    mixed = [*rows, dataclasses.replace(make_row("t1", 9, (2, 32, 32)), modality="CT")]
    with pytest.raises(IntensityError, match=r"t1 mixes MR \(a volume of t1 of an earlier call, .*\) with CT"):
        settle_rows(mixed, {})


def test_a_warning_names_splits_without_patients(tmp_path, caplog):
    for n in range(6):
        write_nifti(head_mr(SHAPE, seed=0), tmp_path / "v" / "t1" / f"{'abcdef'[n]}.nii")
        write_nifti(head_mr(SHAPE, seed=n), tmp_path / "v" / "t2" / f"{'abcdef'[n]}.nii")
    slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
    assert {row.split for row in load_manifest(tmp_path / "s")} == {"train"}
    assert "pairs of patients have the same images" not in caplog.text
    assert caplog.text.count("are the same image") == 5


class TestOneModality:
    """A domain of several modalities is refused before its slices are used."""

    def test_dicom_headers_that_differ(self, tmp_path):
        for n in range(2):
            made.save(made.slices_of(head_ct(SHAPE, seed=n), seed=f"ct{n}"), tmp_path / "pacs" / f"A{n}")
            made.save(made.slices_of(head_mr(SHAPE, seed=n), seed=f"mr{n}"), tmp_path / "pacs" / f"B{n}")
        with pytest.raises(IntensityError, match=r"mr mixes CT \(pacs/A0, pacs/A1\) with MR \(pacs/B0, pacs/B1\)"):
            slice_volumes(tmp_path / "pacs", tmp_path / "s", config=SMALL, domain="mr")
        assert not list((tmp_path / "s").rglob("*.npy"))
        config = load_config("default", ["slicing.size=32", "slicing.pixel_mm=8", "domains.mr.modality=MR"])
        result = slice_volumes(tmp_path / "pacs", tmp_path / "s", config=config, domain="mr")
        assert (len(result.sliced), len(result.refused)) == (2, 2)
        assert {volume.name for volume in result.refused_volumes} == {"A0", "A1"}

    def test_a_later_call(self, tmp_path):
        made.save(made.slices_of(head_ct(SHAPE), seed="ct"), tmp_path / "a" / "ct")
        made.save(made.slices_of(head_mr(SHAPE), seed="mr"), tmp_path / "b" / "mr")
        slice_volumes(tmp_path / "a", tmp_path / "s", config=SMALL, domain="head")
        with pytest.raises(IntensityError, match=r"head mixes CT \(a volume of an earlier call\) with MR \(b/mr\)"):
            slice_volumes(tmp_path / "b", tmp_path / "s", config=SMALL, domain="head")
        assert {row.modality for row in load_manifest(tmp_path / "s")} == {"CT"}

    def test_sidecars_that_differ(self, tmp_path):
        for n, modality in enumerate(("CT", "MR")):
            head = head_ct(SHAPE) if modality == "CT" else head_mr(SHAPE)
            write_nifti(head, tmp_path / "v" / "head" / f"{n}.nii")
            (tmp_path / "v" / "head" / f"{n}.json").write_text(f'{{"Modality": "{modality}"}}')
        with pytest.raises(IntensityError, match=r"head mixes CT \(head/0\) with MR \(head/1\)"):
            slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
        (tmp_path / "v" / "head" / "0.nii").unlink()
        slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
        assert [row.modality for row in load_manifest(tmp_path / "s")] == ["MR"]

    def test_pictures_among_volumes(self, tmp_path):
        write_nifti(head_mr(SHAPE), tmp_path / "v" / "t1" / "a.nii")
        Image.fromarray(np.eye(40, dtype=np.uint8)).save(tmp_path / "v" / "t1" / "b.png")
        with pytest.raises(IntensityError, match=r"t1 mixes pictures \(t1/b\) with volumes \(t1/a\)"):
            slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)

    def test_files_without_a_header_take_the_modality_of_the_others(self, tmp_path, caplog):
        made.save(made.slices_of(head_ct(SHAPE), seed="ct"), tmp_path / "v" / "head" / "series")
        write_nifti(head_ct(SHAPE, seed=1), tmp_path / "v" / "head" / "a.nii")
        write_nifti(head_mr(SHAPE, seed=1), tmp_path / "v" / "head" / "b.nii")
        with caplog.at_level(logging.WARNING):
            result = slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
        assert {(row.modality, row.scaling["unit"]) for row in load_manifest(tmp_path / "s")} == {("CT", "HU")}
        assert [volume.name for volume in result.refused_volumes] == ["b"]
        assert "not in HU" in caplog.text
