"""A cohort on disk: its layout, its truth, going on after anything, and what is refused."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from support.label_phantoms import label_array, write_labels

from medcyclegan.config import load_config
from medcyclegan.errors import IntensityError, ReadError, UsageError, WriteError
from medcyclegan.io import read_volume
from medcyclegan.manifest import load_manifest
from medcyclegan.slicing import slice_volumes
from medcyclegan.synthesis import TISSUES, Cohort, Variation, synthesize

COARSE = Variation(spacing_mm=5.0)


@pytest.fixture
def maps(tmp_path):
    write_labels(tmp_path / "labels" / "one.nii.gz")
    write_labels(tmp_path / "labels" / "two.nii.gz", label_array((46, 54, 54)))
    return tmp_path / "labels"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cohort_has_the_layout_that_slice_volumes_reads_and_its_truth_next_to_it(maps, tmp_path):
    result = synthesize([maps], tmp_path / "volumes", Cohort(("t1", "ct"), 3, variation=COARSE))
    assert (result.drawn, result.finished) == (3, 0)
    names = [f"sub-000{n}" for n in (1, 2, 3)]
    assert sorted(p.name for p in (tmp_path / "volumes").iterdir()) == ["ct", "t1"]
    assert sorted(p.name for p in (tmp_path / "volumes" / "t1").iterdir()) == [f"{n}_T1w.nii.gz" for n in names]
    for name in names:
        t1 = read_volume(tmp_path / "volumes" / "t1" / f"{name}_T1w.nii.gz")
        ct = read_volume(tmp_path / "volumes" / "ct" / f"{name}_ct.nii.gz")
        tissues = read_volume(result.truth / f"{name}_tissues.nii.gz")
        assert np.array_equal(t1.affine, ct.affine)
        assert np.array_equal(t1.affine, tissues.affine)
        bone = next(n for n, tissue in enumerate(TISSUES) if tissue.name == "cortical bone")
        assert np.median(ct.array[tissues.array == bone]) > 500
        record = json.loads((result.truth / f"{name}.json").read_text())
        assert record["state"] == "finished"
        assert record["patient"]["grid"]["shape"] == list(t1.shape)
    rows = list(csv.reader((result.truth / "tissues.csv").read_text().splitlines()))
    assert rows[0] == ["number", "tissue"]
    assert rows[1:] == [[str(n), tissue.name] for n, tissue in enumerate(TISSUES)]


def test_slice_volumes_keeps_the_contrasts_of_a_patient_together(maps, tmp_path):
    synthesize([maps], tmp_path / "volumes", Cohort(("t1", "t2"), 6, variation=COARSE))
    config = load_config("demo", ["slicing.size=64", "slicing.pixel_mm=5.0"])
    slice_volumes(tmp_path / "volumes", tmp_path / "slices", config=config)
    rows = load_manifest(tmp_path / "slices")
    assert len(rows) == 12
    splits = {row.patient: {other.split for other in rows if other.patient == row.patient} for row in rows}
    assert len(splits) == 6
    assert all(len(split) == 1 for split in splits.values())
    assert {row.modality for row in rows} == {"MR"}


def test_a_repeated_call_draws_nothing_and_a_longer_one_adds(maps, tmp_path):
    first = Cohort(("t1",), 2, variation=COARSE)
    synthesize([maps], tmp_path / "volumes", first)
    before = contents(tmp_path / "volumes")
    again = synthesize([maps], tmp_path / "volumes", first)
    assert (again.drawn, again.finished) == (0, 2)
    assert contents(tmp_path / "volumes") == before
    more = synthesize([maps], tmp_path / "volumes", Cohort(("t1",), 4, variation=COARSE))
    assert (more.drawn, more.finished) == (2, 2)
    after = contents(tmp_path / "volumes")
    assert {file: after[file] for file in before} == before
    synthesize([maps], tmp_path / "at-once", Cohort(("t1",), 4, variation=COARSE))
    assert contents(tmp_path / "at-once") == after


def test_contrasts_that_are_added_later_are_those_of_the_same_patients(maps, tmp_path):
    synthesize([maps], tmp_path / "volumes", Cohort(("t1",), 2, variation=COARSE))
    result = synthesize([maps], tmp_path / "volumes", Cohort(("ct",), 2, variation=COARSE))
    assert result.drawn == 2
    synthesize([maps], tmp_path / "at-once", Cohort(("t1", "ct"), 2, variation=COARSE))
    assert contents(tmp_path / "volumes") == contents(tmp_path / "at-once")
    record = json.loads((result.truth / "sub-0001.json").read_text())
    assert record["contrasts"] == ["t1", "ct"]


def test_what_a_kill_left_behind_is_drawn_again(maps, tmp_path):
    cohort = Cohort(("t1", "t2"), 2, variation=COARSE)
    result = synthesize([maps], tmp_path / "volumes", cohort)
    before = contents(tmp_path / "volumes")
    record = result.truth / "sub-0002.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"state": "drawing"}))
    (tmp_path / "volumes" / "t1" / "sub-0002_T1w.nii.gz").write_bytes(b"half")
    (tmp_path / "volumes" / "t2" / "sub-0001_T2w.nii.gz").unlink()
    assert synthesize([maps], tmp_path / "volumes", cohort).drawn == 2
    assert contents(tmp_path / "volumes") == before


def test_workers_and_shards_draw_the_same_patients(maps, tmp_path):
    cohort = Cohort(("t1", "ct"), 5, variation=COARSE)
    synthesize([maps], tmp_path / "one", cohort)
    synthesize([maps], tmp_path / "two", cohort, workers=2)
    for shard in range(2):
        synthesize([maps], tmp_path / "shards", cohort, shard=(shard, 2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "shards")


def test_all_label_maps_are_used_before_one_is_used_again(maps, tmp_path):
    result = synthesize([maps], tmp_path / "volumes", Cohort(("t1",), 4, variation=COARSE))
    used = [json.loads((result.truth / f"sub-000{n}.json").read_text())["labels_sha256"] for n in (1, 2, 3, 4)]
    assert len(set(used[:2])) == len(set(used[2:])) == 2


def test_another_seed_gives_other_patients(maps, tmp_path):
    for seed in (0, 1):
        synthesize([maps], tmp_path / str(seed), Cohort(("t1",), 1, seed=seed, variation=COARSE))
    first, second = (nib.load(tmp_path / str(s) / "t1" / "sub-0001_T1w.nii.gz") for s in (0, 1))
    assert first.shape != second.shape or not np.array_equal(first.get_fdata(), second.get_fdata())


def test_dicom_series_hold_the_same_voxels(maps, tmp_path):
    for name in ("nifti", "dicom"):
        synthesize([maps], tmp_path / name, Cohort(("t1", "ct"), 1, variation=COARSE, format=name))
    for contrast, suffix in (("t1", "T1w"), ("ct", "ct")):
        series = read_volume(tmp_path / "dicom" / contrast / f"sub-0001_{suffix}")
        nifti = read_volume(tmp_path / "nifti" / contrast / f"sub-0001_{suffix}.nii.gz")
        assert np.allclose(series.spacing_mm, nifti.spacing_mm)
        assert np.array_equal(np.sort(series.array.ravel()), np.sort(nifti.array.ravel()))
    record = tmp_path / "dicom-truth" / "sub-0001.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"state": "drawing"}))
    assert synthesize([maps], tmp_path / "dicom", Cohort(("t1", "ct"), 1, variation=COARSE, format="dicom")).drawn == 1


class TestRefusals:
    def test_patients_of_another_seed_in_the_same_folder(self, maps, tmp_path):
        synthesize([maps], tmp_path / "volumes", Cohort(("t1",), 1, variation=COARSE))
        with pytest.raises(WriteError, match="contains sub-0001 from another seed, label map or setting"):
            synthesize([maps], tmp_path / "volumes", Cohort(("t1",), 1, seed=1, variation=COARSE))

    def test_real_volumes_are_never_replaced(self, maps, tmp_path):
        real = tmp_path / "volumes" / "t1" / "sub-0001_T1w.nii.gz"
        real.parent.mkdir(parents=True)
        real.write_bytes(b"a real scan")
        with pytest.raises(WriteError, match="exists and was not written by synthesize"):
            synthesize([maps], tmp_path / "volumes", Cohort(("t1",), 1, variation=COARSE))
        assert real.read_bytes() == b"a real scan"

    def test_a_bad_label_map_is_named_before_any_patient_is_drawn(self, maps, tmp_path):
        labels = label_array()
        labels[24, 28, 30] = 777
        bad = write_labels(maps / "zzz.nii.gz", labels)
        with pytest.raises(IntensityError, match=f"{bad}: labels that are not in the table: 777 \\(1 voxels\\)"):
            synthesize([maps], tmp_path / "volumes", Cohort(("t1",), 1, variation=COARSE))
        assert not (tmp_path / "volumes").exists()

    def test_a_table_of_the_users_own_explains_them(self, maps, tmp_path):
        from medcyclegan.synthesis import FREESURFER

        labels = label_array()
        labels[24:27, 28:31, 30:33] = 777
        write_labels(maps / "one.nii.gz", labels)
        cohort = Cohort(("t1",), 1, variation=COARSE)
        assert synthesize([maps], tmp_path / "volumes", cohort, table={**FREESURFER, 777: "cavity"}).drawn == 1

    def test_labels_that_are_not_there(self, tmp_path):
        with pytest.raises(ReadError, match="no such file or folder"):
            synthesize([tmp_path / "none"], tmp_path / "volumes")
        (tmp_path / "empty").mkdir()
        with pytest.raises(ReadError, match="contains no label map"):
            synthesize([tmp_path / "empty"], tmp_path / "volumes")

    @pytest.mark.parametrize("fields", [{"contrasts": ("t3",)}, {"contrasts": ()}, {"patients": 0}, {"format": "png"}])
    def test_a_cohort_that_cannot_be_drawn(self, fields):
        with pytest.raises(UsageError):
            Cohort(**fields)
