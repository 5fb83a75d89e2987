import logging

import numpy as np
import pytest
import torch
from support.models import CT_DOMAIN, GREY, HU, MR, MR_DOMAIN, identity_model, tiny_model
from support.phantoms import GRIDS, TILTED_GRID, head_ct, head_mr, linear_volume, make_affine

from medcyclegan import translate_volume
from medcyclegan.errors import GeometryError, ModelError
from medcyclegan.inference import InferenceOptions, translate
from medcyclegan.inference.planes import TranslatedVolume, predict
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model import DomainModel, direction_to
from medcyclegan.plane import AXIAL, CORONAL, SAGITTAL, PlaneFit

EVERY_GRID = {**GRIDS, "tilted": TILTED_GRID}
CT_TO_CT = identity_model(CT_DOMAIN, DomainModel("ct2", "CT", HU))


@pytest.mark.parametrize("name", [n for n, grid in EVERY_GRID.items() if min(grid.shape) >= 8])
def test_three_planes_put_every_voxel_in_its_place(name):
    grid = EVERY_GRID[name]
    volume = linear_volume(grid.shape, grid.affine)
    low, high = float(volume.array.min()), float(volume.array.max())
    domains = [DomainModel(n, None, IntensityScaling("range", low, high, "x")) for n in ("a", "b")]
    model = identity_model(*domains, size=64, pixel_mm=float(min(volume.spacing_mm)))
    result = translate_volume(volume, model, "b", planes="three")
    assert np.array_equal(result.affine, grid.affine)
    inner = tuple(slice(2, -2) for _ in grid.shape)
    assert np.abs(result.array - volume.array)[inner].max() < 5e-3 * (high - low)


def test_the_median_of_three_is_taken_voxel_by_voxel():
    volume = head_ct((9, 10, 11), make_affine("PIR", (1.0, 1.0, 1.0)))
    scaling = IntensityScaling("range", -1.0, 1.0, "x")
    output = TranslatedVolume(volume, scaling, [AXIAL, CORONAL, SAGITTAL])
    assert output.slices == 9 + 10 + 11
    three = np.random.default_rng(0).uniform(-1, 1, (3, 9, 10, 11)).astype(np.float32)
    from medcyclegan.plane import plane_view

    for plane, values in zip((AXIAL, CORONAL, SAGITTAL), three, strict=True):
        view = plane_view(values, volume.orientation, plane).transpose(2, 0, 1)
        for part in (slice(0, 4), slice(4, view.shape[0])):
            output.put(plane, part, torch.from_numpy(view[part].copy())[:, None])
    assert np.abs(output.array - np.median(three, axis=0)).max() < 1e-6


def test_three_planes_of_a_ct_stay_whole_hu():
    ct = head_ct((40, 40, 12), make_affine("LPS", (1.0, 1.0, 1.0)))
    result = translate_volume(ct, CT_TO_CT, "ct2", planes="three")
    assert result.array.dtype == np.int16
    assert np.array_equal(result.array, ct.array.clip(-1024))
    assert result.derivation.settings == ("median of axial, coronal and sagittal translations",)


def test_the_cost_of_three_planes_is_logged(caplog):
    with caplog.at_level(logging.INFO):
        translate_volume(head_ct((40, 40, 12), make_affine("LPS", (1.0, 1.0, 1.0))), CT_TO_CT, "ct2", planes="three")
    assert "three planes: 92 slices instead of 12" in caplog.text


def test_a_thin_volume_has_no_three_planes():
    with pytest.raises(GeometryError, match=r"40 x 40 x 7 voxels.*--planes axial"):
        translate_volume(head_ct((40, 40, 7)), CT_TO_CT, "ct2", planes="three")
    assert translate_volume(head_ct((40, 40, 8)), CT_TO_CT, "ct2", planes="three").shape == (40, 40, 8)


def test_mirrored_slices_are_turned_back(monkeypatch):
    class Leaning(torch.nn.Module):
        def forward(self, x):
            return x + torch.linspace(-0.1, 0.1, x.shape[3])

    mr = head_mr()
    model = identity_model(MR_DOMAIN, DomainModel("t2", "MR", MR))
    straight = translate_volume(mr, model, "t2").array
    monkeypatch.setattr("support.models.identity_network", Leaning)
    plain = translate(mr, model.direction("t2"), InferenceOptions(), spread=True)
    both = translate(mr, model.direction("t2"), InferenceOptions(tta=True), spread=True)
    assert plain.spread is None
    inside = straight[:, :, 12] > 100
    assert np.abs(plain.volume.array - straight)[:, :, 12][inside].max() > 25
    assert np.abs(both.volume.array - straight)[:, :, 12][inside].max() < 1, "the leanings cancel"
    # 40 columns of 5 mm in the middle of 256 pixels: columns 1 and 2 are at pixel 38, half of them a unit of 500.
    assert both.spread[1:3].mean() == pytest.approx(500 * (0.1 - 0.2 * 38 / 255), rel=0.05)
    assert both.spread[19:21].mean() < 2


def test_several_models_give_their_mean_and_spread():
    ct = head_ct()
    one, other = tiny_model(), tiny_model()
    swapped = type(one)(
        other.domains, other.preparation, other.generator,
        {"G_AB": other.weights["G_BA"], "G_BA": other.weights["G_AB"]},
    )  # fmt: skip
    alone = [translate_volume(ct, model, "mr").array for model in (one, swapped)]
    together = translate(ct, direction_to([one, swapped], "mr"), InferenceOptions(), spread=True)
    assert np.abs(together.volume.array - np.mean(alone, axis=0)).max() < 0.1
    assert np.abs(together.spread - np.std(alone, axis=0)).max() < 1.0
    assert together.volume.derivation.settings == (f"Mean with model {swapped.fingerprint}",)
    assert translate_volume(ct, [one, swapped], "mr").array.shape == ct.shape


def test_models_of_other_slices_do_not_vote_together():
    with pytest.raises(ModelError, match="--model number 2"):
        translate_volume(head_ct(), [tiny_model(), tiny_model(size=64)], "mr")
    with pytest.raises(ModelError, match="--model number 2"):
        translate_volume(head_ct(), [tiny_model(), tiny_model(b=DomainModel("t2", "MR", MR))], "mr")


@pytest.mark.parametrize(
    ("value", "pixels", "shown"),
    [(-0.899, 2, True), (-0.901, 2, False), (-0.899, 1, False), (1.0, 1, False), (-0.901, 10_000, False)],
)
def test_a_slice_is_air_below_a_twentieth_of_the_range_or_on_too_few_pixels(value, pixels, shown):
    """A slice is not empty if at least 2 of 10,000 pixels are bright."""
    fit = PlaneFit((100, 100), (100, 100), (100, 100), (0, 0), (1.0, 1.0))
    canvas = torch.full((2, 1, 100, 100), -1.0)
    canvas.view(2, -1)[0, :pixels] = value
    canvas.view(2, -1)[1] = 0.5
    seen = []

    def run(slices):
        seen.append(len(slices))
        return torch.zeros(len(slices), 1, 100, 100)

    fakes = predict([run], canvas, fit, mirror=False, skip_air=True).mean
    assert seen == [2 if shown else 1]
    assert torch.all(fakes[0] == (0.0 if shown else -1.0))
    assert torch.all(fakes[1] == 0.0)
    predict([run], canvas, fit, mirror=False)
    assert seen[1] == 2, "in pictures nothing is air"


def test_slices_of_air_are_not_given_to_the_networks():
    """Instance normalization would turn their noise gray, and two empty planes would outvote the third."""
    mr = head_mr((24, 28, 26), make_affine("LPS", (8.0, 8.0, 8.0)))
    air = head_mr((24, 28, 26), make_affine("LPS", (8.0, 8.0, 8.0)), seed=1).array * 0 + 3.0
    array = mr.array.copy()
    array[:3], array[-3:], array[:, :3], array[:, -3:] = air[:3], air[-3:], air[:, :3], air[:, -3:]
    array[:, :, :3], array[:, :, -3:] = air[:, :, :3], air[:, :, -3:]
    volume = mr.replace(array=array)
    axial = translate_volume(volume, tiny_model(), "ct").array
    assert np.all(axial[:, :, :3] == -1024)
    assert np.all(axial[:, :, -3:] == -1024)
    assert axial[8:16, 8:16, 8:16].std() > 0
    three = translate_volume(volume, tiny_model(), "ct", planes="three").array
    assert np.any(axial[:3, :3, 8:16] != -1024)
    assert np.all(three[:3, :3] == -1024), "where sagittal and coronal slices show nothing"
    pictures = tiny_model(*(DomainModel(name, None, GREY) for name in "ab"))
    black = volume.replace(array=array * 0, modality=None, value_range=(0.0, 255.0))
    assert np.any(translate_volume(black, pictures, "b").array != 0), "what black means in a picture nobody knows"
