"""Plans of pyRadPlan lie where they should, repeat exactly, follow mirrored inputs, and feel bone."""

from __future__ import annotations

import numpy as np
import pytest

from medcyclegan.dose import plan as plans
from medcyclegan.dose.grid import SPACING_MM
from medcyclegan.dose.plan import calculate, make_plan
from medcyclegan.dose.score import dvh_points, gamma_pass_rate
from medcyclegan.volume import Volume

pytest.importorskip("pyRadPlan", reason="the extra dose is not installed")

SHAPE = (42, 46, 40)
#: Right, front and top of the center, in mm RAS+.
TARGET = np.array([15.0, 9.0, 3.0])


def places() -> np.ndarray:
    """Return the RAS+ coordinates of all voxels ``(I, J, K, 3)``."""
    center = (np.array(SHAPE) - 1) / 2
    return (np.moveaxis(np.indices(SHAPE), 0, -1) - center) * SPACING_MM * [-1, -1, 1]


@pytest.fixture(scope="module")
def phantom():
    """A head of water with a cavity at the front right: grid, CT, head and target."""
    where = places()
    head = ((where / [54, 60, 54]) ** 2).sum(-1) < 1
    cavity = ((where - [20, 40, 0]) ** 2).sum(-1) < 10**2
    ct = np.where(head, np.where(cavity, -1000, 0), -1000).astype(np.float32)
    affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1])
    affine[:3, 3] = where[0, 0, 0]
    return Volume(ct, affine), ct, head, ((where - TARGET) ** 2).sum(-1) < 9**2


@pytest.fixture(scope="module", params=["photon", "proton"])
def plan(request, phantom):
    return make_plan(request.param, phantom[1], phantom[0], phantom[2], phantom[3])


def test_the_dose_is_in_the_target(plan, phantom):
    points = dvh_points(plan.dose, phantom[3])
    assert points["d50"] == pytest.approx(60)
    assert points["d98"] > 54
    assert points["d2"] < 66
    high = plan.dose > 50
    assert places()[high].mean(axis=0) == pytest.approx(TARGET, abs=SPACING_MM)
    assert plan.dose[phantom[2] & ~phantom[3]].mean() < 20
    assert not plan.dose[~phantom[2]].any()


def test_the_same_ct_gives_the_same_dose(plan, phantom):
    again = calculate(plan, phantom[1])
    assert gamma_pass_rate(plan.dose, again, SPACING_MM) == 100
    assert dvh_points(again, phantom[3]) == pytest.approx(dvh_points(plan.dose, phantom[3]), abs=0.01)


def test_a_mirrored_patient_gets_the_mirrored_dose(plan, phantom):
    grid, *arrays = phantom
    mirrored = make_plan(plan.particle, *[arrays[0][::-1].copy(), grid, *(a[::-1].copy() for a in arrays[1:])])
    assert gamma_pass_rate(plan.dose, mirrored.dose[::-1], SPACING_MM) > 97
    assert np.abs(plan.dose - mirrored.dose[::-1]).mean() < 0.1 * np.abs(plan.dose - mirrored.dose).mean()


def test_bone_replaced_by_water_moves_protons_deeper(phantom, monkeypatch):
    """One beam enters from the left (gantry at 90 degrees) through a slab of 12 mm of bone."""
    grid, ct, head, target = phantom
    monkeypatch.setitem(plans.BEAMS, "proton", (90.0,))
    where = places()
    slab = head & (where[..., 0] > -42) & (where[..., 0] < -30)
    assert np.unique(where[slab][:, 0]).size == 4
    plan = make_plan("proton", np.where(slab, np.float32(900), ct), grid, head, target)
    through = calculate(plan, ct)
    left, right = (plan.dose[head & (sign * (where[..., 0] - TARGET[0]) > 27)].max() for sign in (-1, 1))
    assert left > 20
    assert right < 0.2 * left
    # 900 HU has 1.47 times the density of water in pyRadPlan's table: 12 mm of it are 5.7 mm more of water.
    shift_mm = range_mm(through, where) - range_mm(plan.dose, where)
    assert shift_mm == pytest.approx(5.7, abs=0.8)


def range_mm(dose: np.ndarray, where: np.ndarray) -> float:
    """Return the coordinate to the right at which the dose through the target's center falls to half the maximum."""
    j = int(np.argmin(np.abs(where[0, :, 0, 1] - TARGET[1])))
    k = int(np.argmin(np.abs(where[0, 0, :, 2] - TARGET[2])))
    along, x = dose[::-1, j, k], where[::-1, j, k, 0]
    last = int(np.flatnonzero(along > 0.5 * along.max())[-1])
    share = (along[last] - 0.5 * along.max()) / (along[last] - along[last + 1])
    return float(x[last] + share * (x[last + 1] - x[last]))
