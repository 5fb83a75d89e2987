import numpy as np
import pytest
import torch
from support.phantoms import GRIDS, TILTED_GRID, linear_values

from medcyclegan.errors import GeometryError
from medcyclegan.plane import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    Preparation,
    canvas_fit,
    cut_fit,
    from_plane,
    plane_affine,
    plane_view,
    to_plane,
)
from medcyclegan.volume import Volume

EVERY_GRID = {**GRIDS, "tilted": TILTED_GRID}


def view_of(grid, plane=AXIAL):
    values = linear_values(grid.shape, grid.affine)
    orientation = Volume(values, grid.affine).orientation
    return plane_view(values, orientation, plane), plane_affine(grid.affine, grid.shape, orientation, plane)


def expected(shape, affine):
    return linear_values(shape, affine)


@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL])
@pytest.mark.parametrize("name", EVERY_GRID)
def test_the_view_and_its_affine_move_together(name, plane):
    view, affine = view_of(EVERY_GRID[name], plane)
    assert np.abs(view - expected(view.shape, affine)).max() < 1e-9
    assert Volume(view, affine).orientation == plane


@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL])
@pytest.mark.parametrize("name", EVERY_GRID)
def test_writing_into_the_view_puts_slices_back(name, plane):
    grid = EVERY_GRID[name]
    values = linear_values(grid.shape, grid.affine)
    orientation = Volume(values, grid.affine).orientation
    copy = np.zeros_like(values)
    plane_view(copy, orientation, plane)[...] = plane_view(values, orientation, plane)
    assert np.array_equal(copy, values)


@pytest.mark.parametrize("pixel_mm", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("name", EVERY_GRID)
def test_the_plane_is_where_its_matrix_places_it(name, pixel_mm):
    view, affine = view_of(EVERY_GRID[name])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    fit = canvas_fit(view.shape[:2], tuple(spacing[:2]), Preparation(64, "physical", pixel_mm), 4)
    slices = torch.from_numpy(view.transpose(2, 0, 1).copy())[:, None]
    plane = to_plane(slices, fit, padding=float("nan"))[:, 0].permute(1, 2, 0).numpy()
    error = np.abs(plane - expected(plane.shape, affine @ fit.matrix()))
    # Linear values are reproduced exactly except within a pixel of the edge of the field of view.
    edge = int(np.ceil(max(r / s for r, s in zip(fit.resized, fit.shape, strict=True)))) + 1
    rows, columns = (slice(s + edge, s + r - edge) for s, r in zip(fit.start, fit.resized, strict=True))
    assert error[rows, columns].size == 0 or np.nanmax(error[rows, columns]) < 1e-4 * np.ptp(view)
    assert np.isnan(plane).sum() == plane.shape[2] * (np.prod(fit.canvas) - np.prod(fit.resized))
    back = from_plane(to_plane(slices, fit), fit)
    assert back.shape == slices.shape


def test_where_the_plane_fits_nothing_is_resampled():
    slices = torch.rand(3, 1, 256, 256)
    fit = canvas_fit((256, 256), (1.0, 1.0), Preparation(256, "physical", 1.0), 4)
    assert torch.equal(to_plane(slices, fit), slices)
    assert torch.equal(from_plane(slices, fit), slices)
    smaller = torch.rand(3, 1, 101, 180)
    fit = canvas_fit((101, 180), (1.0, 1.0), Preparation(256, "physical", 1.0), 4)
    assert torch.equal(from_plane(to_plane(smaller, fit), fit), smaller)


def test_stretch_fills_the_slice():
    fit = cut_fit((300, 200), (0.7, 0.7), Preparation(256, "stretch", 1.0))
    assert (fit.resized, fit.canvas, fit.start, fit.cuts) == ((256, 256), (256, 256), (0, 0), False)


def test_one_scale_for_every_field_of_view():
    for shape, spacing in (
        ((256, 256), (0.91, 0.91)),
        ((384, 348), (0.599, 0.599)),
        ((512, 512), (0.488281, 0.488281)),
    ):
        fit = cut_fit(shape, spacing, Preparation(256, "physical", 1.0))
        assert fit.pixel_mm == pytest.approx((1.0, 1.0), rel=0.003)
        assert fit.canvas == (256, 256)


def test_a_large_field_of_view_is_cut_for_training_and_kept_for_translation():
    preparation = Preparation(256, "physical", 1.0)
    cut = cut_fit((512, 512), (0.9, 0.9), preparation, centre=(400.0, 256.0))
    assert cut.canvas == (256, 256)
    assert cut.cuts
    assert cut.resized == (461, 461)
    assert cut.start[0] + cut.resized[0] == 256, "as near to the center as the edge allows"
    middle = (0.5 + 256.0) * cut.resized[1] / 512 + cut.start[1]
    assert middle == pytest.approx(128, abs=0.5), "centered where no edge is near"
    whole = canvas_fit((512, 512), (0.9, 0.9), preparation, 256)
    assert whole.canvas == (512, 512)
    assert not whole.cuts
    assert canvas_fit((512, 512), (0.9, 0.9), preparation, 4).canvas == (464, 464)


def test_shrinking_does_not_alias():
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1.0
    fit = canvas_fit((64, 64), (1.0, 1.0), Preparation(32, "physical", 2.0), 4)
    inner = to_plane(stripes, fit)[0, 0, :, 2:-2]
    assert inner.std() < 0.01
    assert inner.mean() == pytest.approx(0.5, abs=0.01)


def test_an_absurd_spacing_is_refused():
    with pytest.raises(GeometryError, match="check the spacing"):
        canvas_fit((256, 256), (1000.0, 1000.0), Preparation(256, "physical", 1.0), 4)


@pytest.mark.parametrize("fit", ["physical", "stretch"])
@pytest.mark.parametrize("shape", [(40, 30), (9, 64), (1, 17)])
def test_the_round_trip_is_what_plane_and_inverse_do(shape, fit):
    planned = canvas_fit(shape, (0.7, 1.9), Preparation(32, fit, 1.0), 4)
    slices = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    rows, columns = planned.round_trip()
    assert torch.allclose(rows @ slices @ columns.T, from_plane(to_plane(slices, planned), planned), atol=1e-6)
    as_it_is = canvas_fit(shape, (1.0, 1.0), Preparation(64, "physical", 1.0), 4)
    assert all(torch.equal(matrix, torch.eye(n)) for matrix, n in zip(as_it_is.round_trip(), shape, strict=True))
