"""Evaluation: the figures' definitions, the baseline beside them, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medcyclegan.errors import GeometryError, IntensityError
from medcyclegan.evaluation import evaluate_volumes
from medcyclegan.metrics import head_mask, mae, ms_ssim, psnr, ssim
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.volume import Volume

CHALLENGE = ("mae", "psnr", "ms_ssim", "mae_2023", "psnr_2023", "ssim_2023")


@pytest.fixture(scope="module")
def head():
    return make_head(9, shape=(48, 60, 40), spacing_mm=(4.0, 4.0, 4.0))


def test_ct_is_scored_in_hu_in_the_challenges_ranges(head):
    reference = ct_volume(head)
    fake = reference.replace(array=reference.array + np.int16(25))
    result = evaluate_volumes(fake, reference)
    mask = head_mask(reference)
    assert (result.mae, result.mean_error, result.unit) == (25, 25, "HU")
    assert result.mae_2023 == 25
    assert result.psnr == psnr(fake.array, reference.array, value_range=(-1024, 3071), mask=mask)
    assert result.psnr_2023 == psnr(fake.array, reference.array, value_range=(-1024, 3000), mask=mask)
    assert result.ms_ssim == ms_ssim(fake.array, reference.array, value_range=(-1024, 3071), mask=mask)
    assert result.ssim_2023 == ssim(fake.array, reference.array, value_range=(-1024, 3000), mask=mask)
    assert result.voxels == mask.sum()
    assert result.baseline is None


def test_mr_is_scored_whatever_its_gain_and_offset(head):
    reference, other = t2_volume(head), t2_volume(make_head(10, shape=(48, 60, 40), spacing_mm=(4.0, 4.0, 4.0)))
    louder = other.replace(array=other.array * 7 + 300)
    mask = head_mask(reference)
    plain, scaled = evaluate_volumes(other, reference, mask=mask), evaluate_volumes(louder, reference, mask=mask)
    for name in CHALLENGE:
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-4)
    assert 0 < plain.mae < 1
    assert "percentiles" in plain.normalization


def test_the_input_taken_as_output_stands_beside_it(head):
    reference, source = t2_volume(head), t1_volume(head)
    blurred = reference.replace(array=(reference.array + np.roll(reference.array, 1, 0)) / 2)
    result = evaluate_volumes(blurred, reference, baseline=source)
    assert result.baseline is not None
    assert result.baseline == evaluate_volumes(source, reference)
    assert result.psnr > result.baseline.psnr + 3
    assert result.ssim_2023 > result.baseline.ssim_2023
    assert result.mae < result.baseline.mae
    as_json = json.loads(json.dumps(result.to_dict()))
    assert set(CHALLENGE) <= as_json["baseline"].keys() <= as_json.keys()


def test_pictures_are_scored_over_their_range():
    grey = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 1))
    picture = Volume(grey, np.diag([-1.0, -1.0, 1.0, 1.0]), value_range=(0.0, 255.0))
    result = evaluate_volumes(picture.replace(array=grey + np.uint8(5)), picture, mask=np.ones(grey.shape))
    assert result.mae == 5
    assert result.psnr == pytest.approx(20 * np.log10(255 / 5))
    assert result.psnr_2023 == result.psnr


def test_a_mask_may_be_a_volume_or_an_array(head):
    reference, fake = ct_volume(head), ct_volume(make_head(10, shape=(48, 60, 40), spacing_mm=(4.0, 4.0, 4.0)))
    where = np.zeros(reference.shape, dtype=np.uint8)
    where[20:30, 20:40, 15:25] = 255
    from_volume = evaluate_volumes(fake, reference, mask=Volume(where, reference.affine))
    assert from_volume == evaluate_volumes(fake, reference, mask=where)
    assert from_volume.mae == mae(fake.array, reference.array, where > 0)


def test_other_grids_are_refused(head):
    reference = ct_volume(head)
    short = reference.replace(array=reference.array[:-1])
    with pytest.raises(GeometryError, match=r"fake: shape \(47, 60, 40\)"):
        evaluate_volumes(short, reference)
    affine = reference.affine.copy()
    affine[0, 3] += 1.0
    with pytest.raises(GeometryError, match="baseline: its corners lie up to 1 mm"):
        evaluate_volumes(reference, reference, baseline=reference.replace(affine=affine))
    affine[0, 3] -= 1.0 - 1e-5
    assert evaluate_volumes(reference.replace(affine=affine), reference).mae == 0
    with pytest.raises(GeometryError, match="mask of shape"):
        evaluate_volumes(reference, reference, mask=np.ones((2, 2, 2)))


def test_what_cannot_be_scored_is_refused(head):
    reference = t2_volume(head)
    holes = reference.array.copy()
    holes[24, 30, 20] = np.nan
    with pytest.raises(IntensityError, match="fake: 1 voxels"):
        evaluate_volumes(reference.replace(array=holes), reference)
    with pytest.raises(IntensityError, match="without contrast"):
        evaluate_volumes(reference.replace(array=np.zeros_like(holes)), reference)
    with pytest.raises(IntensityError, match="empty mask"):
        evaluate_volumes(reference, reference, mask=np.zeros(reference.shape))
