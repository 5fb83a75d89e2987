import json

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from support.models import CT_DOMAIN, HU, MR, MR_DOMAIN, identity_model, tiny_model
from support.phantoms import head_ct, head_mr, write_nifti

from medcyclegan.inference import InferenceOptions, TranslationOptions, translate, translate_file, uncertainty_map
from medcyclegan.inference.uncertainty import cycle_error
from medcyclegan.model import DomainModel

T1_TO_T2 = identity_model(MR_DOMAIN, DomainModel("t2", "MR", MR))


class Lossy(torch.nn.Module):
    """The identity, except that bright values are lost."""

    def forward(self, x):
        return x.clamp(max=0.0)


def test_uncertainty_is_low_where_the_cycle_restores_the_input():
    mr = head_mr()
    done = translate(mr, T1_TO_T2.direction("t2"), InferenceOptions())
    uncertainty = uncertainty_map(mr, done, InferenceOptions())
    assert uncertainty.shape == mr.shape
    assert np.array_equal(uncertainty.affine, mr.affine)
    assert uncertainty.array.max() < 1e-2
    assert cycle_error(mr, done, InferenceOptions(), [10, 12]) < 1e-5


def test_what_does_not_come_back_is_marked_in_the_target_s_unit(monkeypatch):
    monkeypatch.setattr("support.models.identity_network", Lossy)
    ct = head_ct()
    model = identity_model(CT_DOMAIN, DomainModel("ct2", "CT", HU))
    array = ct.array.copy()
    array[10:30, 14:34, 8:16] = 3071
    bright = ct.replace(array=array)
    done = translate(bright, model.direction("ct2"), InferenceOptions())
    uncertainty = uncertainty_map(bright, done, InferenceOptions())
    assert uncertainty.array[20, 24, 12] == pytest.approx(2047.5, rel=0.02), "half of the window is lost"
    assert uncertainty.array[2, 2, 2] < 10
    error = cycle_error(bright, done, InferenceOptions(), [12])
    assert 0.05 < error < 0.5


def test_the_map_is_a_file_on_the_input_s_grid(tmp_path):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    model = tiny_model().save(tmp_path / "model")
    options = TranslationOptions(
        to="mr",
        computing=InferenceOptions(tta=True),
        uncertainty=tmp_path / "uncertainty.nii.gz",
        preview=tmp_path / "p.png",
    )
    translate_file(source, tmp_path / "out.nii.gz", model, options)
    before, uncertainty = nib.load(source), nib.load(tmp_path / "uncertainty.nii.gz")
    assert uncertainty.shape == before.shape
    assert np.array_equal(uncertainty.affine, before.affine)
    assert uncertainty.get_data_dtype() == np.float32
    values = uncertainty.get_fdata()
    assert values.min() >= 0
    record = json.loads((tmp_path / "out.json").read_text())["uncertainty"]
    assert 0 < record["mean"] < record["percentile_95"] <= values.max()
    assert record["unit"] == "arbitrary units"
    picture = Image.open(tmp_path / "p.png")
    colours = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.abs(colours[:, -320:, 0] - colours[:, -320:, 2]) > 100).any(), "the uncertainty column is in colour"


def test_the_spread_adds_to_the_cycle_residual():
    ct = head_ct()
    model = tiny_model()
    computing = InferenceOptions(tta=True)
    done = translate(ct, model.direction("mr"), computing, spread=True)
    both = uncertainty_map(ct, done, computing).array
    assert (both >= done.spread - 1e-3).all()
    assert (both > done.spread + 1e-3).any()
