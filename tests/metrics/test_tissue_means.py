"""Tissue means: class means computed by hand, the dark share, and invalid numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medcyclegan.intensity import IntensityScaling
from medcyclegan.metrics import InputToHu, TissueMeans, means_of_pairs, means_of_shares


def test_pairs_give_the_mean_of_each_class():
    scaled = np.repeat([-1.0, -0.5, 0.5, 1.0], 100).astype(np.float16)
    hu = np.concatenate([np.full(100, value) + np.tile([-3.0, 3.0], 50) for value in (-900.0, 800.0, 40.0, -90.0)])
    means = means_of_pairs([scaled[::2], scaled[1::2]], [hu[::2], hu[1::2]], 2)
    assert (means.levels, means.hu) == ((-0.5, 0.5, 1.0), (-900, 800, 40, -90)), "not monotone, as tissues are not"
    assert (means.fitted_on, means.patients) == ("pairs", 2)
    assert means.to_hu(np.array([[-1.0, -0.7], [-0.5, 0.49], [0.5, 1.0]])).tolist() == [
        [-900] * 2,
        [800] * 2,
        [40, -90],
    ]


def test_pairs_are_the_best_function_that_is_constant_on_the_classes():
    """No other class values, and no constant, have a smaller squared error on the fitted pairs."""
    generator = np.random.default_rng(0)
    scaled = generator.uniform(-1, 1, 5000)
    hu = 300 * np.cos(3 * scaled) + generator.normal(0, 50, 5000)
    means = means_of_pairs([scaled], [hu], 1)
    assert len(means.hu) == 32
    error = np.square(means.to_hu(scaled) - hu).mean()
    assert error < 60**2
    for n in range(32):
        for step in (-5.0, 5.0):
            moved = TissueMeans(means.levels, (*means.hu[:n], means.hu[n] + step, *means.hu[n + 1 :]), "pairs", 1)
            assert np.square(moved.to_hu(scaled) - hu).mean() > error


def test_shares_take_the_darkest_for_air_and_bone():
    """A tenth of the CT is air and a fifth bone, so the darkest three tenths of the input are either."""
    hu = np.concatenate([np.full(10, -1000.0), np.full(20, 800.0), np.full(30, 0.0), np.full(40, 50.0)])
    scaled = np.linspace(-1, 1, 200).astype(np.float32)
    means = means_of_shares([scaled[100:], scaled[:100]], [hu], 3)
    assert means.hu == (200.0, round((30 * 0 + 40 * 50) / 70, 1))
    assert np.count_nonzero(means.to_hu(scaled) == 200.0) == 60
    assert (means.to_hu(scaled)[:60] == 200.0).all()
    assert (means.fitted_on, means.patients) == ("shares", 3)


def test_the_limits_of_soft_tissue_are_those_of_the_scores():
    hu = np.array([-201.0, -200.0, 0.0, 199.0, 200.0, 1000.0])
    assert means_of_shares([np.linspace(-1, 1, 6)], [hu], 1).hu == (333.0, round(-1 / 3, 1))


def test_all_voxels_at_the_lower_end_are_dark():
    scaled = np.concatenate([np.full(60, -1.0), np.linspace(0, 1, 40)]).astype(np.float16)
    hu = np.concatenate([np.full(10, 1000.0), np.full(90, 40.0)])
    found = means_of_shares([scaled], [hu], 1).to_hu(scaled.astype(np.float32))
    assert (found[:60] == 1000).all()
    assert (found[60:] == 40).all()


@pytest.mark.parametrize("hu", [np.array([10.0, 40.0]), np.array([-900.0, 940.0])])
def test_a_single_tissue_has_one_mean(hu):
    means = means_of_shares([np.linspace(-1, 1, 9)], [hu], 1)
    assert (means.levels, means.hu) == ((), (hu.mean(),))
    assert (means.to_hu(np.zeros((2, 2))) == hu.mean()).all()


def test_it_survives_json():
    means = means_of_pairs([np.linspace(-1, 1, 999)], [np.linspace(-100, 900, 999)], 4)
    assert TissueMeans.from_dict(json.loads(json.dumps(means.to_dict()))) == means


def test_an_input_is_scaled_first():
    to_hu = InputToHu(TissueMeans((0.0,), (-7.0, 42.0), "shares", 1), IntensityScaling("percentile", 100, 300, "au"))
    assert to_hu(np.array([50, 199, 200, 999], dtype=np.uint16)).tolist() == [-7, -7, 42, 42]


@pytest.mark.parametrize(
    "change",
    [
        {"hu": [1.0]},
        {"levels": [0.5, 0.0], "hu": [1, 2, 3]},
        {"levels": [float("nan")]},
        {"hu": [1.0, float("inf")]},
        {"hu": [1.0, 1e6]},
        {"levels": [0.0] * 32, "hu": [0.0] * 33},
        {"fitted_on": "a guess"},
        {"fitted_on": None},
        {"patients": 0},
        {"patients": None},
        {"hu": None},
    ],
)
def test_numbers_that_no_fit_returns_are_refused(change):
    good = {"levels": [0.0], "hu": [1.0, 2.0], "fitted_on": "pairs", "patients": 1}
    TissueMeans.from_dict(good)
    with pytest.raises((KeyError, TypeError, ValueError)):
        TissueMeans.from_dict({**good, **change})
