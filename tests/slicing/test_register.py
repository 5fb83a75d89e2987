"""``slice-volumes --register``: volumes of one patient are brought onto one grid, or refused with the reason."""

import json
import logging

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation
from support.phantoms import make_affine, write_nifti

from medcyclegan.config import load_config
from medcyclegan.data import paired_slices, row_pairs
from medcyclegan.errors import StoreError, UsageError
from medcyclegan.manifest import load_manifest, row_from_json
from medcyclegan.metrics import head_mask
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.registration import mean_on_grid
from medcyclegan.slicing import registering, slice_volumes
from medcyclegan.slicing.registering import register_onto
from medcyclegan.volume import Volume

VALUES = ("slicing.size=96", "slicing.pixel_mm=3")
PLAIN = load_config("default", VALUES)
REGISTER = load_config("default", [*VALUES, "slicing.registration=true"])
SHAPE, SPACING = (48, 60, 36), (4.0, 4.0, 4.5)
CASE = "a" * 16


def motion(shift_mm=(7.0, -5.0, 4.0), degrees=(4.0, -3.0, 6.0)):
    """Return a rigid motion about the center of the phantoms, RAS+ mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    centre = np.array([0.0, 0.0, 16.0])
    matrix[:3, 3] = centre + shift_mm - matrix[:3, :3] @ centre
    return matrix


@pytest.fixture(scope="module")
def scans():
    """The T1 of a head, and its T2 with other voxels in a displaced position (sampled there, not in its header)."""
    t1 = t1_volume(make_head(3, shape=SHAPE, spacing_mm=SPACING))
    fine = t2_volume(make_head(3, shape=(96, 120, 80), spacing_mm=(2.0, 2.0, 2.0)))
    affine = make_affine("LPS", (3.0, 3.0, 4.0), origin=(95.0, 125.0, -80.0))
    grid = Volume(np.zeros((66, 82, 48), np.float32), affine)
    values, _ = mean_on_grid(fine.replace(affine=motion() @ fine.affine), grid)
    return t1, Volume(values, affine, modality="MR")


@pytest.fixture
def volumes(tmp_path, scans):
    for domain, scan in zip(("t1", "t2"), scans, strict=True):
        write_nifti(scan, tmp_path / "v" / domain / "p1.nii.gz")
    return tmp_path / "v"


def store_rows(store):
    return {row.domain: row for row in load_manifest(store)}


def test_a_displaced_head_is_found_within_half_a_millimeter(scans):
    t1, t2 = scans
    result = register_onto(t2, t1, CASE)
    assert not result.record.refused
    surface = np.argwhere(head_mask(t1))
    points = t1.affine @ np.column_stack([surface, np.ones(len(surface))]).T
    errors = np.linalg.norm((np.array(result.record.matrix) @ motion() @ points - points)[:3], axis=0)
    assert errors.max() < 0.5
    assert result.record.after > result.record.before
    assert result.record.overlap > 0.95
    assert result.record.agreement > 0.2
    assert result.volume.shape == t1.shape
    assert np.array_equal(result.volume.affine, t1.affine)


def test_a_ct_and_an_mr_are_registered_despite_padding():
    t1 = t1_volume(make_head(4, shape=SHAPE, spacing_mm=SPACING))
    ct = ct_volume(make_head(4, shape=SHAPE, spacing_mm=SPACING))
    padded = ct.array.copy()
    padded[:6] = padded[-6:] = -3024
    result = register_onto(ct.replace(array=padded, affine=motion() @ ct.affine), t1, CASE)
    assert not result.record.refused
    assert np.allclose(np.array(result.record.matrix) @ motion(), np.eye(4), atol=0.5)
    assert result.volume.array.min() >= -1024


def test_a_ct_far_away_at_the_border_of_its_field_of_view_is_found():
    """The centers of mass are those of the heads, not of the air around them, which has the larger CT numbers."""
    t1 = t1_volume(make_head(4, shape=SHAPE, spacing_mm=SPACING))
    ct = ct_volume(make_head(4, shape=SHAPE, spacing_mm=SPACING))
    wide = np.pad(ct.array, ((0, 40), (0, 40), (0, 0)), constant_values=-1000)
    away = motion((120.0, 120.0, -120.0))
    result = register_onto(Volume(wide, away @ ct.affine, modality="CT"), t1, CASE)
    assert not result.record.refused
    assert np.allclose(np.array(result.record.matrix) @ away, np.eye(4), atol=0.5)


@pytest.mark.parametrize("render", [t2_volume, ct_volume])
def test_a_volume_that_is_aligned_already_is_resampled_without_a_motion(scans, render):
    fine = render(make_head(3, shape=(96, 120, 80), spacing_mm=(2.0, 2.0, 2.0)))
    result = register_onto(fine, scans[0], CASE)
    assert not result.record.refused
    assert np.array_equal(result.record.matrix, np.eye(4))
    assert result.record.after == result.record.before
    assert result.volume.shape == SHAPE


def test_a_volume_of_one_value_is_refused(scans):
    t1, t2 = scans
    refused = register_onto(t2.replace(array=np.zeros_like(t2.array)), t1, CASE).record.refused
    assert "all voxels have one value" in refused


def test_the_result_does_not_depend_on_the_number_of_threads(scans):
    t1, t2 = scans
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    results = []
    try:
        for threads in (1, 3):
            SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            results.append(register_onto(t2, t1, CASE))
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert results[0].record == results[1].record
    assert np.array_equal(results[0].volume.array, results[1].volume.array)


def test_registered_volumes_are_pairs(tmp_path, volumes):
    slice_volumes(volumes, tmp_path / "plain", config=PLAIN)
    assert not row_pairs(*((row,) for row in store_rows(tmp_path / "plain").values()))
    slice_volumes(volumes, tmp_path / "s", config=REGISTER)
    rows = store_rows(tmp_path / "s")
    assert rows["t1"].registration is None
    assert rows["t2"].registration.onto == rows["t1"].case
    assert len(paired_slices(((rows["t1"],), (rows["t2"],)))) > 20
    assert rows["t2"].scaling["upper"] == pytest.approx(
        store_rows(tmp_path / "plain")["t2"].scaling["upper"], rel=0.05
    ), "values are interpolated, not changed"
    record = json.loads((tmp_path / "s" / "run.json").read_text())
    assert (record["registered"], record["registrations_refused"]) == (1, 0)
    assert row_from_json(rows["t2"].to_json()) == rows["t2"]


def test_only_slices_whose_head_is_covered_are_kept(tmp_path, scans):
    t1, t2 = scans
    short = t2.replace(array=t2.array[:, :, 12:])
    short = short.replace(affine=t2.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 12], [0, 0, 0, 1.0]]))
    write_nifti(t1, tmp_path / "v" / "t1" / "p1.nii.gz")
    write_nifti(short, tmp_path / "v" / "t2" / "p1.nii.gz")
    slice_volumes(tmp_path / "v", tmp_path / "s", config=REGISTER)
    rows = store_rows(tmp_path / "s")
    assert rows["t2"].is_registered
    # Its lowest slice is 48 mm above that of the whole scan, and turned: the lowest slices are covered in part only.
    assert min(rows["t2"].slices) > min(rows["t1"].slices) + 6
    stack = np.load(tmp_path / "s" / rows["t2"].file).astype(np.float32)
    other = np.load(tmp_path / "s" / rows["t1"].file).astype(np.float32)
    inside = other[rows["t1"].slices.index(rows["t2"].slices[0])] > -0.5
    assert (stack[0][inside] > -0.98).mean() > 0.9


def test_slices_larger_than_the_store_are_cropped_alike(tmp_path, volumes):
    config = load_config("default", ["slicing.size=64", "slicing.pixel_mm=2", "slicing.registration=true"])
    slice_volumes(volumes, tmp_path / "s", config=config)
    rows = store_rows(tmp_path / "s")
    assert rows["t1"].cropped
    pairs = paired_slices(((rows["t1"],), (rows["t2"],)))
    assert pairs
    stacks = {name: np.load(tmp_path / "s" / row.file).astype(np.float32) for name, row in rows.items()}
    (_, a), (_, b) = pairs[len(pairs) // 2]
    heads = [stacks[name][n] > -0.6 for name, n in (("t1", a), ("t2", b))]
    assert (heads[0] & heads[1]).sum() > 0.8 * heads[0].sum()


def test_a_wrong_pair_stays_unpaired_with_the_reason(tmp_path, scans, caplog):
    t1, t2 = scans
    write_nifti(t1, tmp_path / "v" / "t1" / "p1.nii.gz")
    narrow = make_affine("LPS", (1.8, 3.0, 4.0), origin=(60.0, 125.0, -80.0))
    write_nifti(t2.replace(affine=narrow), tmp_path / "v" / "t2" / "p1.nii.gz")  # a head of 60 % of the width
    with caplog.at_level(logging.WARNING):
        slice_volumes(tmp_path / "v", tmp_path / "s", config=REGISTER)
    (line,) = [record.getMessage() for record in caplog.records if "not brought" in record.getMessage()]
    assert line.startswith("p1: not brought onto the grid of t1, so this patient is not paired: ")
    assert "overlap by a Dice coefficient of 0." in line
    assert "under 0.85" in line
    assert line.endswith("slice without --register")
    rows = store_rows(tmp_path / "s")
    assert "Dice" in rows["t2"].registration.refused
    assert rows["t2"].shape == t2.shape, "sliced on its own grid"
    assert not row_pairs([rows["t1"]], [rows["t2"]])
    record = json.loads((tmp_path / "s" / "run.json").read_text())
    assert (record["registered"], record["registrations_refused"]) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"converged": False}, "did not converge"),
        ({"rotation_degrees": 31.0}, "rotation of 31 degrees, over 30"),
        ({"search_mm": 61.0}, "61 mm from the initial alignment, over 60 mm"),
        ({"after": 0.1}, "falls from 0.300 to 0.100"),
    ],
)
def test_each_rule_refuses(scans, monkeypatch, changes, reason):
    t1, t2 = scans
    found = {"rotation_degrees": 3.0, "shift_mm": 9.0, "search_mm": 9.0, "before": 0.3, "after": 0.5, "converged": True}
    result = registering.Motion(np.linalg.inv(motion()), **{**found, **changes})
    monkeypatch.setattr(registering, "register_rigid", lambda moving, fixed: result)
    refused = register_onto(t2, t1, CASE)
    assert reason in refused.record.refused
    assert refused.volume is None


def test_a_head_that_is_upside_down_is_refused(scans):
    """Its outline fits, what is inside it does not."""
    t1, t2 = scans
    turn = np.diag([1.0, -1.0, -1.0, 1.0])
    turn[:3, 3] = [0.0, 0.0, 32.0]
    record = register_onto(t1.replace(affine=turn @ t1.affine), t2, CASE).record
    assert record.overlap > 0.85
    assert "normalized mutual information inside the head is 0.0" in record.refused


def test_a_volume_that_covers_little_of_the_head_is_refused(scans):
    t1, t2 = scans
    result = register_onto(t2.replace(array=t2.array[:, :, :12]), t1, CASE)
    assert result.record.refused
    assert result.volume is None


def test_a_tilted_gantry_is_refused_with_the_remedy(scans):
    t1, t2 = scans
    lean = np.eye(4)
    lean[1, 2] = 0.3
    refused = register_onto(t2.replace(affine=t2.affine @ lean), t1, CASE).record.refused
    assert "sheared" in refused
    assert "--resample-tilt" in refused


def test_a_partner_that_cannot_be_read_leaves_the_volume_unpaired(tmp_path, volumes, caplog):
    (volumes / "t1" / "p1.nii.gz").write_bytes(b"no NIfTI")
    with caplog.at_level(logging.WARNING):
        result = slice_volumes(volumes, tmp_path / "s", config=REGISTER)
    assert len(result.sliced) == len(result.refused) == 1
    (row,) = load_manifest(tmp_path / "s")
    assert row.registration.refused.startswith("t1 of this patient cannot be sliced")
    assert str(tmp_path) not in row.to_json()
    assert "p1" not in row.to_json()


def test_processes_and_shards_give_the_same_store(tmp_path, volumes, scans):
    for domain, scan in zip(("t1", "t2"), scans, strict=True):
        write_nifti(scan.replace(array=scan.array * 2 + 30), volumes / domain / "p2.nii.gz")
    slice_volumes(volumes, tmp_path / "one", config=REGISTER)
    for shard in range(3):
        # In each of the three calls are volumes whose partners are in other shards.
        slice_volumes(volumes, tmp_path / "shards", config=REGISTER, shard=(shard, 3), workers=2)
    contents = [
        [(row.content, row.registration and row.registration.matrix) for row in sorted_rows(tmp_path / name)]
        for name in ("one", "shards")
    ]
    assert contents[0] == contents[1]
    assert sum(matrix is not None for _, matrix in contents[0]) == 2


def sorted_rows(store):
    return sorted(load_manifest(store), key=lambda row: (row.domain, row.content))


def test_a_second_call_registers_nothing_and_a_changed_partner_is_noticed(tmp_path, volumes, scans, monkeypatch):
    slice_volumes(volumes, tmp_path / "s", config=REGISTER)
    again = slice_volumes(volumes, tmp_path / "s", config=REGISTER)
    assert (len(again.sliced), len(again.finished)) == (0, 2)
    assert json.loads((tmp_path / "s" / "run.json").read_text())["registered"] == 1
    write_nifti(scans[0].replace(array=scans[0].array + 1), volumes / "t1" / "p1.nii.gz")
    changed = slice_volumes(volumes, tmp_path / "s", config=REGISTER)
    assert sorted(row.domain for row in changed.sliced) == ["t1", "t2"]


def test_with_and_without_registration_are_not_mixed(tmp_path, volumes):
    slice_volumes(volumes, tmp_path / "s", config=REGISTER)
    with pytest.raises(StoreError, match="registration True, not registration None"):
        slice_volumes(volumes, tmp_path / "s", config=PLAIN)
    slice_volumes(volumes, tmp_path / "plain", config=PLAIN)
    with pytest.raises(StoreError, match="registration None, not registration True"):
        slice_volumes(volumes, tmp_path / "plain", config=REGISTER)
    write_nifti(t1_volume(make_head(8, shape=SHAPE, spacing_mm=SPACING)), tmp_path / "more" / "t1" / "p8.nii.gz")
    with pytest.raises(StoreError, match="registration True, not None"):
        slice_volumes(tmp_path / "more", tmp_path / "s", config=PLAIN)


def test_one_domain_cannot_be_registered(tmp_path, volumes):
    with pytest.raises(UsageError, match="--register with volumes of t1 only"):
        slice_volumes(volumes / "t1", tmp_path / "s", config=REGISTER, domain="t1")


def test_volumes_on_one_grid_are_left_as_they_are(tmp_path, scans, monkeypatch):
    head = make_head(3, shape=SHAPE, spacing_mm=SPACING)
    for domain, scan in (("t1", t1_volume(head)), ("t2", t2_volume(head))):
        write_nifti(scan, tmp_path / "v" / domain / "p1.nii.gz")
    monkeypatch.setattr("medcyclegan.slicing.case.register_onto", None)  # calling it would raise
    slice_volumes(tmp_path / "v", tmp_path / "s", config=REGISTER)
    rows = store_rows(tmp_path / "s")
    assert rows["t2"].registration is None
    assert row_pairs([rows["t1"]], [rows["t2"]])
