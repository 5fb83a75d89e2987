"""The losses compared with the paper's equations, calculated by hand."""

import math

import pytest
import torch

from medcyclegan.training.update.losses import cycle_loss, discriminator_loss, generator_loss, identity_loss

REAL = torch.tensor([[2.0, 0.5]])
FAKE = torch.tensor([[-1.0, 1.0]])


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_least_squares_is_section_4() -> None:
    assert generator_loss(FAKE, "lsgan").item() == pytest.approx(((-1 - 1) ** 2 + 0) / 2)
    expected = ((2 - 1) ** 2 + (0.5 - 1) ** 2) / 2 + ((-1) ** 2 + 1**2) / 2
    assert discriminator_loss(REAL, FAKE, "lsgan").item() == pytest.approx(expected)


def test_a_fake_at_minus_one_costs_four() -> None:
    # MONAI's PatchAdversarialLoss puts a leaky ReLU in front: 1.1 for the generator, 0.0025 for the discriminator.
    assert generator_loss(torch.tensor([-1.0]), "lsgan").item() == 4.0
    assert discriminator_loss(torch.tensor([1.0]), torch.tensor([-1.0]), "lsgan").item() == 1.0


def test_log_form_is_equation_1() -> None:
    expected = -(math.log(sigmoid(-1)) + math.log(sigmoid(1))) / 2
    assert generator_loss(FAKE, "log").item() == pytest.approx(expected)
    expected = -(math.log(sigmoid(2)) + math.log(sigmoid(0.5))) / 2
    expected -= (math.log(1 - sigmoid(-1)) + math.log(1 - sigmoid(1))) / 2
    assert discriminator_loss(REAL, FAKE, "log").item() == pytest.approx(expected)


def test_log_form_is_binary_cross_entropy_on_logits_and_stays_finite() -> None:
    bce = torch.nn.BCEWithLogitsLoss()
    expected = bce(REAL, torch.ones_like(REAL)) + bce(FAKE, torch.zeros_like(FAKE))
    torch.testing.assert_close(discriminator_loss(REAL, FAKE, "log"), expected)
    torch.testing.assert_close(generator_loss(FAKE, "log"), bce(FAKE, torch.ones_like(FAKE)))
    assert generator_loss(torch.tensor([-1e4]), "log").item() == 1e4
    assert torch.isfinite(discriminator_loss(torch.tensor([-1e4]), torch.tensor([1e4]), "log"))


def test_the_generators_log_form_does_not_saturate() -> None:
    logits = torch.tensor([-20.0], requires_grad=True)
    generator_loss(logits, "log").backward()
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(-1.0)


def test_cycle_and_identity_are_mean_absolute_differences() -> None:
    real = torch.tensor([[[[0.0, 1.0], [-1.0, 0.5]]]])
    other = torch.tensor([[[[0.5, 1.0], [0.0, 0.0]]]])
    assert cycle_loss(other, real).item() == pytest.approx((0.5 + 0 + 1 + 0.5) / 4)
    assert identity_loss(other, real).item() == pytest.approx(0.5)


@pytest.mark.parametrize("form", ["lsgan", "log"])
def test_means_are_taken_in_float32_and_float64_is_kept(form) -> None:
    logits = torch.randn(1, 1, 30, 30, generator=torch.Generator().manual_seed(0))
    low = generator_loss(logits.bfloat16(), form)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, generator_loss(logits.bfloat16().float(), form))
    assert generator_loss(logits.double(), form).dtype == torch.float64
