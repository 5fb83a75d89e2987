import logging

import numpy as np
import pytest
import torch
from support.models import CT_DOMAIN, HU, MR_DOMAIN, identity_model, tiny_model
from support.phantoms import GRIDS, TILTED_GRID, head_ct, head_mr, linear_volume, make_affine

from medcyclegan import Volume, translate_volume
from medcyclegan.device import choose_device
from medcyclegan.errors import IntensityError, ModelError, UsageError
from medcyclegan.inference.runtime.runner import SliceRunner
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model import DomainModel

EVERY_GRID = {**GRIDS, "tilted": TILTED_GRID}
CT_TO_CT = identity_model(CT_DOMAIN, DomainModel("ct2", "CT", HU))


def test_the_identity_returns_every_hu():
    ct = head_ct((256, 256, 6), make_affine("LPS", (1.0, 1.0, 3.0)))
    result = translate_volume(ct, CT_TO_CT, "ct2")
    assert result.array.dtype == np.int16
    assert np.abs(result.array - ct.array.clip(-1024).astype(int)).max() == 0
    assert result.modality == "CT"
    assert np.array_equal(result.affine, ct.affine)


@pytest.mark.parametrize("fit", ["physical", "stretch"])
@pytest.mark.parametrize("name", EVERY_GRID)
def test_a_linear_volume_comes_back_in_its_place(name, fit):
    grid = EVERY_GRID[name]
    volume = linear_volume(grid.shape, grid.affine)
    low, high = float(volume.array.min()), float(volume.array.max())
    domains = [DomainModel(n, None, IntensityScaling("range", low, high, "x")) for n in ("a", "b")]
    model = identity_model(*domains, size=64, fit=fit, pixel_mm=0.5)
    result = translate_volume(volume, model, "b", batch_size=3)
    assert result.shape == grid.shape
    assert np.array_equal(result.affine, grid.affine)
    inner = tuple(slice(2, -2) if n > 4 else slice(None) for n in grid.shape)
    assert np.abs(result.array - volume.array)[inner].max() < 5e-3 * (high - low)


def test_fine_pixels_lose_only_what_interpolation_loses():
    """A smooth volume resampled from 0.488 mm to 1 mm and back is restored within 1 % of its range."""
    place = make_affine("LPS", (0.488281, 0.488281, 3.0))
    i, j = np.meshgrid(np.arange(512), np.arange(512), indexing="ij")
    smooth = (500 * np.sin(i / 40) * np.cos(j / 50)).astype(np.float32)
    volume = Volume(np.stack([smooth, smooth], axis=2), place)
    domains = [DomainModel(n, None, IntensityScaling("range", -500.0, 500.0, "x")) for n in ("a", "b")]
    result = translate_volume(volume, identity_model(*domains), "b")
    assert np.abs(result.array - volume.array)[4:-4, 4:-4].max() < 1.0


def test_a_wide_field_of_view_is_not_cut():
    ct = head_ct((400, 300, 3), make_affine("LPS", (1.0, 1.0, 3.0)))
    result = translate_volume(ct, CT_TO_CT, "ct2")
    assert np.array_equal(result.array, ct.array.clip(-1024))


def test_values_take_the_target_units():
    result = translate_volume(head_ct(), identity_model(), "mr")
    assert (result.modality, result.array.dtype) == ("MR", np.float32)
    assert 0 <= result.array.min() <= result.array.max() <= 1000
    back = translate_volume(head_mr(), identity_model(), "ct")
    assert (back.modality, back.array.dtype) == ("CT", np.int16)
    assert back.array.min() >= -1024
    assert back.array.max() <= 3071


def test_an_mr_is_scaled_by_its_own_foreground():
    mr = head_mr()
    louder = mr.replace(array=mr.array * 7)
    model = identity_model(MR_DOMAIN, DomainModel("t2", "MR", MR_DOMAIN.scaling))
    one, other = (translate_volume(v, model, "t2").array for v in (mr, louder))
    assert np.abs(one - other).max() < 0.01


def test_the_batch_size_does_not_change_the_result():
    ct = head_ct((40, 40, 7), make_affine("LPS", (4.0, 4.0, 4.0)))
    results = [translate_volume(ct, tiny_model(), "mr", batch_size=n).array for n in (1, 3, 7)]
    assert np.abs(results[0] - results[1]).max() < 1e-2
    assert np.abs(results[0] - results[2]).max() < 1e-2


@pytest.mark.parametrize(("asked", "given"), [(3, [3] * 6 + [2]), (7, [7, 7, 6]), (20, [20])])
def test_the_requested_number_of_slices_is_translated_at_a_time(asked, given, monkeypatch):
    seen, original = [], SliceRunner._translate

    def spy(runner, batch):
        seen.append(len(batch))
        return original(runner, batch)

    monkeypatch.setattr(SliceRunner, "_translate", spy)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", lambda _count: None)
    head = head_ct((40, 40, 21), make_affine("LPS", (4.0, 4.0, 4.0)))
    volume = head.replace(array=np.repeat(head.array[:, :, 10:11], 20, axis=2))
    translate_volume(volume, tiny_model(), "mr", batch_size=asked, quality=False)
    assert seen == given


def test_the_direction_follows_the_modality(caplog):
    with caplog.at_level(logging.INFO, "medcyclegan"):
        assert translate_volume(head_ct(), identity_model()).modality == "MR"
        assert translate_volume(head_mr(), identity_model()).modality == "CT"
        assert translate_volume(head_mr().replace(modality=None), identity_model()).modality == "CT"
    assert caplog.text.count("choose with --to") == 3


def test_a_ct_is_not_given_to_an_mr_model():
    mr_only = identity_model(MR_DOMAIN, DomainModel("t2", "MR", MR_DOMAIN.scaling))
    with pytest.raises(IntensityError, match=r"the input is CT, but the model's mr is MR.*--force"):
        translate_volume(head_ct(), mr_only, "t2")
    with pytest.raises(IntensityError, match=r"the input is CT \(in HU\)"):
        translate_volume(head_ct().replace(modality=None), mr_only, "t2")
    assert translate_volume(head_ct(), mr_only, "t2", force=True).modality == "MR"
    with pytest.raises(IntensityError, match="the input is PT"):
        translate_volume(head_mr().replace(modality="PT"), mr_only, "t2")


@pytest.mark.parametrize("declared", ["CT", None])
@pytest.mark.parametrize("to", ["mr", "t2"])
def test_the_other_direction_is_advised_only_where_it_fits(declared, to):
    """A CT fits neither direction of a T1 and T2 model, so no --to helps."""
    mr_only = identity_model(MR_DOMAIN, DomainModel("t2", "MR", MR_DOMAIN.scaling))
    ct = head_ct().replace(modality=declared)
    with pytest.raises(IntensityError) as refused:
        translate_volume(ct, mr_only, to)
    assert f"its {to} does not fit the input either, so use another model with --model" in str(refused.value)
    assert "--to" not in str(refused.value)
    with pytest.raises(IntensityError, match=r"is MR: translate to mr with --to mr, or accept it with --force"):
        translate_volume(ct, identity_model(), "ct")


def test_the_error_for_an_unknown_volume_that_is_not_in_hu_names_what_fits():
    unknown = head_mr().replace(modality=None)
    with pytest.raises(IntensityError, match=r"not in HU.*; if it is not a CT, translate to ct with --to ct"):
        translate_volume(unknown, identity_model(), "mr")
    ct_only = identity_model(CT_DOMAIN, DomainModel("ct2", "CT", HU))
    with pytest.raises(IntensityError, match=r"not in HU.*; if it is not a CT, its ct2 does not fit"):
        translate_volume(unknown, ct_only, "ct2")


def test_a_ct_that_is_not_in_hu_is_refused():
    ct = head_ct()
    with pytest.raises(IntensityError, match="not in HU"):
        translate_volume(ct.replace(array=ct.array + 1024), identity_model(), "mr")


def test_a_broken_network_gives_no_volume(monkeypatch):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x * float("nan")

    monkeypatch.setattr("support.models.identity_network", Broken)
    with pytest.raises(ModelError, match="NaN"):
        translate_volume(head_ct(), identity_model(), "mr")


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "mps", "gpu?"])
def test_a_device_that_is_not_here_is_wrong_usage(name):
    with pytest.raises(UsageError, match=r"--device"):
        choose_device(name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_what_the_cpu_gives():
    ct = head_ct()
    cpu, cuda = (translate_volume(ct, tiny_model(), "mr", device=d).array for d in ("cpu", "cuda"))
    assert np.abs(cpu - cuda).max() < 1.0
