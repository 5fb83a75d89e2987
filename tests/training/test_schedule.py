"""The learning rate over a training run."""

import itertools

import pytest

from medcyclegan.training.schedule import rate_factor


def test_linear_is_1_in_the_first_half_and_falls_to_0_at_the_end() -> None:
    factors = [rate_factor(step, 200, "linear") for step in range(200)]
    assert factors[:100] == [1.0] * 100
    assert factors[100] == 1.0
    assert factors[150] == pytest.approx(0.5)
    assert factors[199] == pytest.approx(0.01)
    assert all(a - b == pytest.approx(0.01) for a, b in itertools.pairwise(factors[100:]))


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_linear_is_never_0_before_the_end(steps: int) -> None:
    factors = [rate_factor(step, steps, "linear") for step in range(steps)]
    assert factors[0] == 1.0
    assert all(factor > 0 for factor in factors)
    assert factors == sorted(factors, reverse=True)


def test_an_odd_number_of_steps_is_halved_downwards() -> None:
    assert [rate_factor(step, 7, "linear") for step in range(7)] == [1, 1, 1, 1, 0.75, 0.5, 0.25]


def test_constant_stays() -> None:
    assert {rate_factor(step, 10, "constant") for step in range(10)} == {1.0}
