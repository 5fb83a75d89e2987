import numpy as np
import pytest

from medcyclegan.metrics.familiarity import Familiarity, _distribution


def describe(random, shift=0.0):
    """Return two groups: correlated numbers, and a constant one with noise."""
    common = random.normal()
    first = np.array([common + 0.1 * random.normal(), 2 * common + 0.1 * random.normal()], np.float32)
    return [first + np.float32(shift), np.array([5.0, random.normal(0, 0.2), 1.0], np.float32)]


def test_known_cases_are_familiar_and_others_are_not():
    random = np.random.default_rng(0)
    known = Familiarity.fit([describe(random) for _ in range(60)])
    p_values = [known.p_value(describe(random)) for _ in range(400)]
    assert np.mean([p <= 0.1 for p in p_values]) == pytest.approx(0.1, abs=0.05)
    against_correlation = [np.array([1.0, -2.0], np.float32), np.array([5.0, 0.0, 1.0], np.float32)]
    assert known.p_value(against_correlation) == pytest.approx(1 / 61)
    assert known.distance(against_correlation) > 1.5 * known.distances[-1]


def test_one_odd_group_is_enough():
    random = np.random.default_rng(1)
    known = Familiarity.fit([describe(random) for _ in range(40)])
    usual, odd = describe(random), describe(random)
    odd[1] = odd[1] + np.float32(2.0)
    assert known.distance(odd) == pytest.approx(3 / np.sqrt(2), abs=0.2), "3, the most of a group"
    assert known.distance(usual) < 1.5


def test_a_constant_group_does_not_make_small_differences_large():
    constant = [[np.array([1.0, 1.0], np.float32), np.array([float(n)], np.float32)] for n in range(20)]
    known = Familiarity.fit(constant)
    assert known.distance([np.array([1.002, 1.0], np.float32), np.array([10.0], np.float32)]) < 2


@pytest.mark.parametrize(("count", "correlated", "bounds"), [(4, 0, (0.9, 1.0)), (4000, 1, (0.0, 0.01))])
def test_the_covariance_is_shrunk_as_far_as_few_cases_demand(count, correlated, bounds):
    """Shrinking by a share moves the eigenvalues that much closer to each other."""
    random = np.random.default_rng(1)
    group = random.normal(size=(count, 2)) + 2.0 * correlated * random.normal(size=(count, 1))
    mean, deviation, whitening = _distribution(group)
    standard = (group - mean) / deviation
    before = np.ptp(np.linalg.eigvalsh(standard.T @ standard / count))
    after = np.ptp(1 / (whitening**2).sum(axis=0))
    assert bounds[0] <= 1 - after / before <= bounds[1]
