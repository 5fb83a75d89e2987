"""Sampling, noise, coils and blur: what a scanner does to an image."""

import dataclasses

import numpy as np
import pytest
import torch

from medcyclegan.synthesis.acquisition import Acquisition, blurred, draw_acquisition, scan_ct, scan_mr
from medcyclegan.synthesis.deform import Deformation, Grid, sample_labels, sample_maps
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.tissues import tissue_index

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
STILL = Deformation(IDENTITY, 0.0, 40.0, 0.0, 12.0, 0)


def test_a_map_sampled_without_deformation_is_itself(head):
    grid = Grid(
        tuple(head.tissues.shape),
        head.spacing_mm,
        tuple(-c * mm for c, mm in zip(head.centre, head.spacing_mm, strict=True)),
    )
    values = (head.tissues == tissue_index("white matter")).float()
    assert torch.allclose(sample_maps(values[None], head, STILL, grid)[0], values, atol=1e-4)
    assert torch.equal(sample_labels(head.tissues, head, STILL, grid), head.tissues)


def test_large_voxels_hold_the_mean_of_what_they_cover(head):
    shape, mm = tuple(head.tissues.shape), head.spacing_mm[0]
    # Blocks of 2 x 2 x 4 voxels of the map, as far as whole ones go.
    counts = (shape[0] // 2, shape[1] // 2, shape[2] // 4)
    starts = [(k - 1) / 2 * mm - c * mm for k, c in zip((2, 2, 4), head.centre, strict=True)]
    grid = Grid(counts, (2 * mm, 2 * mm, 4 * mm), tuple(starts))
    values = (head.tissues == tissue_index("grey matter")).float()
    part = values[: 2 * counts[0], : 2 * counts[1], : 4 * counts[2]]
    expected = part.view(counts[0], 2, counts[1], 2, counts[2], 4).mean(dim=(1, 3, 5))
    assert torch.allclose(sample_maps(values[None], head, STILL, grid)[0], expected, atol=1e-4)


def test_an_affine_deformation_moves_a_place_to_where_its_matrix_says(head):
    grid = Grid((40, 40, 40), (4.0, 4.0, 4.0), (-78.0, -78.0, -78.0))
    half = Deformation(((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5)), 0.0, 40.0, 0.0, 12.0, 0)
    values = (head.tissues == tissue_index("white matter")).float()[None]
    still, doubled = (sample_maps(values, head, d, grid)[0].sum() for d in (STILL, half))
    assert float(doubled / still) > 4, "twice as large, as far as the grid goes"


def test_noise_is_rician_and_its_background_can_be_black():
    grid = Grid((60, 60, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    plain = dataclasses.replace(
        draw_acquisition(Draws(0), "t1", 1),
        noise=0.05, noise_blur=0.0, bias=0.0, surface=0.0, fade_mm=None, gamma=1.0, floor=0.0, gain=100.0,
    )  # fmt: skip
    scan = scan_mr(torch.zeros(grid.shape), grid, plain, 0.5)
    assert float(scan.mean()) == pytest.approx(5 * np.sqrt(np.pi / 2), rel=0.02), "Rayleigh"
    bright = scan_mr(torch.full(grid.shape, 0.5), grid, plain, 0.5)
    assert float(bright.mean()) == pytest.approx(100, rel=0.01)
    assert float(bright.std()) == pytest.approx(5, rel=0.05)
    black = scan_mr(torch.zeros(grid.shape), grid, dataclasses.replace(plain, floor=3.0), 0.5)
    assert float((black == 0).float().mean()) > 0.95
    correlated = scan_mr(torch.full(grid.shape, 0.5), grid, dataclasses.replace(plain, noise_blur=0.8), 0.5)
    assert float(correlated.std()) == pytest.approx(5, rel=0.05)
    assert float((correlated[1:] - correlated[:-1]).std()) < 0.8 * float((bright[1:] - bright[:-1]).std())


def test_receivers_are_brighter_at_the_surface_and_fade_in_the_face():
    grid = Grid((41, 41, 41), (5.0, 5.0, 5.0), (-100.0, -100.0, -100.0))
    base = dataclasses.replace(
        draw_acquisition(Draws(0), "t1", 1),
        noise=1e-6, bias=0.0, surface=0.7, fade_mm=90.0, gamma=1.0, floor=0.0, gain=1.0,
    )  # fmt: skip
    scan = scan_mr(torch.ones(grid.shape), grid, base, 1.0)
    assert float(scan[20, 20, 20]) == pytest.approx(1, abs=0.01)
    assert float(scan[2, 20, 20]) == pytest.approx(np.exp(0.7), rel=0.01)
    assert float(scan[20, 38, 2]) < 0.5 * float(scan[20, 2, 38])


def test_ct_noise_is_added_and_the_range_is_a_scanners():
    grid = Grid((50, 50, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    acquisition = dataclasses.replace(draw_acquisition(Draws(0), "ct", 1), noise=10.0)
    assert float(scan_ct(torch.zeros(grid.shape), grid, acquisition).std()) == pytest.approx(10, rel=0.05)
    assert float(scan_ct(torch.full(grid.shape, -2000.0), grid, acquisition).max()) == -1024
    assert float(scan_ct(torch.full(grid.shape, 9000.0), grid, acquisition).min()) == 3071


def test_a_blur_keeps_constants_and_sums_and_widens_a_point():
    image = torch.zeros(21, 21, 21)
    image[10, 10, 10] = 1
    wide = blurred(image, (1.5, 0.0, 2.0))
    assert float(wide.sum()) == pytest.approx(1, abs=1e-5)
    offsets = torch.arange(21.0) - 10
    assert float((wide.sum(dim=(1, 2)) * offsets**2).sum()) == pytest.approx(2.25, rel=0.1)
    assert torch.equal(wide.sum(dim=(0, 2)) > 0, offsets == 0)
    assert torch.allclose(blurred(torch.ones(9, 9, 9), (2.0, 2.0, 2.0)), torch.ones(9, 9, 9), atol=1e-6)
    assert image[10, 10, 10] == 1, "the input is left alone"


def test_an_offset_is_subtracted_after_the_noise():
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    plain = Acquisition(0.0, 1e-6, 0.0, 0.0, 100.0, 0.0, None, 1.0, 0.0, 200.0, 1)
    image = torch.tensor([0.1, 0.3, 0.7, 1.0]).expand(4, 4, 4)
    scanned = scan_mr(image, grid, dataclasses.replace(plain, subtracted=0.3), 1.0)
    assert torch.allclose(scanned[0, 0], torch.tensor([0.0, 0.0, 80.0, 140.0]), atol=0.01)
