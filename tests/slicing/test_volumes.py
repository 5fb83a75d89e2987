import hashlib
import json
import logging
import stat
import time

import numpy as np
import pytest
from PIL import Image
from support.phantoms import GRIDS, head_ct, head_mr, linear_volume, make_affine, write_nifti
from support.volume_folders import SMALL, SMALL_VALUES, make_volumes

from medcyclegan.config import load_config
from medcyclegan.data import SliceIndex
from medcyclegan.errors import ConfigError, StoreError
from medcyclegan.io.dicom.write.synthetic import write_made_series
from medcyclegan.manifest import KEY_FILE, load_manifest
from medcyclegan.slicing import slice_volumes


def contents(store):
    return {f.relative_to(store).as_posix(): f.read_bytes() for f in store.rglob("*") if f.is_file()}


def test_slices_are_ordered_by_content_regardless_of_the_key(tmp_path):
    volumes = make_volumes(tmp_path / "volumes", patients=4)
    stores = [tmp_path / "one", tmp_path / "other"]
    rows = []
    for store in stores:
        slice_volumes(volumes, store, config=SMALL)
        rows.append(SliceIndex(row for row in load_manifest(store) if row.domain == "t1").rows)
    assert [row.content for row in rows[0]] == [row.content for row in rows[1]]
    assert [row.scaling for row in rows[0]] == [row.scaling for row in rows[1]]
    assert not {row.case for row in rows[0]} & {row.case for row in rows[1]}
    for row in rows[0]:
        stack = np.load(stores[0] / row.file, allow_pickle=False)
        assert hashlib.sha256(stack.tobytes()).hexdigest() == row.content


def test_volumes_become_a_store(tmp_path):
    volumes, store = make_volumes(tmp_path / "volumes"), tmp_path / "slices"
    result = slice_volumes(volumes, store, config=SMALL)
    rows = load_manifest(store)
    assert len(rows) == len(result.sliced) == 4
    for row in rows:
        stack = np.load(store / row.file, mmap_mode="r", allow_pickle=False)
        assert stack.shape == (len(row.slices), 64, 64)
        assert stack.dtype == np.float16
        assert stack.min() >= -1
        assert stack.max() <= 1
        assert (row.heights[0], row.heights[-1]) == (0.0, 1.0)
        assert row.split == "train"
    assert (store / "t1.png").stat().st_size > 1000
    assert json.loads((store / "run.json").read_text())["volumes"] == 4
    assert stat.S_IMODE((store / ".key").stat().st_mode) == 0o600


def test_a_stack_is_upright_and_unmirrored(tmp_path):
    """Values are a linear function of position: they increase to the left, and more steeply to posterior."""
    volume = linear_volume((40, 50, 6), make_affine("RAS", (2.0, 2.0, 4.0)), coefficients=(-1.0, -10.0, 100.0))
    write_nifti(volume, tmp_path / "v" / "t1" / "a.nii.gz")
    slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
    (row,) = load_manifest(tmp_path / "s")
    stack = np.load(tmp_path / "s" / row.file).astype(float)
    middle = stack[len(stack) // 2, 28:36, 28:36]
    assert (np.diff(middle, axis=0) > 0).all(), "rows grow to posterior"
    assert (np.diff(middle, axis=1) > 0).all(), "columns grow to patient left"
    assert stack[-1].mean() > stack[0].mean(), "slices grow to superior"


def test_every_orientation_gives_the_same_slices(tmp_path):
    base = head_mr((40, 48, 24), make_affine("LPS", (5.0, 5.0, 8.0)))
    write_nifti(base, tmp_path / "v" / "t1" / "lps.nii.gz")
    turned = base.replace(
        array=base.array[::-1].transpose(2, 0, 1).copy(),
        affine=base.affine @ np.array([[0, -1, 0, 39], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]),
    )
    write_nifti(turned, tmp_path / "v" / "t1" / "sagittal.nii.gz")
    slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
    one, other = (np.load(tmp_path / "s" / row.file) for row in load_manifest(tmp_path / "s"))
    assert np.array_equal(one, other)


def test_nothing_of_the_patient_is_in_the_store(tmp_path):
    name_of_patient = "Mustermann"
    clipped = head_ct().replace(array=head_ct().array.clip(-1024))
    write_made_series(clipped, tmp_path / "volumes" / "ct" / f"{name_of_patient}^Max", number=77, description="head")
    write_nifti(
        head_mr(),
        tmp_path / "volumes" / "mr" / f"{name_of_patient}_1961-01-01.nii.gz",
        descrip=name_of_patient.encode(),
    )
    (tmp_path / "volumes" / "mr" / f"{name_of_patient}.nii").write_text("no NIfTI")
    result = slice_volumes(tmp_path / "volumes", tmp_path / "s", config=SMALL, allow_synthetic=True)
    assert (len(result.sliced), len(result.refused)) == (2, 1)
    files = contents(tmp_path / "s")
    assert name_of_patient.encode() in files.pop(KEY_FILE)
    assert stat.S_IMODE((tmp_path / "s" / KEY_FILE).stat().st_mode) == 0o600
    for name, data in files.items():
        for word in (name_of_patient, "1961", "MADE", str(tmp_path), "volumes/"):
            assert word not in name
            assert word.encode() not in data, f"{word} in {name}"


def test_a_second_call_does_nothing_twice_and_new_volumes_are_added(tmp_path):
    volumes, store = make_volumes(tmp_path / "volumes"), tmp_path / "slices"
    slice_volumes(volumes, store, config=SMALL)
    before = {f: f.stat().st_mtime_ns for f in store.rglob("*.npy")}
    again = slice_volumes(volumes, store, config=SMALL)
    assert (len(again.sliced), len(again.finished)) == (0, 4)
    write_nifti(head_mr(seed=9), volumes / "t1" / "new.nii.gz")
    more = slice_volumes(volumes, store, config=SMALL)
    assert (len(more.sliced), len(more.finished)) == (1, 4)
    assert {f: f.stat().st_mtime_ns for f in before} == before
    assert len(load_manifest(store)) == 5


def test_a_field_of_view_larger_than_the_slices_is_recorded_as_cropped(tmp_path):
    """A head is wider than 64 pixels of 1 mm, but not than 64 pixels of 4 mm."""
    write_nifti(head_mr(), tmp_path / "volumes" / "t1" / "a.nii.gz")
    for pixel_mm, cropped in ((4, False), (1, True)):
        store = tmp_path / f"slices-{pixel_mm}"
        config = load_config("default", ["slicing.size=64", f"slicing.pixel_mm={pixel_mm}"])
        slice_volumes(tmp_path / "volumes", store, config=config)
        (row,) = load_manifest(store)
        assert row.cropped is cropped


@pytest.mark.parametrize("linked", [False, True])
def test_a_changed_volume_is_sliced_again(tmp_path, linked):
    volumes, store = make_volumes(tmp_path / "volumes"), tmp_path / "slices"
    file = volumes / "t1" / "p0_t1.nii.gz"
    if linked:
        real = file.rename(tmp_path / "elsewhere.nii.gz")
        file.symlink_to(real)
        file = real
    slice_volumes(volumes, store, config=SMALL)
    time.sleep(0.01)
    write_nifti(head_mr(seed=5), file)
    assert len(slice_volumes(volumes, store, config=SMALL).sliced) == 1
    assert len(load_manifest(store)) == 4


def test_two_preparations_are_never_mixed(tmp_path):
    volumes, store = make_volumes(tmp_path / "volumes"), tmp_path / "slices"
    slice_volumes(volumes, store, config=SMALL)
    before = contents(store)
    with pytest.raises(StoreError, match=r"with .*fit physical.*, not .*fit stretch.*cannot be mixed"):
        slice_volumes(volumes, store, config=load_config("default", ["slicing.size=64", "slicing.fit=stretch"]))
    assert contents(store) == before


def test_other_volumes_of_a_domain_are_prepared_in_the_same_way(tmp_path):
    """A volume added later, or by another shard, must not be scaled differently from the rest of its domain."""
    write_nifti(head_mr(), tmp_path / "first" / "a.nii.gz")
    write_nifti(head_mr(seed=1), tmp_path / "second" / "b.nii.gz")
    store = tmp_path / "slices"
    slice_volumes(tmp_path / "first", store, config=SMALL, domain="t1")
    before = contents(store)
    other = load_config("default", [*SMALL_VALUES, "domains.t1.scaling.percentiles=[5, 95]"])
    with pytest.raises(StoreError, match=r"holds t1 with percentiles \[0.5, 99.5\], not \[5.0, 95.0\]"):
        slice_volumes(tmp_path / "second", store, config=other, domain="t1")
    assert contents(store) == before
    slice_volumes(tmp_path / "second", store, config=SMALL, domain="t1")
    assert len(load_manifest(store)) == 2


def test_shards_and_workers_give_what_one_call_gives(tmp_path):
    volumes = make_volumes(tmp_path / "volumes", patients=3)
    slice_volumes(volumes, tmp_path / "whole", config=SMALL)
    for shard in (1, 0):
        slice_volumes(volumes, tmp_path / "parts", config=SMALL, shard=(shard, 2), workers=2 if shard else 1)

    def stacks(store):
        return sorted((r.domain, r.split, np.load(store / r.file).tobytes()) for r in load_manifest(store))

    assert stacks(tmp_path / "whole") == stacks(tmp_path / "parts")


def test_the_split_is_by_patient_across_visits_and_domains(tmp_path):
    for n in range(6):
        for visit in ("", "_visit2", "_ses-3"):
            write_nifti(head_mr(seed=n), tmp_path / "v" / "t1" / f"p{n}_t1{visit}.nii")
        write_nifti(head_mr(seed=n, inverted=True), tmp_path / "v" / "t2" / f"p{n}_t2.nii")
    slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
    rows = load_manifest(tmp_path / "s")
    by_patient = {}
    for row in rows:
        by_patient.setdefault(row.patient, set()).add(row.split)
    assert len(by_patient) == 6
    assert all(len(splits) == 1 for splits in by_patient.values())
    assert sorted(next(iter(s)) for s in by_patient.values()) == [
        "test",
        "train",
        "train",
        "train",
        "train",
        "validation",
    ]


def test_a_split_file_decides(tmp_path):
    volumes = make_volumes(tmp_path / "volumes")
    (tmp_path / "split.csv").write_text("case,patient,split\np0_t1,x,test\nt2/q1_t2,y,validation\n")
    slice_volumes(volumes, tmp_path / "s", config=SMALL, split_file=tmp_path / "split.csv")
    splits = sorted((r.domain, r.split) for r in load_manifest(tmp_path / "s"))
    assert splits == [("t1", "test"), ("t1", "train"), ("t2", "train"), ("t2", "validation")]
    (tmp_path / "other.csv").write_text("case,patient,split\nnobody,x,test\n")
    with pytest.raises(ConfigError, match="none of the 1 cases"):
        slice_volumes(volumes, tmp_path / "s2", config=SMALL, split_file=tmp_path / "other.csv")


def test_public_image_sets_are_taken_as_such(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / "v" / folder).mkdir(parents=True)
        for n in range(2):
            pixels = rng.integers(0, 200, (50, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "v" / folder / f"{n}.png")
    slice_volumes(tmp_path / "v", tmp_path / "s", config=load_config("ct-mr", ["slicing.size=64"]))
    rows = load_manifest(tmp_path / "s")
    assert sorted((r.domain, r.split) for r in rows) == [
        ("A", "test"), ("A", "test"), ("A", "train"), ("A", "train"),
        ("B", "test"), ("B", "test"), ("B", "train"), ("B", "train"),
    ]  # fmt: skip
    assert {(r.scaling["lower"], r.scaling["upper"]) for r in rows} == {(0.0, 255.0)}


def test_a_picture_stays_upright(tmp_path):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[5:20, 5:15] = 255
    (tmp_path / "A").mkdir()
    Image.fromarray(pixels).save(tmp_path / "A" / "x.png")
    slice_volumes(tmp_path / "A", tmp_path / "s", domain="A", config=load_config("default", ["slicing.size=64"]))
    (row,) = load_manifest(tmp_path / "s")
    stack = np.load(tmp_path / "s" / row.file)
    assert np.array_equal(stack[0] > 0, pixels > 0)


def test_ct_values_survive_the_store(tmp_path):
    ct = head_ct((64, 64, 6), make_affine("LPS", (4.0, 4.0, 8.0)))
    write_nifti(ct, tmp_path / "v" / "ct" / "a.nii.gz")
    slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
    (row,) = load_manifest(tmp_path / "s")
    assert (row.modality, row.scaling["unit"]) == ("CT", "HU")
    hu = (np.load(tmp_path / "s" / row.file).astype(float) + 1) * 4095 / 2 - 1024
    upright = ct.array.transpose(2, 1, 0)[list(row.slices)]
    assert np.abs(hu - np.clip(upright, -1024, 3071)).max() <= 0.5


def test_one_slice_is_a_volume(tmp_path):
    write_nifti(head_mr((60, 60, 1)).replace(affine=GRIDS["one_slice"].affine), tmp_path / "v" / "t1" / "a.nii")
    slice_volumes(tmp_path / "v", tmp_path / "s", config=load_config("default", ["slicing.size=64"]))
    (row,) = load_manifest(tmp_path / "s")
    assert (row.slices, row.heights) == ((0,), (0.0,))


def test_counts_and_patients_are_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        slice_volumes(make_volumes(tmp_path / "v"), tmp_path / "s", config=SMALL)
    assert "t1: 2 patients, fewer than 5, so all are used for training" in caplog.text
    assert "2 volumes (2 train), " in caplog.text


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_note_on_many_pictures_is_one_line_and_a_count(tmp_path, caplog, workers):
    random = np.random.default_rng(0)
    for folder in ("a", "b"):
        (tmp_path / "volumes" / folder).mkdir(parents=True)
        for n in range(4):
            picture = Image.fromarray(random.integers(0, 255, (40, 48, 3), dtype=np.uint8))
            picture.save(tmp_path / "volumes" / folder / f"p{n}.png")
    slice_volumes(tmp_path / "volumes", tmp_path / "slices", config=SMALL, workers=workers)
    said = [record.getMessage() for record in caplog.records if "converted to luminance" in record.getMessage()]
    assert len(said) == 2
    assert said[1] == "7 more: a color picture (RGB): converted to luminance"
