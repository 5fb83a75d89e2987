"""Air in a synthetic MR gets the target's air value, without a visible border; nothing else changes."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK
import torch
from scipy import ndimage
from support.models import CT_DOMAIN, GREY, HU, MR_DOMAIN, identity_model, tiny_model
from support.phantoms import head_ct, head_mr, make_affine
from support.stores import make_row

from medcyclegan import ModelBundle, translate_volume
from medcyclegan.inference import InferenceOptions, translate
from medcyclegan.inference.background import restore_air
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model import DomainModel
from medcyclegan.model.bundle import target_scaling

#: Tissue begins at 100, as in real T2 heads; air was measured at 7.
T2 = IntensityScaling("percentile", 100.0, 1100.0, "arbitrary units", air=7.0)
T2_DOMAIN = DomainModel("t2", "MR", T2)
ISOTROPIC = make_affine("LPS", (5.0, 5.0, 5.0))


class Contrast(torch.nn.Module):
    """Return inverted tissue contrast, and air of -0.99 with noise of a few hundredths."""

    def __init__(self):
        super().__init__()
        self.register_buffer("unused", torch.ones(1))

    def forward(self, x):
        noise = 0.01 * torch.sin(1e3 * torch.arange(x.shape[3]))
        return torch.where(x > -0.9, 0.2 - 0.6 * x, -0.97 + noise)


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr("medcyclegan.model.bundle.build_generator", lambda config, size: Contrast())
    kind = dataclasses.replace(
        tiny_model(MR_DOMAIN, T2_DOMAIN), weights={name: {"unused": torch.ones(1)} for name in ("G_AB", "G_BA")}
    )
    return dataclasses.replace(kind, preparation=dataclasses.replace(kind.preparation, size=64, pixel_mm=5.0))


def air_of(volume):
    """Return a mask of the phantom's air, excluding one voxel at its surface."""
    return ~ndimage.binary_dilation(ndimage.binary_fill_holes(volume.array > 60))


@pytest.mark.parametrize("planes", ["axial", "three"])
def test_air_is_the_targets_air_in_one_plane_and_in_three(model, planes):
    mr = head_mr((40, 48, 44), ISOTROPIC)
    result = translate_volume(mr, model, "t2", planes=planes).array
    assert np.all(result[air_of(mr)] == 7.0), "no pedestal, and no box where slices were skipped"
    inside = mr.array > 110
    assert result[inside].min() >= 100


def test_a_model_that_never_measured_air_gives_zero(model):
    mr = head_mr((40, 48, 44), ISOTROPIC)
    unknown = dataclasses.replace(T2, air=None)
    model = dataclasses.replace(model, domains=(MR_DOMAIN, DomainModel("t2", "MR", unknown)))
    assert np.all(translate_volume(mr, model, "t2").array[air_of(mr)] == 0.0)
    assert dataclasses.replace(unknown, lower=-50.0).background == -50.0, "values below 0 are no magnitude"
    assert (HU.background, GREY.background) == (-1024.0, 0.0)


def test_skull_stripping_by_otsu_finds_the_same_head(model):
    mr = head_mr((40, 48, 44), ISOTROPIC)
    fake = translate_volume(mr, model, "t2")

    def stripped(array):
        image = SimpleITK.OtsuThreshold(SimpleITK.GetImageFromArray(array), 0, 1)
        return ndimage.binary_fill_holes(SimpleITK.GetArrayFromImage(image))

    real, synthetic = stripped(mr.array), stripped(fake.array)
    assert 2 * (real & synthetic).sum() / (real.sum() + synthetic.sum()) > 0.97
    above_air = ndimage.binary_fill_holes(fake.array > 7.0)
    assert above_air.sum() == pytest.approx(real.sum(), rel=0.1), "what is above air is the head, as in a real one"


def restored(given, scaled, *, spacing=1.0, modality="MR", deviation=None):
    """Return the output ``scaled`` ``(I, J)`` after ``restore_air`` for the input ``given`` ``(I, J)``."""
    volume = head_mr((8, 8, 1)).replace(
        array=np.asarray(given, np.float32)[:, :, None], modality=modality, affine=make_affine("LPS", (spacing,) * 3)
    )
    kind = "window" if modality == "CT" else "percentile"
    scaling = IntensityScaling(kind, 50.0, 1000.0, "arbitrary units", air=0.0 if modality == "MR" else None)
    output = T2.denormalize(np.asarray(scaled, np.float32)[:, :, None])
    restore_air(output, volume, scaling, T2, deviation)
    return output[:, :, 0]


def head(shape=(64, 64)):
    """Return an input slice with a bright left half."""
    given = np.zeros(shape)
    given[: shape[0] // 2] = 800.0
    return given


def test_dark_tissue_and_signal_next_to_the_head_keep_their_values():
    given = head()
    scaled = np.full(given.shape, -1.0)
    scaled[20, 10:50] = 0.5
    scaled[34, 10:50] = 0.5
    result = restored(given, scaled)
    assert np.all(result[:31][scaled[:31] == -1.0] == 100.0), "inside the head -1 is the lower percentile"
    assert np.allclose(result[20, 10:50], 850.0)
    assert np.allclose(result[34, 10:50], 850.0), "3 mm from the head"
    assert np.all(result[35:] == 7.0)


def test_dark_in_the_input_and_bright_in_the_output_is_tissue():
    """Fluid is as dark as air in an inversion-prepared T1, and bright in T2."""
    given = head()
    given[10:20, 10:20] = 0.0
    scaled = np.where(given > 0, 0.0, 0.9)
    scaled[32:] = -1.0
    assert np.allclose(restored(given, scaled)[11:19, 11:19], 1050.0)


def test_signal_in_mid_air_is_removed():
    given = head()
    result = restored(given, np.full(given.shape, 0.5))
    from_head = np.arange(64) - 31
    assert np.allclose(result[from_head <= 9], 850.0)
    assert np.all(result[from_head >= 21] == 7.0)
    between = result[(from_head > 9) & (from_head < 20)][:, 32]
    assert np.all(np.diff(between) < 0), "gradually"
    assert np.abs(np.diff(between)).max() < 120
    coarse = restored(given, np.full(given.shape, 0.5), spacing=2.0)
    assert np.all(coarse[from_head >= 11] == 7.0), "in mm, not in voxels"


def test_the_result_is_continuous_in_the_output_and_in_the_input():
    levels = np.linspace(-1, -0.6, 401)
    in_air = restored(np.pad(np.zeros((8, 401)), ((4, 0), (0, 0)), constant_values=800.0), np.tile(levels, (12, 1)))[8]
    assert in_air[0] == 7.0
    assert in_air[levels <= -0.951].max() == 7.0
    assert np.all(np.diff(in_air) >= 0)
    assert np.diff(in_air).max() < 2.5
    linear = T2.denormalize(levels.astype(np.float32))
    assert np.allclose(in_air[levels >= -0.8], linear[levels >= -0.8])
    between = (levels > -0.949) & (levels < -0.801)
    assert np.all((in_air[between] > 7.0) & (in_air[between] < linear[between]))
    brightness = np.tile(np.linspace(0, 800, 801), (9, 1))
    by_input = restored(brightness, np.full(brightness.shape, -1.0))[4]
    assert (by_input[0], by_input[-1]) == (7.0, 100.0)
    assert np.all(np.diff(by_input) >= 0)
    assert np.diff(by_input).max() < 5


def test_a_bright_voxel_of_noise_is_still_air():
    given = head()
    given[50, 30] = 250.0
    assert np.all(restored(given, np.full(given.shape, -1.0))[40:] == 7.0)


def test_a_ct_input_shows_the_patient_above_its_threshold():
    given = np.where(head() > 0, 40.0, -1000.0)
    given[40:44, 20:24] = -700.0
    result = restored(given, np.full(given.shape, -1.0), modality="CT")
    assert np.all(result[:31] == 100.0)
    assert np.all(result[50:] == 7.0)
    assert 7.0 < result[42, 22] < 100.0


def test_air_is_not_uncertain_regardless_of_the_predictions():
    given, deviation = head(), np.full((64, 64, 1), 3.0, np.float32)
    restored(given, np.full(given.shape, -1.0), deviation=deviation)
    assert np.all(deviation[:31] == 3.0)
    assert np.all(deviation[40:] == 0.0)


def test_ct_pictures_and_the_identity_are_left_alone(model, monkeypatch):
    to_ct = dataclasses.replace(model, domains=(MR_DOMAIN, CT_DOMAIN))
    mr = head_mr((40, 48, 44), ISOTROPIC)
    result = translate_volume(mr, to_ct, "ct").array
    fakes = np.unique(result[air_of(mr)])
    assert fakes.min() == -1024, "slices of air"
    assert np.all((fakes == -1024) | (np.abs(fakes - -962.6) < 25)), "as the network gives it"
    monkeypatch.undo()
    same = translate_volume(mr, identity_model(MR_DOMAIN, T2_DOMAIN, pixel_mm=5.0), "t2").array
    assert np.all(same >= 100)


def test_the_spread_of_a_translation_shrinks_with_it(model):
    mr = head_mr((40, 48, 44), ISOTROPIC)
    done = translate(mr, model.direction("t2"), InferenceOptions(planes="three"), spread=True)
    assert np.all(done.spread[air_of(mr)] == 0)
    assert done.spread.max() > 0


def test_models_carry_the_median_air_of_their_training_volumes(tmp_path):
    fields = {"kind": "percentile", "lower": 50.0, "upper": 900.0, "unit": "arbitrary units", "air": None}
    rows = [make_row("t2", n, (4, 32, 32), scaling={**fields, "air": air}) for n, air in enumerate((3.0, 9.0, 4.0))]
    assert target_scaling(rows).air == 4.0
    unmeasured = [make_row("t2", n, (4, 32, 32), scaling=fields) for n in range(2)]
    assert target_scaling(unmeasured).air is None
    assert target_scaling([*rows[:1], *unmeasured]).air == 3.0
    model = tiny_model(MR_DOMAIN, T2_DOMAIN)
    folder = model.save(tmp_path / "model")
    assert json.loads((folder / "model.json").read_text())["domains"]["B"]["scaling"]["air"] == 7.0
    assert ModelBundle.load(folder).domains[1].scaling == T2


def test_a_mean_of_ct_air_is_not_measured():
    assert IntensityScaling.fit(head_ct().array, modality="CT").air is None
