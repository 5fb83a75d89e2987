"""Evaluation: definitions of the scores, baselines, other grids, and refused volumes."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest

from medcyclegan.errors import GeometryError, IntensityError
from medcyclegan.evaluation import evaluate_volumes
from medcyclegan.metrics import head_mask, mae, ms_ssim, psnr, ssim
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.volume import Volume

CHALLENGE = ("mae", "psnr", "ms_ssim", "mae_2023", "psnr_2023", "ssim_2023")
GRID = {"shape": (48, 60, 40), "spacing_mm": (4.0, 4.0, 4.0)}


@pytest.fixture(scope="module")
def head():
    return make_head(9, **GRID)


@pytest.fixture(scope="module")
def other_head():
    return make_head(10, **GRID)


def test_ct_is_scored_in_hu_in_the_challenges_ranges(head):
    reference = ct_volume(head)
    fake = reference.replace(array=reference.array + np.int16(25))
    result = evaluate_volumes(fake, reference)
    mask = head_mask(reference)
    assert (result.mae, result.mean_error, result.unit, result.scored) == (25, 25, "HU", "fake")
    assert result.mae_2023 == 25
    assert result.psnr == psnr(fake.array, reference.array, value_range=(-1024, 3071), mask=mask)
    assert result.psnr_2023 == psnr(fake.array, reference.array, value_range=(-1024, 3000), mask=mask)
    assert result.ms_ssim == ms_ssim(fake.array, reference.array, value_range=(-1024, 3071), mask=mask)
    assert result.ssim_2023 == ssim(fake.array, reference.array, value_range=(-1024, 3000), mask=mask)
    assert result.voxels == mask.sum()


def test_ct_errors_by_tissue_of_the_reference(head):
    reference = ct_volume(head)
    added = np.where(reference.array < -200, 7, np.where(reference.array < 200, 20, 90)).astype(np.int16)
    result = evaluate_volumes(reference.replace(array=reference.array + added), reference)
    assert (result.mae_air, result.mae_soft_tissue, result.mae_bone) == (7, 20, 90)
    inside = np.zeros(reference.shape, dtype=bool)
    inside[(reference.array >= -200) & (reference.array < 200)] = True
    soft = evaluate_volumes(reference.replace(array=reference.array + added), reference, mask=inside)
    assert (soft.mae_air, soft.mae_soft_tissue, soft.mae_bone) == (None, 20, None)


def test_hu_values_without_a_header_are_scored_as_ct(head):
    reference = ct_volume(head)
    fake = Volume(reference.array + np.int16(25), reference.affine)
    result = evaluate_volumes(fake, Volume(reference.array, reference.affine))
    assert (result.mae, result.unit) == (25, "HU")
    assert any("scored as a CT" in note for note in result.notes)


def test_the_score_of_an_mr_does_not_depend_on_gain_and_offset(head, other_head):
    reference, other = t2_volume(head), t2_volume(other_head)
    louder = other.replace(array=other.array * 7 + 300)
    mask = head_mask(reference)
    plain, scaled = evaluate_volumes(other, reference, mask=mask), evaluate_volumes(louder, reference, mask=mask)
    for name in CHALLENGE:
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-4)
    assert 0 < plain.mae < 1
    assert plain.mae_bone is None
    assert "percentiles" in plain.normalization


def test_mr_is_scored_over_the_range_0_to_1(head, other_head):
    """The metrics of both challenges, on volumes whose 0.5th and 99.5th percentile in the mask are 0 and 1."""
    reference, other = t2_volume(head), t2_volume(other_head)
    mask = head_mask(reference)
    scaled = []
    for array in (other.array, reference.array):
        lower, upper = np.percentile(array[mask], (0.5, 99.5))
        scaled.append(np.clip((array.astype(np.float32) - lower) / (upper - lower), 0, 1))
    result = evaluate_volumes(other, reference)
    for name, metric in {"psnr": psnr, "psnr_2023": psnr, "ms_ssim": ms_ssim, "ssim_2023": ssim}.items():
        assert getattr(result, name) == pytest.approx(metric(*scaled, value_range=(0, 1), mask=mask), rel=1e-5)
    assert result.mae == pytest.approx(mae(*scaled, mask), rel=1e-5)
    assert result.normalization == ("percentiles 0.5 and 99.5 in the mask mapped to 0 and 1 in each volume, clipped")


def test_the_input_taken_as_output_is_the_baseline_of_an_mr(head):
    reference, source = t2_volume(head), t1_volume(head)
    blurred = reference.replace(array=(reference.array + np.roll(reference.array, 1, 0)) / 2)
    result = evaluate_volumes(blurred, reference, baseline=source)
    alone = evaluate_volumes(source, reference)
    assert list(result.baselines) == ["input"]
    assert result.baseline is result.baselines["input"]
    assert result.baseline.scored == "input"
    for name in CHALLENGE:
        assert getattr(result.baseline, name) == getattr(alone, name)
    assert result.psnr > result.baseline.psnr + 3
    assert result.ssim_2023 > result.baseline.ssim_2023
    assert result.mae < result.baseline.mae
    as_json = json.loads(json.dumps(result.to_dict()))
    assert set(CHALLENGE) <= as_json["baselines"]["input"].keys() == as_json.keys()


def test_without_an_input_the_best_constant_is_the_baseline_of_an_mr(head, other_head):
    reference = t2_volume(head)
    result = evaluate_volumes(t2_volume(other_head), reference)
    inside = reference.array[head_mask(reference)].astype(float)
    lower, upper = np.percentile(inside, (0.5, 99.5))
    scaled = np.clip((inside - lower) / (upper - lower), 0, 1)
    assert list(result.baselines) == ["flat"]
    assert result.baseline.mae == pytest.approx(np.abs(scaled - np.median(scaled)).mean(), rel=1e-5)
    assert result.baseline.ncc == 0


def test_pictures_are_scored_over_their_range():
    grey = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 1))
    picture = Volume(grey, np.diag([-1.0, -1.0, 1.0, 1.0]), value_range=(0.0, 255.0))
    result = evaluate_volumes(picture.replace(array=grey + np.uint8(5)), picture, mask=np.ones(grey.shape))
    assert result.mae == 5
    assert result.psnr == pytest.approx(20 * np.log10(255 / 5))
    assert result.psnr_2023 == result.psnr


def test_a_mask_may_be_a_volume_or_an_array(head, other_head):
    reference, fake = ct_volume(head), ct_volume(other_head)
    where = np.zeros(reference.shape, dtype=np.uint8)
    where[20:30, 20:40, 15:25] = 255
    from_volume = evaluate_volumes(fake, reference, mask=Volume(where, reference.affine))
    assert from_volume == evaluate_volumes(fake, reference, mask=where)
    assert from_volume.mae == mae(fake.array, reference.array, where > 0)


def test_a_mask_with_air_in_it_is_warned_about(head, other_head, caplog):
    reference, fake = ct_volume(head), ct_volume(other_head)
    with caplog.at_level(logging.WARNING):
        inner = np.zeros(reference.shape)
        inner[:, :, 1:] = 1
        everywhere = evaluate_volumes(fake, reference, mask=inner)
    assert "background, which lifts the score" in caplog.text
    made = evaluate_volumes(fake, reference, mask=head_mask(reference) & (inner > 0))
    assert f"{everywhere.psnr:.2f} dB in the mask, {made.psnr:.2f} dB in the patient" in everywhere.notes[-1]
    assert everywhere.psnr > made.psnr + 1
    given = evaluate_volumes(fake, reference, mask=head_mask(reference))
    assert given.notes == ()
    assert given.mae == evaluate_volumes(fake, reference).mae


def test_air_that_does_not_lift_the_score_is_not_warned_about(head):
    """No warning if the fake is as wrong in the air as in the patient, so that background does not raise the score."""
    reference = ct_volume(head)
    fake = reference.replace(array=reference.array + np.int16(60))
    assert not any(
        "background" in note for note in evaluate_volumes(fake, reference, mask=np.ones(reference.shape)).notes
    )


def test_another_grid_is_resampled_onto_the_references():
    """A volume that is a linear function of position is resampled exactly to any grid."""

    def ramp(affine, shape):
        places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
        return Volume(places @ (3.0, -2.0, 5.0) + 100, affine)

    turned = np.array([[0.2, 1.9, 0, -40], [-1.8, 0.3, 0.4, 35], [0.1, 0.2, -3, 42], [0, 0, 0, 1]])
    reference = ramp(np.diag([2.0, 2.0, 2.0, 1.0]), (15, 14, 13))
    fake = ramp(turned, (40, 50, 30))
    result = evaluate_volumes(fake, reference, mask=np.ones(reference.shape))
    assert result.mae < 1e-5
    assert result.notes[0] == (
        "fake: 40x50x30 voxels of 1.814x1.934x3.027 mm, resampled linearly to the grid of the reference"
    )


def test_voxels_outside_the_field_of_view_are_left_out(head):
    reference = ct_volume(head)
    lower = reference.replace(array=reference.array[:, :, :20])
    result = evaluate_volumes(lower, reference, baseline=reference)
    assert result.mae == 0
    mask = head_mask(reference)
    assert {each.voxels for each in (result, *result.baselines.values())} == {mask[:, :, :20].sum()}
    share = mask[:, :, 20:].sum() / mask.sum()
    assert f"{share:.1%} of the mask is outside the field of view" in result.notes[-1]


def test_a_mask_on_another_grid_is_taken_at_the_nearest_voxels(head, other_head):
    reference, fake = ct_volume(head), ct_volume(other_head)
    where = np.zeros(reference.shape, dtype=np.uint8)
    where[20:30, 20:40, 15:25] = 1
    fine = Volume(where.repeat(2, 0), reference.affine @ np.array([[0.5, 0, 0, -0.25], *np.eye(4)[1:]]))
    result = evaluate_volumes(fake, reference, mask=fine)
    assert result.mae == evaluate_volumes(fake, reference, mask=where).mae
    assert "mask: resampled to the nearest voxels of the reference" in result.notes[0]


def test_a_moved_scan_is_aligned_to_the_reference(head):
    reference, source = t2_volume(head), t1_volume(head)
    turn = np.radians(5)
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    motion[:3, 3] = (6.0, -4.0, 8.0)
    moved = reference.replace(affine=motion @ reference.affine)
    moved_input = source.replace(affine=motion @ source.affine)
    before = evaluate_volumes(moved, reference, baseline=moved_input)
    after = evaluate_volumes(moved, reference, baseline=moved_input, register="rigid")
    assert re.match(r"registered rigidly to the reference by the input: (4\.[89]|5\.[01])", after.notes[0])
    assert before.ncc < 0.7
    assert after.ncc > 0.95
    again = evaluate_volumes(moved, reference, baseline=moved_input, register="rigid")
    assert after.mae == pytest.approx(again.mae, rel=1e-6)


def test_registration_refuses_what_it_cannot_do(head):
    reference = t2_volume(head)
    sheared = reference.affine.copy()
    sheared[1, 2] = 1.0
    with pytest.raises(GeometryError, match=r"sheared by .* --resample-tilt"):
        evaluate_volumes(reference.replace(affine=sheared), reference, register="rigid")
    one = Volume(reference.array[:, :, 20:21], reference.affine)
    with pytest.raises(GeometryError, match="4 voxels or more"):
        evaluate_volumes(one, one, register="rigid")


def test_volumes_that_share_no_place_are_refused(head):
    reference = ct_volume(head)
    affine = reference.affine.copy()
    affine[0, 3] += 1000.0
    with pytest.raises(GeometryError, match="do not overlap inside the mask"):
        evaluate_volumes(reference.replace(affine=affine), reference)
    affine[0, 3] += 1e-5 - 1000.0
    assert evaluate_volumes(reference.replace(affine=affine), reference).mae == 0


def test_what_cannot_be_scored_is_refused(head):
    reference = t2_volume(head)
    holes = reference.array.astype(np.float32)
    holes[24, 30, 20] = np.nan
    with pytest.raises(IntensityError, match="fake: 1 voxels"):
        evaluate_volumes(reference.replace(array=holes), reference)
    for constant in ("fake", "reference", "input"):
        volumes = dict.fromkeys(("fake", "reference", "input"), reference)
        volumes[constant] = reference.replace(array=np.zeros_like(holes))
        mask = head_mask(reference)
        with pytest.raises(IntensityError, match=f"{constant}: all voxels in the mask are 0"):
            evaluate_volumes(volumes["fake"], volumes["reference"], baseline=volumes["input"], mask=mask)
    with pytest.raises(IntensityError, match="the mask is empty"):
        evaluate_volumes(reference, reference, mask=np.zeros(reference.shape))
    with pytest.raises(GeometryError, match="mask of shape"):
        evaluate_volumes(reference, reference, mask=np.ones((2, 2, 2)))


def test_a_pair_of_two_modalities_is_warned_about(head):
    result = evaluate_volumes(t2_volume(head), ct_volume(head))
    assert any("the fake is MR and the reference CT" in note for note in result.notes)
