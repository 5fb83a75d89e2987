"""Random numbers and fields: reproducible, independent of each other, of the right size."""

import pytest
import torch

from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.fields import SmoothField


def test_a_stream_depends_on_its_seed_and_name_alone():
    first = [Draws(3, "a").uniform(0, 1) for _ in range(2)]
    assert first[0] == first[1]
    assert len({Draws(3, "a").uniform(0, 1), Draws(3, "b").uniform(0, 1), Draws(4, "a").uniform(0, 1)}) == 3
    torch.manual_seed(7)
    before = torch.get_rng_state()
    Draws(3, "a").noise((5,))
    assert torch.equal(before, torch.get_rng_state()), "the global state is left alone"


def test_numbers_have_the_distributions_that_they_are_asked_for():
    draws = Draws(0)
    uniform = torch.tensor([draws.uniform(2, 4) for _ in range(4000)])
    normal = torch.tensor([draws.normal(5, 2) for _ in range(4000)])
    assert float(uniform.mean()) == pytest.approx(3, abs=0.05)
    assert float(uniform.min()) >= 2
    assert float(uniform.max()) <= 4
    assert float(normal.mean()) == pytest.approx(5, abs=0.15)
    assert float(normal.std()) == pytest.approx(2, rel=0.06)
    assert float((normal - 5).abs().max()) <= 5.0, "at most 2.5 deviations"
    names = [draws.choice([(0.25, "a"), (0.75, "b")]) for _ in range(2000)]
    assert names.count("a") == pytest.approx(500, abs=90)
    assert {draws.integer(1, 3) for _ in range(200)} == {1, 2, 3}
    assert sorted(draws.permutation(9)) == list(range(9))


@pytest.mark.parametrize("knots", [(6.0, 6.0, 6.0), (4.0, 9.0, 15.0)])
def test_a_field_has_unit_variance_and_is_smooth(knots):
    axes = [torch.arange(-90.0, 90.0, 1.5)] * 3
    values = SmoothField(Draws(1), knots, 2).on_grid(axes)
    assert values.shape == (2, 120, 120, 120)
    assert float(values.std()) == pytest.approx(1, abs=0.1)
    assert float(values.mean()) == pytest.approx(0, abs=0.1)
    steps = [float(values.diff(dim=axis + 1).std()) for axis in range(3)]
    for step, knot in zip(steps, knots, strict=True):
        assert step == pytest.approx(1.5 / knot, rel=0.35), "a slope of about one deviation a knot"


def test_a_field_is_a_function_of_place():
    field = SmoothField(Draws(2), (10.0, 12.0, 8.0))
    axes = [torch.arange(-50.0, 50.0, 2.0), torch.arange(-40.0, 40.0, 2.0), torch.arange(-30.0, 30.0, 2.0)]
    whole = field.on_grid(axes)
    part = field.on_grid([axes[0][5:9], axes[1][3:20:2], axes[2][-1:]])
    assert torch.allclose(part, whole[:, 5:9, 3:20:2, -1:], atol=1e-5)


def test_beyond_its_box_a_field_keeps_its_border_values():
    field = SmoothField(Draws(2), (20.0, 20.0, 20.0))
    place = [torch.tensor([0.0])] * 2
    values = field.on_grid([torch.tensor([199.99, 300.0]), *place])[0, :, 0, 0]
    assert float(values[0]) == pytest.approx(float(values[1]), abs=1e-3)
