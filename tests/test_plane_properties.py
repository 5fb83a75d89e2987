"""Properties of planes: views are writable, fits lose nothing, resampling adds no new values."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from support.phantoms import linear_values
from support.strategies import affines, shapes

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

planes = st.sampled_from([AXIAL, CORONAL, SAGITTAL])
slice_shapes = st.tuples(st.integers(1, 400), st.integers(1, 400))
pixel_spacings = st.tuples(st.floats(0.2, 4.0), st.floats(0.2, 4.0))
preparations = st.builds(
    Preparation, st.sampled_from([32, 64, 256]), st.sampled_from(["physical", "stretch"]), st.floats(0.3, 5.0)
)


def too_wide(shape, spacing, preparation):
    """Return whether a slice is over 64 times the canvas, which is refused because the header is probably wrong."""
    widest = max(round(n * mm / preparation.pixel_mm) for n, mm in zip(shape, spacing, strict=True))
    return preparation.fit == "physical" and widest > 64 * preparation.size


@given(shape=shapes, affine=affines(), plane=planes)
def test_voxels_and_their_places_go_together_into_a_plane_and_back(shape, affine, plane):
    values = linear_values(shape, affine)
    volume = Volume(values, affine)
    view = plane_view(values, volume.orientation, plane)
    places = plane_affine(affine, shape, volume.orientation, plane)
    assert np.abs(view - linear_values(view.shape, places)).max() <= 1e-9 * max(1.0, np.abs(values).max())
    copy = np.zeros_like(values)
    plane_view(copy, volume.orientation, plane)[...] = view
    assert np.array_equal(copy, values)
    assume(volume.oblique_degrees < 44)  # beyond, which axis is closest is a matter of rounding
    assert Volume(view, places).orientation == plane


@given(shape=slice_shapes, spacing=pixel_spacings, preparation=preparations, multiple=st.sampled_from([4, 32, 256]))
def test_a_canvas_for_translation_leaves_nothing_out(shape, spacing, preparation, multiple):
    if too_wide(shape, spacing, preparation):
        with pytest.raises(GeometryError, match="check the spacing"):
            canvas_fit(shape, spacing, preparation, multiple)
        return
    fit = canvas_fit(shape, spacing, preparation, multiple)
    assert not fit.cuts
    for axis in (0, 1):
        assert fit.canvas[axis] == preparation.size or fit.canvas[axis] % multiple == 0
        assert fit.canvas[axis] - max(fit.resized[axis], preparation.size) < multiple
        assert fit.resized[axis] * fit.pixel_mm[axis] == pytest.approx(shape[axis] * spacing[axis])
        # The outer edges of the resized slice are those of the original pixels.
        first, last = fit.start[axis] - 0.5, fit.start[axis] + fit.resized[axis] - 0.5
        scale, shift = fit.matrix()[axis, axis], fit.matrix()[axis, 3]
        assert scale * first + shift == pytest.approx(-0.5)
        assert scale * last + shift == pytest.approx(shape[axis] - 0.5)


@given(shape=slice_shapes, spacing=pixel_spacings, preparation=preparations, data=st.data())
def test_a_cut_for_training_keeps_its_centre_and_never_passes_an_edge(shape, spacing, preparation, data):
    centre = data.draw(st.tuples(*[st.floats(0, n - 1) for n in shape]) | st.none())
    if too_wide(shape, spacing, preparation):
        with pytest.raises(GeometryError, match="check the spacing"):
            cut_fit(shape, spacing, preparation, centre)
        return
    fit = cut_fit(shape, spacing, preparation, centre)
    assert fit.canvas == (preparation.size, preparation.size)
    for axis, size in enumerate(fit.canvas):
        end = fit.start[axis] + fit.resized[axis]
        if fit.resized[axis] <= size:
            assert 0 <= fit.start[axis] <= size - fit.resized[axis]
        else:
            assert fit.start[axis] <= 0
            assert end >= size
            middle = (shape[axis] - 1) / 2 if centre is None else centre[axis]
            place = (middle + 0.5) * fit.resized[axis] / shape[axis] + fit.start[axis]
            assert -1 <= place <= size + 1


@given(
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    spacing=pixel_spacings,
    pixel_mm=st.floats(0.3, 5.0),
    seed=st.integers(0, 99),
)
def test_resampling_stays_within_the_values_and_keeps_constants(shape, spacing, pixel_mm, seed):
    fit = canvas_fit(shape, spacing, Preparation(32, "physical", pixel_mm), 4)
    slices = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    plane = to_plane(slices, fit)
    back = from_plane(plane, fit)
    assert plane.shape[-2:] == fit.canvas
    assert back.shape == slices.shape
    for resampled in (plane, back):
        assert resampled.max() <= slices.max() + 1e-5
        assert resampled.min() >= min(-1.0, float(slices.min())) - 1e-5
    constant = from_plane(to_plane(torch.full((1, 1, *shape), 0.25), fit), fit)
    assert torch.allclose(constant, torch.tensor(0.25), atol=1e-5)
    if fit.resized == shape:
        assert torch.equal(back, slices)
