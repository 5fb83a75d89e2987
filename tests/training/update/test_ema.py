"""The running mean of the generators: its values, where it is used, and that it does not affect training."""

from types import SimpleNamespace

import pytest
import torch

from medcyclegan.config import Config, parse_config
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.run.checkpoint import restore_step, step_state
from medcyclegan.training.update.ema import decay_at
from medcyclegan.training.update.step import CycleGANStep, build_step

CPU = torch.device("cpu")


def config(ema_decay: float | None) -> Config:
    networks = {"generator": {"filters": 2, "blocks": 1}, "discriminator": {"filters": 2, "layers": 2}}
    return parse_config({"networks": networks, "training": {"learning_rate": 1e-2, "ema_decay": ema_decay}}, "test")


def make(ema_decay: float | None = 0.5, seed: int = 0) -> CycleGANStep:
    return build_step(config(ema_decay), build_cyclegan(config(ema_decay).networks, 32, seed), CPU, "fp32")


def run(step: CycleGANStep, first: int, end: int) -> list[list[torch.Tensor]]:
    """Take the steps from ``first`` to ``end`` and return the generators' weights after each."""
    weights = []
    for number in range(first, end):
        random = torch.Generator().manual_seed(number)
        real_A, real_B = (torch.rand(1, 1, 32, 32, generator=random) * 2 - 1 for _ in range(2))
        step(SimpleNamespace(state=SimpleNamespace(iteration=number + 1)), (real_A, real_B))
        weights.append([p.detach().clone() for p in step.networks.generator_parameters()])
    return weights


def test_the_decay_grows_to_what_is_set() -> None:
    assert [decay_at(step, 0.999) for step in (0, 2, 90)] == [0.1, 0.25, 0.91]
    assert decay_at(10**6, 0.999) == 0.999
    assert decay_at(100, 0.5) == 0.5


def test_the_means_are_those_of_the_weights() -> None:
    step = make(0.3)
    mean = [p.detach().clone() for p in step.networks.generator_parameters()]
    for number, weights in enumerate(run(step, 0, 6)):
        decay = min(0.3, (1 + number) / (10 + number))
        mean = [decay * m + (1 - decay) * w for m, w in zip(mean, weights, strict=True)]
    assert step.averages is not None
    for ours, expected in zip(step.averages.networks.generator_parameters(), mean, strict=True):
        torch.testing.assert_close(ours, expected)
        assert not ours.requires_grad


def test_averaging_changes_nothing_in_the_training() -> None:
    plain, averaged = make(None), make(0.9)
    run(plain, 0, 3)
    run(averaged, 0, 3)
    assert plain.averages is None
    assert plain.model is plain.networks
    for a, b in zip(plain.networks.parameters(), averaged.networks.parameters(), strict=True):
        assert torch.equal(a, b)


def test_evaluation_uses_the_means_and_the_trained_discriminators() -> None:
    step = make(0.9)
    run(step, 0, 3)
    assert step.averages is not None
    with step.evaluating() as networks:
        assert networks is step.averages.networks
        assert networks.D_A is step.networks.D_A
        assert networks.D_B is step.networks.D_B
        assert not any(module.training for module in networks.modules())
        seen = networks.G_AB(torch.zeros(1, 1, 32, 32))
        trained = step.networks.G_AB(torch.zeros(1, 1, 32, 32))
    assert not torch.equal(seen, trained)
    assert step.networks.G_AB.training
    assert step.networks.D_A.training


@pytest.mark.parametrize("lost", [1, 3])
def test_the_means_come_back_to_the_bit(lost: int) -> None:
    whole, broken = make(0.9), make(0.9)
    run(whole, 0, 5)
    run(broken, 0, lost)
    state = step_state(broken)
    resumed = make(0.9, seed=7)
    restore_step(resumed, state)
    run(resumed, lost, 5)
    assert whole.averages is not None
    assert resumed.averages is not None
    theirs = whole.averages.networks.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in resumed.averages.networks.state_dict().items())
