"""The structure terms: their invariances, their sensitivity, and the direction of their gradients."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch

from medcyclegan.config import parse_config
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.update.step import CycleGANStep, build_step
from medcyclegan.training.update.structure import (
    gradient_field_loss,
    local_correlation_loss,
    mutual_information_loss,
    structure_loss,
)

FORMS = ("gradient", "lncc", "mutual_information")


def head(shift: int = 0) -> torch.Tensor:
    """Return a bright ring with a grey, textured inside on air, ``(1, 1, 64, 64)``, moved by ``shift`` pixels."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    columns = columns - shift
    radius = torch.hypot(rows - 32, columns - 32)
    image = torch.full((64, 64), -1.0)
    inside = 0.3 * torch.sin(rows / 3) * torch.cos(columns / 4)
    image = torch.where(radius < 24, torch.tensor(0.8), image)
    return torch.where(radius < 20, inside, image)[None, None]


@pytest.mark.parametrize("form", FORMS)
def test_inverted_contrast_costs_nothing_and_lost_structure_does(form) -> None:
    real = head()
    same, inverted = structure_loss(real, real, form), structure_loss(-real, real, form)
    torch.testing.assert_close(inverted, same, rtol=0.02, atol=1e-4)
    for wrong in (head(3), torch.zeros_like(real), torch.rand(real.shape, generator=torch.Generator().manual_seed(0))):
        assert structure_loss(wrong, real, form) > same + 0.1


def test_gradient_fields_by_hand() -> None:
    real = torch.zeros(1, 1, 3, 3)
    real[..., 2] = 1.0  # one step to the right: of the four differences two are 1, the mean gradient is 1/2
    down = real.transpose(2, 3)  # the same downwards
    same = gradient_field_loss(real, real)
    assert same.item() == pytest.approx(0.0, abs=1e-6)
    assert gradient_field_loss(2 * real - 1, real).item() == pytest.approx(0.0, abs=1e-6)
    # Both flat: 0. An edge in one alone: 1 - e^2 / (1 + e^2) with e = 1/2, twice. Two across: 1 - (e^2 / (1 + e^2))^2.
    alone = 1 - 0.25**2 / (1.25 * 0.25)
    assert gradient_field_loss(down, real).item() == pytest.approx((0 + 2 * alone + 1 - (0.25 / 1.25) ** 2) / 4)


def test_the_edge_parameter_is_that_of_each_channel() -> None:
    """A faint slice must not count as noise because another slice or channel of the batch has strong edges."""
    fakes = torch.cat([head(2), 0.01 * head(-1), 0.3 * head(1), 0.05 * head()]).reshape(2, 2, 64, 64)
    reals = torch.cat([head(), 0.02 * head(), -head(1), 0.5 * head(3)]).reshape(2, 2, 64, 64)
    each = [
        gradient_field_loss(fakes[n : n + 1, c : c + 1], reals[n : n + 1, c : c + 1]) for n in (0, 1) for c in (0, 1)
    ]
    torch.testing.assert_close(gradient_field_loss(fakes, reals), torch.stack(each).mean())


def test_the_border_of_an_image_is_no_structure_to_the_local_correlation() -> None:
    """MONAI pads with 0, which must be air: wider margins of air add only flat windows."""
    fake, real = head(2)[..., 2:62, 2:62], head()[..., 2:62, 2:62]
    margin = (10, 10, 10, 10)
    wider = [torch.nn.functional.pad(image, margin, value=-1.0) for image in (fake, real)]
    sums = [local_correlation_loss(*images) * images[0].numel() for images in ((fake, real), wider)]
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-4, atol=0)
    assert -sums[0] > 100


def test_the_mutual_information_of_three_values_is_the_logarithm_of_three() -> None:
    """All of [-1, 1] is covered: -1, 0 and 1 are three different grey levels."""
    values = torch.tensor([-1.0, 0.0, 1.0]).repeat(3)
    same = values.reshape(1, 1, 3, 3)
    assert mutual_information_loss(same, same).item() == pytest.approx(-math.log(3), abs=1e-3)
    assert mutual_information_loss(same, -same).item() == pytest.approx(-math.log(3), abs=1e-3)
    assert mutual_information_loss(same, same.transpose(2, 3)).item() == pytest.approx(0.0, abs=1e-3), "independent"


def test_signal_in_the_air_costs_something() -> None:
    real = head()
    halo = real.clone()
    halo[..., 28:36, 60:63] = 0.0
    assert gradient_field_loss(halo, real) > gradient_field_loss(real, real) + 0.005


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_on_air_and_on_flat_images(form) -> None:
    for value in (-1.0, 0.3, 1.0):
        flat = torch.full((1, 1, 64, 64), value, requires_grad=True)
        loss = structure_loss(flat, head(), form)
        assert torch.isfinite(loss)
        loss.backward()
        assert flat.grad is not None
        assert flat.grad.abs().max() < 0.1
        air = torch.full((1, 1, 64, 64), -1.0, requires_grad=True)
        structure_loss(air, torch.full_like(air, value), form).backward()
        assert air.grad is not None
        assert air.grad.abs().max() < 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_descending_puts_structure_back(form) -> None:
    real = head()
    fake = (-0.5 * real + 0.3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))).clamp(-0.9, 0.9)
    values = torch.atanh(fake).requires_grad_()
    optimizer = torch.optim.Adam([values], lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = structure_loss(torch.tanh(values), real, form)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("form", FORMS)
def test_it_is_computed_in_full_precision_under_autocast(form) -> None:
    fake, real = head(2), head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = structure_loss(fake, real, form)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, structure_loss(fake, real, form))
    assert structure_loss(fake.double(), real.double(), form).dtype == torch.float64


def make(losses: dict, **training) -> CycleGANStep:
    networks = {"generator": {"filters": 2, "blocks": 1}, "discriminator": {"filters": 2, "layers": 2}}
    config = parse_config({"networks": networks, "losses": losses, "training": training}, "test")
    return build_step(config, build_cyclegan(config.networks, 32, 0), torch.device("cpu"), "fp32")


def one_step(step: CycleGANStep) -> dict[str, torch.Tensor]:
    real = (head()[..., 16:48, 16:48], -head(3)[..., 16:48, 16:48])
    return step(SimpleNamespace(state=SimpleNamespace(iteration=1)), real)


@pytest.mark.parametrize("form", FORMS)
def test_the_step_adds_it_with_its_weight(form) -> None:
    without, with_it = make({}), make({"structure": form, "structure_weight": 3.0})
    before, after = one_step(without), one_step(with_it)
    assert set(after) - set(before) == {"structure_AB", "structure_BA"}
    added = 3.0 * (after["structure_AB"] + after["structure_BA"])
    torch.testing.assert_close(after["generators"], before["generators"] + added)
    assert set(one_step(make({"structure": form, "structure_weight": 0.0}))) == set(before)


@pytest.mark.parametrize("form", FORMS)
def test_each_fake_is_compared_with_its_own_input(form) -> None:
    step = make({"structure": form})
    n = copy.deepcopy(step.networks)
    real_A, real_B = head()[..., 16:48, 16:48], -head(3)[..., 16:48, 16:48]
    losses = one_step(step)
    with torch.no_grad():
        fake_B, fake_A = n.G_AB(real_A), n.G_BA(real_B)
    expected = {
        (fake, real): structure_loss({"A": fake_A, "B": fake_B}[fake], {"A": real_A, "B": real_B}[real], form)
        for fake in "AB"
        for real in "AB"
    }
    torch.testing.assert_close(losses["structure_AB"], expected["B", "A"])
    torch.testing.assert_close(losses["structure_BA"], expected["A", "B"])
    values = [float(value) for value in expected.values()]
    assert len({round(value, 4) for value in values}) == 4, "the four comparisons can be distinguished"


def test_gradients_are_clipped_for_generators_and_discriminators_apart() -> None:
    def norms(step: CycleGANStep) -> list[float]:
        one_step(step)
        groups = (step.networks.generator_parameters(), step.networks.discriminator_parameters())
        return [float(torch.cat([p.grad.flatten() for p in group]).norm()) for group in groups]

    free = norms(make({}))
    assert min(free) > 1e-3
    assert norms(make({}, gradient_clip=1e-3)) == pytest.approx([1e-3, 1e-3], rel=0.01)
    assert norms(make({}, gradient_clip=2 * max(free))) == pytest.approx(free)
