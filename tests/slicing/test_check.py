"""The check before training: outliers by a rule that does not report ordinary differences, and a complete summary."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
from support.stores import blobs, make_row, make_store

from medcyclegan.config import load_config
from medcyclegan.errors import StoreError
from medcyclegan.intensity import IntensityScaling
from medcyclegan.manifest import load_manifest
from medcyclegan.slicing import slice_volumes
from medcyclegan.slicing.check import find_outliers, report_check
from medcyclegan.slicing.key_file import load_names
from medcyclegan.slicing.measures import Measures, measure_stack, noise_of

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "nifti"
ALIKE = Measures(tuple(np.linspace(-0.9, 0.9, 64)), 0.02, 200.0, 150.0)


def measured(*changes, count=8):
    """Return the rows and measures of ``count`` volumes with small differences; the last ones are changed."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(count - len(changes)):
        noise, area, height = np.exp(random.normal(0, 0.05, 3)) * (ALIKE.noise, ALIKE.area_cm2, ALIKE.height_mm)
        shift = random.normal(0, 0.02)
        found.append(Measures(tuple(v + shift for v in ALIKE.histogram), noise, area, height))
    for change in changes:
        found.append(Measures(**{**ALIKE.__dict__, **change}))
    return [make_row("t1", n, (3, 32, 32)) for n in range(count)], found


def outliers(*changes, count=8):
    rows, found = measured(*changes, count=count)
    return [(rows.index(outlier.row), outlier.reasons) for outlier in find_outliers(rows, found)]


def test_volumes_that_are_alike_have_no_outliers():
    assert outliers() == []
    assert outliers(count=200) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"histogram": tuple(np.linspace(0.5, 0.9, 64))}, "histogram differs"),
        ({"noise": 0.07}, "noise 3"),
        ({"area_cm2": 125.0}, "area of the foreground 0.6"),
        ({"area_cm2": 320.0}, "area of the foreground 1.6"),
        ({"height_mm": 70.0}, "height 0.4"),
        ({"height_mm": 330.0}, "height 2."),
    ],
)
def test_a_volume_that_differs_is_an_outlier(change, reason):
    ((place, reasons),) = outliers(change)
    assert place == 7
    assert len(reasons) == 1
    assert reason in reasons[0]


@pytest.mark.parametrize(
    "change",
    [
        {"histogram": tuple(np.linspace(-0.5, 0.9, 64))},
        {"noise": 0.05},
        {"noise": 0.001},
        {"area_cm2": 150.0},
        {"height_mm": 90.0},
    ],
)
def test_an_ordinary_difference_is_not_reported(change):
    assert outliers(change) == []


@pytest.mark.parametrize(("hu", "reported"), [(20, False), (40, True)])
def test_noise_counts_in_hu_in_ct(hu, reported):
    """The scaled range of CT is wide, so that noise of 40 HU is less than what counts in MR."""
    rows, found = measured({"noise": hu / 2047.5})
    found = [
        dataclasses.replace(each, noise=min(each.noise, hu / 2047.5) if n == 7 else 0.001)
        for n, each in enumerate(found)
    ]
    assert find_outliers(rows, found) == []
    scaling = IntensityScaling("window", -1024.0, 3071.0, "HU").to_dict()
    rows = [dataclasses.replace(row, modality="CT", scaling=scaling) for row in rows]
    assert [rows.index(outlier.row) for outlier in find_outliers(rows, found)] == [7] * reported


def test_a_varied_domain_and_a_small_one_have_no_outliers():
    changes = [{"area_cm2": 200.0 * 1.4**n} for n in range(-4, 4)]
    assert outliers(*changes) == []
    assert [place for place, _ in outliers({"area_cm2": 60.0}, count=5)] == [4]
    assert outliers({"area_cm2": 60.0}, count=4) == []


def test_pictures_and_volumes_without_foreground_are_not_compared():
    rows, found = measured({"area_cm2": 20.0})
    assert find_outliers(rows, found)
    assert not find_outliers([make_row("t1", n, (3, 32, 32), modality=None) for n in range(8)], found)
    found[-1] = Measures(None, 0.0, 0.0, 10.0)
    assert not find_outliers(rows, found)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_the_noise_is_that_of_the_foreground(sigma):
    random = np.random.default_rng(0)
    slices = np.full((4, 128, 128), -1.0, np.float32)
    rows, columns = np.mgrid[:128, :128]
    inside = np.hypot(rows - 64, columns - 64) < 50
    slices[:, inside] = (0.003 * (rows - 64) + 0.002 * (columns - 64))[inside]
    assert noise_of(slices) < 1e-6
    slices[:, inside] += random.normal(0, sigma, (4, np.count_nonzero(inside)))
    assert noise_of(slices) == pytest.approx(sigma, rel=0.1)


def test_the_measures_are_in_mm(tmp_path):
    stack = np.full((10, 32, 32), -1.0)
    stack[:, 4:20, 4:14] = 0.5
    (row,) = make_store(tmp_path, {"t1": [stack]})
    affine = ((2.0, 0, 0, 0), (0, 2.0, 0, 0), (0, 0, 3.0, 0), (0, 0, 0, 1.0))
    found = measure_stack(tmp_path, make_row("t1", 0, (10, 32, 32), affine=affine, pixel_mm=(2.0, 1.5)))
    assert (found.area_cm2, found.height_mm) == (pytest.approx(16 * 10 * 3 / 100), 30.0)
    assert found.histogram == (0.5,) * 64
    assert row.file


def made_store(folder, count=6):
    random = np.random.default_rng(1)
    stacks = [np.clip(blobs(6, 32, n) + random.normal(0, 0.02, (6, 32, 32)), -1, 1) for n in range(count)]
    stacks[2] = np.clip(stacks[2] + random.normal(0, 0.4, stacks[2].shape), -1, 1)
    make_store(folder, {"t1": stacks, "t2": [blobs(6, 32, 9, inverted=True)] * 2}, {"t1": ["train"] * 5 + ["test"]})
    return load_manifest(folder)


def test_the_summary(tmp_path, caplog):
    rows = made_store(tmp_path)
    with caplog.at_level(logging.INFO):
        report_check(tmp_path, rows)
    lines = caplog.messages
    assert "t1: 6 patients (5 train, 1 test), 6 volumes (5 train, 1 test), 36 slices (30 train, 6 test)" in lines
    assert "t1: patients: guessed from the name of the volume (6)" in lines
    assert "t1: modality: MR (6); -1 is 0, 1 is 100 to 105 arbitrary units" in lines
    assert "t1: pixels 1 mm, slices 1 mm; acquired axial (6)" in lines
    assert "t1: field of view 32 mm in the axial plane, 6 mm high" in lines
    assert "t2: fewer than 5 volumes, so outliers are not searched" in lines
    (warning,) = [line for line in lines if "is an outlier" in line]
    noisy = next(row for row in rows if row.scaling["upper"] == 102.0)
    assert warning.startswith(f"t1: volume {noisy.case[:8]} is an outlier: ")
    assert "noise" in warning


def test_only_the_requested_splits_are_read(tmp_path, caplog):
    rows = made_store(tmp_path)
    (tested,) = [row for row in rows if row.split == "test"]
    (tmp_path / tested.file).unlink()
    with caplog.at_level(logging.INFO):
        report_check(tmp_path, rows, measured=("train", "validation"))
    assert "6 patients (5 train, 1 test)" in caplog.text


def test_slicing_ends_with_the_check_once_all_shards_are_done(tmp_path, caplog):
    from support.volume_folders import TINY, add_tiny

    add_tiny(tmp_path / "v" / "t1", "a", "b", "c", "d")
    with caplog.at_level(logging.INFO):
        slice_volumes(tmp_path / "v", tmp_path / "s", config=TINY, shard=(0, 2))
        assert "t1: modality" not in caplog.text
        slice_volumes(tmp_path / "v", tmp_path / "s", config=TINY, shard=(1, 2))
    assert caplog.text.count("t1: modality: MR (4)") == 1


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="the real scans are not here")
def test_real_scans_of_whole_heads_have_no_outliers_and_extracted_brains_among_them_are(tmp_path, caplog):
    files = [path for path in sorted(DATA.glob("*/t2*.nii.gz")) if path.parent.name != "openms_mni07"]
    for path in files:
        link = tmp_path / "v" / "t2" / f"{path.parent.name}_{path.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    with caplog.at_level(logging.INFO):
        slice_volumes(tmp_path / "v", tmp_path / "s", config=load_config("default"))
    whole = {n for n, v in enumerate(files, start=1) if v.parent.name.startswith(("openms_patient", "tcga"))}
    assert len(whole) == 6
    numbers = {v.case: v.number for v in load_names(tmp_path / "s").values()}
    rows = load_manifest(tmp_path / "s")
    found = find_outliers(rows, [measure_stack(tmp_path / "s", row) for row in rows])
    assert found
    assert not {numbers[outlier.row.case] for outlier in found} & whole
    for outlier in found:
        assert f"t2: volume {numbers[outlier.row.case]} is an outlier: {'; '.join(outlier.reasons)}" in caplog.text
    heads = [row for row in rows if numbers[row.case] in whole]
    assert find_outliers(heads, [measure_stack(tmp_path / "s", row) for row in heads]) == []


@pytest.mark.parametrize("stack", [np.zeros((0, 32, 32)), np.zeros((3, 32)), np.zeros((2, 32, 32))])
def test_a_stack_that_does_not_match_its_row_is_refused(tmp_path, stack):
    (row,) = make_store(tmp_path, {"t1": [np.zeros((3, 32, 32))]})
    np.save(tmp_path / row.file, stack.astype(np.float16))
    with pytest.raises(StoreError, match="not that of its row: remove it and slice again"):
        measure_stack(tmp_path, row)


def test_pictures_are_summarized_and_not_measured(tmp_path, caplog):
    make_store(tmp_path, {"A": [blobs(1, 32, n) for n in range(6)]})
    rows = [dataclasses.replace(row, modality=None) for row in load_manifest(tmp_path)]
    for row in rows:
        (tmp_path / row.file).unlink()
    with caplog.at_level(logging.INFO):
        report_check(tmp_path, rows)
    assert "A: 32 pixels wide and high" in caplog.messages
    assert "outlier" not in caplog.text
