"""Image metrics compared with the code of the challenges and with values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medcyclegan.errors import IntensityError
from medcyclegan.metrics import mae, mean_error, ms_ssim, ncc, psnr, ssim

HU_2025 = (-1024.0, 3071.0)
HU_2023 = (-1024.0, 3000.0)


def made_case(shape):
    """Return a synthetic CT, a translation of it with waves and an offset as errors, and an ellipsoid as mask."""
    i, j, k = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in shape), indexing="ij")
    reference = np.rint(900 * np.sin(i / 5) * np.cos(j / 7) + 60 * k - 500)
    fake = np.rint(reference + 150 * np.sin(i * j / 40) - 40 * np.cos(k) + 30)
    radii = (0.4 * shape[0], 0.45 * shape[1], 0.6 * shape[2])
    distance = [((axis - n / 2) / radius) ** 2 for axis, n, radius in zip((i, j, k), shape, radii, strict=True)]
    return fake, reference, sum(distance) < 1


# mae, psnr and ms_ssim: printed by a transcription of ImageMetrics in image_metrics.py of the repository
# SynthRAD2025/evaluation (commit 17cac47, its fftconvolve and crop included); psnr and ssim of 2023 by scikit-image
# 0.26.0: structural_similarity(reference, fake, data_range=4024, full=True), cropped by 3, averaged over the mask.
FIGURES = {
    (40, 33, 20): (98.88410480349344, 31.17804380114183, 0.9927197077207354, 31.0261251201705, 0.9491100839522036),
    (130, 120, 24): (99.40927104229998, 31.159807143945713, 0.9930818020286659, 31.007888462974385, 0.9260978952457609),
}


@pytest.mark.parametrize("shape", FIGURES)
def test_the_challenges_figures(shape):
    fake, reference, mask = made_case(shape)
    expected = FIGURES[shape]
    assert mae(fake, reference, mask) == pytest.approx(expected[0], rel=1e-10)
    assert psnr(fake, reference, value_range=HU_2025, mask=mask) == pytest.approx(expected[1], rel=1e-10)
    assert ms_ssim(fake, reference, value_range=HU_2025, mask=mask) == pytest.approx(expected[2], rel=1e-8)
    assert psnr(fake, reference, value_range=HU_2023, mask=mask) == pytest.approx(expected[3], rel=1e-10)
    assert ssim(fake, reference, value_range=HU_2023, mask=mask) == pytest.approx(expected[4], rel=1e-8)


@pytest.mark.parametrize("edge", [1, 17, 200])
def test_blocks_change_nothing(monkeypatch, edge):
    fake, reference, mask = made_case((50, 40, 24))
    whole = ssim(fake, reference, value_range=HU_2025, mask=mask)
    monkeypatch.setattr("medcyclegan.metrics.windows._BLOCK", (edge, edge, edge))
    assert ssim(fake, reference, value_range=HU_2025, mask=mask) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("corner", [(0, 0, 0), (20, 30, 10), (39, 0, 17)])
def test_only_the_surroundings_of_the_mask_are_used(corner):
    """The score of a mask of one corner voxel and some inner ones is that of filters over the whole volume."""
    fake, reference, _ = made_case((40, 33, 18))
    mask = np.zeros(fake.shape, dtype=bool)
    mask[corner] = mask[20, 15, 9] = mask[21, 14, 9] = True
    c1, c2 = (0.01 * 4095) ** 2, (0.03 * 4095) ** 2
    a, b = (np.where(mask, np.clip(array, *HU_2025) + 1024.0, 0) for array in (fake, reference))

    def mean(array):
        return ndimage.uniform_filter(array, 7)

    (m1, m2), unbiased = (mean(a), mean(b)), 343 / 342
    v1, v2, covariance = (unbiased * (mean(p) - q) for p, q in ((a * a, m1 * m1), (b * b, m2 * m2), (a * b, m1 * m2)))
    local = (2 * m1 * m2 + c1) * (2 * covariance + c2) / ((m1**2 + m2**2 + c1) * (v1 + v2 + c2))
    inner = np.zeros_like(mask)
    inner[3:-3, 3:-3, 3:-3] = mask[3:-3, 3:-3, 3:-3]
    found = ssim(fake, reference, value_range=HU_2025, mask=mask)
    assert found == pytest.approx(local[inner].mean(), rel=1e-6)


def test_equal_volumes_score_best():
    _, reference, mask = made_case((30, 30, 12))
    assert mae(reference, reference, mask) == 0
    assert psnr(reference, reference, value_range=HU_2025, mask=mask) == np.inf
    assert ssim(reference, reference, value_range=HU_2025, mask=mask) == pytest.approx(1)
    assert ms_ssim(reference, reference, value_range=HU_2025, mask=mask) == pytest.approx(1)
    assert ncc(reference, reference, mask) == pytest.approx(1)
    assert ncc(-reference, reference, mask) == pytest.approx(-1)


def test_the_memory_order_and_the_parts_do_not_matter(monkeypatch):
    fake, reference, mask = made_case((40, 33, 20))

    def scores(*arrays):
        return [
            *(metric(*arrays) for metric in (mae, mean_error, ncc)),
            *(metric(*arrays[:2], value_range=HU_2025, mask=arrays[2]) for metric in (psnr, ssim, ms_ssim)),
        ]

    expected = scores(fake, reference, mask)
    assert scores(*(np.asfortranarray(a) for a in (fake, reference, mask))) == pytest.approx(expected, rel=1e-9)
    assert scores(np.asfortranarray(fake), reference, mask) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr("medcyclegan.metrics.image_metrics._PART_VOXELS", 700)
    assert scores(fake, reference, mask) == pytest.approx(expected, rel=1e-9)


def test_ncc_is_numpys():
    fake, reference, mask = made_case((40, 33, 20))
    assert ncc(fake + 1e6, reference, mask) == pytest.approx(np.corrcoef(fake[mask], reference[mask])[0, 1], rel=1e-9)
    assert ncc(np.full(fake.shape, 0.3), reference, mask) == 0


def test_by_hand():
    reference = np.zeros((4, 4, 1))
    fake = reference + np.array([1.0, -3.0, 1.0, -3.0])[:, None, None]
    assert mae(fake, reference) == 2
    assert mean_error(fake, reference) == -1
    assert psnr(fake, reference, value_range=(-10, 10)) == pytest.approx(10 * np.log10(400 / 5))
    assert psnr(fake, reference, value_range=(-1, 1)) == pytest.approx(10 * np.log10(4 / 1))
    assert ncc(fake, reference) == 0


def test_the_background_does_not_count():
    fake, reference, mask = made_case((40, 33, 20))
    elsewhere = np.where(mask, fake, fake + 500)
    for metric in (mae, mean_error, ncc):
        assert metric(fake, reference, mask) == metric(elsewhere, reference, mask)
    for metric in (psnr, ssim, ms_ssim):
        inside = metric(fake, reference, value_range=HU_2025, mask=mask)
        assert metric(elsewhere, reference, value_range=HU_2025, mask=mask) == inside


@pytest.mark.parametrize("axis", range(3))
def test_thin_volumes_are_scored_slice_by_slice(axis):
    """The score of three slices is the mean of the scores of skimage's 7 x 7 window for each slice, along any axis."""
    fake, reference, _ = made_case((40, 33, 3))
    slices = [ssim(fake[:, :, [k]], reference[:, :, [k]], value_range=HU_2025) for k in range(3)]
    fake, reference = (np.ascontiguousarray(np.moveaxis(array, 2, axis)) for array in (fake, reference))
    assert ssim(fake, reference, value_range=HU_2025) == pytest.approx(np.mean(slices), rel=1e-9)
    first = [array.take([0], axis) for array in (fake, reference)]
    assert ssim(*first, value_range=HU_2025) == pytest.approx(slices[0], rel=1e-9)
    assert 0 < ms_ssim(*first, value_range=HU_2025) < 1


def test_a_mask_on_the_border_is_scored_too():
    fake, reference, _ = made_case((40, 33, 20))
    mask = np.zeros(fake.shape, dtype=bool)
    mask[0] = True
    for metric in (ssim, ms_ssim):
        assert 0 < metric(fake, reference, value_range=HU_2025, mask=mask) < 1


def test_a_small_mask_that_vanishes_at_a_coarse_scale():
    fake, reference, _ = made_case((100, 100, 100))
    mask = np.zeros(fake.shape, dtype=bool)
    mask[51, 51, 51] = True
    assert 0 < ms_ssim(fake, reference, value_range=HU_2025, mask=mask) <= 1


def test_an_empty_mask_is_refused():
    fake, reference, mask = made_case((10, 10, 10))
    with pytest.raises(IntensityError, match="empty mask"):
        mae(fake, reference, mask & False)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("offsets", [(0.0, 0.0), (1e6, -1e6)])
def test_ncc_depends_neither_on_scale_nor_on_offset(scale: float, offsets: tuple[float, float]) -> None:
    random = np.random.default_rng(1)
    first, second = random.normal(size=(2, 20, 20, 20))
    second = 0.6 * first + 0.8 * second
    expected = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    if scale < 1.0:
        offsets = (0.0, 0.0)
    assert ncc(scale * first + offsets[0], scale * second + offsets[1]) == pytest.approx(expected, abs=1e-6)
