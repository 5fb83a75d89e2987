"""The step of a site with one domain: its terms are those of the whole step that need only that domain."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from medcyclegan.config import Config, parse_config
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.update.one_domain_step import OnlyAStep, OnlyBStep
from medcyclegan.training.update.step import CycleGANStep, build_step

CPU = torch.device("cpu")
LOSSES = {"identity_weight": 2.0, "structure": "gradient", "structure_weight": 0.5, "mask_weight": 3.0}


def settings(**discriminator) -> Config:
    networks = {"generator": {"filters": 4, "blocks": 1}, "discriminator": {"filters": 4, "layers": 2, **discriminator}}
    values = {"networks": networks, "losses": LOSSES, "training": {"learning_rate": 1e-3, "pool_size": 0}}
    return parse_config(values, "test")


def make(kind: type[CycleGANStep], config: Config | None = None) -> CycleGANStep:
    config = config or settings()
    return build_step(config, build_cyclegan(config.networks, 32, seed=0), CPU, "fp64", kind=kind)


def double(step: CycleGANStep) -> CycleGANStep:
    step.networks.double()
    return step


def slices() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, 1, 32, 32, generator=random, dtype=torch.float64) * 2 - 1 for _ in "AB")  # type: ignore[return-value]


def engine() -> SimpleNamespace:
    return SimpleNamespace(state=SimpleNamespace(iteration=1))


def gradients(step: CycleGANStep, *images: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    step.optimizer_G = torch.optim.SGD(step.networks.generator_parameters(), lr=0.0)
    *_, losses = step.update_generators(*images)
    flat = torch.cat([p.grad.flatten() for p in step.networks.generator_parameters()])
    return flat, {name: float(value) for name, value in losses.items()}


def test_the_generators_loss_is_a_sum_of_both_sites_losses() -> None:
    real_A, real_B = slices()
    whole, of_whole = gradients(double(make(CycleGANStep)), real_A, real_B)
    at_A, of_A = gradients(double(make(OnlyAStep)), real_A)
    at_B, of_B = gradients(double(make(OnlyBStep)), real_B)
    assert torch.allclose(whole, at_A + at_B, rtol=1e-9, atol=1e-12)
    assert of_A["generators"] + of_B["generators"] == pytest.approx(of_whole["generators"])
    terms = {name: value for name, value in of_whole.items() if name != "generators"}
    assert {**of_A, **of_B, "generators": 0.0} == pytest.approx({**terms, "generators": 0.0})
    assert not of_A.keys() & of_B.keys() - {"generators"}


def test_the_discriminators_loss_is_a_sum_of_both_sites_losses() -> None:
    def of(kind: type[CycleGANStep], *images: torch.Tensor) -> tuple[torch.Tensor, float]:
        step = double(make(kind))
        step.optimizer_D = torch.optim.SGD(step.networks.discriminator_parameters(), lr=0.0)
        losses = step.update_discriminators(*images)
        return torch.cat([p.grad.flatten() for p in step.networks.discriminator_parameters()]), sum(losses.values())

    real_A, real_B = slices()
    networks = double(make(CycleGANStep)).networks
    with torch.no_grad():
        fake_A, fake_B = networks.G_BA(real_B), networks.G_AB(real_A)
    whole, loss = of(CycleGANStep, real_A, real_B, fake_A, fake_B)
    at_A, loss_A = of(OnlyAStep, real_A, fake_B)
    at_B, loss_B = of(OnlyBStep, real_B, fake_A)
    assert torch.allclose(whole, at_A + at_B, rtol=1e-9, atol=1e-12)
    assert float(loss) == pytest.approx(float(loss_A + loss_B))


@pytest.mark.parametrize(("kind", "own", "other"), [(OnlyAStep, "A", "B"), (OnlyBStep, "B", "A")])
def test_all_networks_learn_and_the_terms_are_those_of_the_domain(kind, own, other) -> None:
    step = double(make(kind))
    before = {name: value.clone() for name, value in step.networks.state_dict().items()}
    losses = step(engine(), (slices()[0],))
    after = step.networks.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"G_AB", "G_BA", "D_A", "D_B"}
    assert set(losses) == {
        *("generators", f"adversarial_{own}{other}", f"cycle_{own}", f"identity_{own}"),
        *(f"structure_{own}{other}", f"mask_{own}{other}", "discriminator_A", "discriminator_B"),
    }


@pytest.mark.parametrize(("kind", "own", "other"), [(OnlyAStep, "A", "B"), (OnlyBStep, "B", "A")])
def test_each_discriminator_sees_its_real_images_or_its_fakes(kind, own, other) -> None:
    step = double(make(kind))
    real = slices()[0]
    with torch.no_grad():
        fake = getattr(step.networks, f"G_{own}{other}")(real)
    shown = {}
    for letter in "AB":
        network = getattr(step.networks, f"D_{letter}")
        network.register_forward_pre_hook(lambda _, inputs, letter=letter: shown.update({letter: inputs[0].detach()}))
    step(engine(), (real,))
    assert torch.equal(shown[own], real)
    assert torch.allclose(shown[other], fake)


def test_warps_reach_what_both_discriminators_see() -> None:
    def logged(augmentation: float) -> dict[str, float]:
        step = double(make(OnlyBStep, settings(augmentation=augmentation)))
        return {name: float(value) for name, value in step(engine(), (slices()[1],)).items()}

    plain, warped = logged(0.0), logged(1.0)
    differing = {name for name, value in plain.items() if value != pytest.approx(warped[name])}
    assert differing == {"generators", "adversarial_BA", "discriminator_A", "discriminator_B"}


def test_a_long_site_run_lowers_its_loss() -> None:
    step = double(make(OnlyAStep))
    losses = [step(engine(), (slices()[0],)) for _ in itertools.repeat(None, 12)]
    assert float(losses[-1]["cycle_A"]) < float(losses[0]["cycle_A"])
