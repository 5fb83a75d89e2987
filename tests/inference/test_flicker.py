"""Flicker is measured against the input after the same resampling."""

import numpy as np
import pytest
from scipy import ndimage
from support.models import CT_DOMAIN, HU, MR, MR_DOMAIN, identity_model
from support.phantoms import head_ct, head_mr, make_affine

from medcyclegan.inference import InferenceOptions, assess, translate
from medcyclegan.inference.flicker import measure_flicker, resampled_input
from medcyclegan.metrics import flicker_index
from medcyclegan.model import DomainModel
from medcyclegan.plane import plane_view

SAME = {"CT": (CT_DOMAIN, DomainModel("same", "CT", HU)), "MR": (MR_DOMAIN, DomainModel("same", "MR", MR))}
#: Axis codes, shape and spacing in mm of volumes whose slices are resampled to 1 mm and back.
GRIDS = {
    "finer": ("LPS", (64, 72, 12), (0.45, 0.5, 3.0)),
    "coarser": ("RAS", (40, 44, 20), (3.25, 3.0, 4.0)),
    "sagittal": ("PIR", (48, 40, 14), (0.7, 0.7, 4.8)),
    "coronal": ("LIP", (44, 30, 16), (0.9, 1.2, 2.5)),
}


def same(volume, planes="axial", **preparation):
    model = identity_model(*SAME[volume.modality], **preparation)
    return translate(volume, model.direction("same"), InferenceOptions(device="cpu", planes=planes))


def noisy(make, codes, shape, spacing):
    """Return a head with noise of a few pixels' width, most of which is removed by resampling in the slices."""
    volume = make(shape, make_affine(codes, spacing))
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 0.4)
    array = volume.array + (0.2 * np.ptp(volume.array) * noise * (volume.array > volume.array.mean()))
    return volume.replace(array=array.astype(volume.array.dtype))


@pytest.mark.parametrize("planes", ["axial", "three"])
@pytest.mark.parametrize("make", [head_ct, head_mr])
@pytest.mark.parametrize("name", GRIDS)
def test_the_identity_does_not_flicker(name, make, planes):
    volume = noisy(make, *GRIDS[name])
    done = same(volume, planes)
    assert measure_flicker(volume, done, planes) == pytest.approx(0, abs=2e-3)


def test_against_the_input_itself_resampling_would_count_as_flicker():
    """Check that the volumes are rough enough for the test above to fail without resampling the input."""
    volume = noisy(head_mr, *GRIDS["finer"])
    done = same(volume)
    fake, source = (plane_view(v.array, v.orientation) for v in (done.volume, volume))
    assert flicker_index(fake, source, done.scaling.normalize(source) > -0.9) > 0.15


@pytest.mark.parametrize("planes", ["axial", "three"])
def test_flicker_shows_through_resampling(planes):
    volume = noisy(head_mr, *GRIDS["finer"])
    done = same(volume, planes)
    shift = np.random.default_rng(1).normal(0, 200, volume.shape[2]).astype(np.float32)
    shaken = done.volume.array + shift * (done.volume.array > 100)
    done = type(done)(**{**vars(done), "volume": done.volume.replace(array=shaken)})
    assert measure_flicker(volume, done, planes) > 0.2


@pytest.mark.parametrize("planes", [("PLS",), ("PLS", "ILP", "IPL")])
@pytest.mark.parametrize("fit", ["physical", "stretch"])
@pytest.mark.parametrize("name", GRIDS)
def test_the_reference_is_what_the_identity_gives(name, fit, planes):
    volume = noisy(head_mr, *GRIDS[name])
    done = same(volume, "three" if len(planes) > 1 else "axial", fit=fit, size=64)
    expected = done.direction.target.scaling.normalize(plane_view(done.volume.array, volume.orientation))
    found = resampled_input(volume, done, planes)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4
    assert np.allclose(resampled_input(volume, done, planes, step=3), found[::3, ::3], atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16, 6), (16, 16, 1)])
def test_equal_slices_have_none(shape):
    plane = np.zeros(shape, np.float32)
    plane[4:12, 4:12] = np.random.default_rng(0).uniform(300, 900, (8, 8, 1))
    volume = head_mr(shape).replace(array=plane)
    done = same(volume, pixel_mm=3.0)
    assert measure_flicker(volume, done, "axial") is None


@pytest.mark.parametrize(("planes", "advised"), [("axial", True), ("three", False)])
def test_three_planes_are_not_advised_to_who_has_them(monkeypatch, planes, advised):
    monkeypatch.setattr("medcyclegan.inference.quality.measure_flicker", lambda *_: 0.3)
    volume = head_mr()
    done = same(volume, planes, pixel_mm=5.0)
    quality = assess(volume, done, InferenceOptions(device="cpu", planes=planes))
    (reason,) = (reason for reason in quality.reasons if "from slice to slice" in reason)
    assert "it varies 30% more than the input from slice to slice" in reason
    assert ("--planes three" in reason) is advised
