"""Gamma and points of dose-volume histograms, on doses whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from medcyclegan.dose.score import dvh_points, gamma_pass_rate

pytest.importorskip("pymedphys", reason="the extra dose is not installed")


@pytest.fixture(scope="module")
def hill():
    """A dose of 60 Gy that falls by 3 Gy a mm along the first axis, on 2 mm voxels."""
    along = np.clip(60 - 3 * np.abs(np.arange(24) * 2.0 - 23), 0, 60)
    return np.broadcast_to(along[:, None, None], (24, 8, 8)).copy()


def test_equal_doses_pass(hill):
    assert gamma_pass_rate(hill, hill, 2.0) == 100


@pytest.mark.parametrize(("percent", "passes"), [(1.9, True), (2.2, False)])
def test_a_flat_dose_passes_up_to_two_percent(percent, passes):
    flat = np.full((8, 8, 8), 60.0)
    assert gamma_pass_rate(flat, flat * (1 + percent / 100), 2.0) == (100 if passes else 0)


def test_a_shift_counts_as_distance(hill):
    rates = []
    for shift_mm in (1.0, 6.0):
        along = np.clip(60 - 3 * np.abs(np.arange(24) * 2.0 - 23 - shift_mm), 0, 60)
        moved = np.broadcast_to(along[:, None, None], hill.shape)
        rates.append(gamma_pass_rate(hill, moved, 2.0))
    assert rates[0] == 100
    assert rates[1] < 20


def test_low_dose_does_not_count(hill):
    other = np.where(hill < 5, 20.0, hill)
    assert (other != hill).any()
    assert gamma_pass_rate(hill, other, 2.0) == 100


def test_dvh_points_are_doses_that_a_percentage_receives():
    dose = np.linspace(0, 100, 1001).reshape(1001, 1, 1)
    points = dvh_points(dose, np.ones_like(dose, bool))
    assert points == pytest.approx({"d2": 98, "d50": 50, "d95": 5, "d98": 2, "mean": 50})
    assert dvh_points(dose, dose >= 90)["mean"] == pytest.approx(95)
