"""Our instance normalization equals torch's."""

import pytest
import torch

from medcyclegan.networks import InstanceNorm


def test_it_is_the_same_function_and_has_the_same_gradient() -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 3, 5, 7, dtype=torch.float64) * 4 + 10).requires_grad_()
    weight = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    ours, theirs = InstanceNorm(3)(x), torch.nn.InstanceNorm2d(3)(x)
    torch.testing.assert_close(ours, theirs)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), x)
    (expected,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_it_has_no_parameters_and_no_state() -> None:
    assert InstanceNorm(3).state_dict() == {}


def test_one_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1"):
        InstanceNorm(3)(torch.zeros(1, 3, 1, 1))
