"""Compiled networks: when they are compiled, what happens if that fails, and that they train equally."""

import json
from types import SimpleNamespace

import pytest
import torch

from medcyclegan.config import Config, parse_config
from medcyclegan.errors import TrainingError
from medcyclegan.networks import CycleGAN, build_cyclegan
from medcyclegan.training import train
from medcyclegan.training.update.compilation import compile_networks, compiling_pays
from medcyclegan.training.update.step import CycleGANStep, build_step

CPU = torch.device("cpu")


def config(wish: str, **training) -> Config:
    networks = {"generator": {"filters": 2, "blocks": 1}, "discriminator": {"filters": 2, "layers": 2}}
    return parse_config({"networks": networks, "training": {"compile": wish, "max_steps": 3, **training}}, "test")


def networks_of(values: Config) -> CycleGAN:
    return build_cyclegan(values.networks, 32, 0)


def make(values: Config) -> CycleGANStep:
    networks = networks_of(values)
    compiled = compile_networks(networks, plan_of(values), CPU)
    return build_step(values, networks, CPU, "fp32", compiled=compiled)


def plan_of(values: Config) -> SimpleNamespace:
    return SimpleNamespace(config=values, size=32, steps=values.training.max_steps)


def take_steps(step: CycleGANStep) -> list[float]:
    losses = []
    for number in range(3):
        random = torch.Generator().manual_seed(number)
        batch = tuple(torch.rand(1, 1, 32, 32, generator=random) * 2 - 1 for _ in range(2))
        losses.append(step(SimpleNamespace(state=SimpleNamespace(iteration=number + 1)), batch)["generators"].item())
    return losses


def break_the_compiler(monkeypatch) -> None:
    def fail(*_args, **_kwargs):
        raise RuntimeError("no working C++ compiler found\nin many lines")

    monkeypatch.setattr(torch, "compile", fail)


def test_long_runs_of_large_networks_are_compiled_and_others_are_not() -> None:
    def pays(steps: int, device: str, *, filters: int = 64, size: int = 256, batch_size: int = 1) -> bool:
        values = parse_config(
            {"networks": {"generator": {"filters": filters}}, "training": {"batch_size": batch_size}}, "test"
        )
        return compiling_pays(SimpleNamespace(config=values, size=size, steps=steps), torch.device(device))

    assert pays(1000, "cpu")
    assert not pays(999, "cpu")
    assert pays(500, "cpu", batch_size=2)
    assert not pays(3999, "cpu", size=128), "a quarter of the pixels counts a quarter"
    assert pays(4000, "cpu", size=128)
    assert pays(1000, "cpu", filters=32)
    assert not pays(10**6, "cpu", filters=31)
    assert pays(30_000, "cuda")
    assert not pays(29_999, "cuda")
    assert not pays(10**9, "mps"), "no measurement exists for it"


@pytest.mark.parametrize("wish", ["off", "auto"])
def test_a_short_run_on_a_cpu_is_eager(wish, monkeypatch) -> None:
    break_the_compiler(monkeypatch)  # not even tried
    assert not compile_networks(networks_of(config(wish)), plan_of(config(wish)), CPU)


def test_without_a_compiler_the_run_is_eager_and_a_warning_is_logged(monkeypatch, caplog) -> None:
    break_the_compiler(monkeypatch)
    values = parse_config({"training": {"compile": "auto", "max_steps": 10**9}}, "test")
    networks = networks_of(config("auto"))
    assert not compile_networks(networks, SimpleNamespace(config=values, size=256, steps=10**9), CPU)
    assert "not compiled (torch.compile fails with RuntimeError: no working C++ compiler found)" in caplog.text


def test_on_refuses_if_compiling_fails(monkeypatch) -> None:
    break_the_compiler(monkeypatch)
    with pytest.raises(TrainingError, match=r"training.compile = on: .*no working C\+\+.*training.compile=off"):
        make(config("on"))


# Dynamo reads the gradient of tensors that are not leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_networks_train_alike() -> None:
    eager, compiled = make(config("off")), make(config("on", ema_decay=0.5))
    assert compiled.compiled
    assert list(compiled.networks.state_dict()) == list(eager.networks.state_dict())
    assert take_steps(compiled) == pytest.approx(take_steps(eager), rel=1e-4)
    with compiled.evaluating() as networks:
        assert networks.G_AB(torch.zeros(2, 1, 48, 32)).shape == (2, 1, 48, 32)


def test_a_run_keeps_whether_it_was_compiled(store, tiny, tmp_path) -> None:
    run = train(store, config=tiny, out=tmp_path / "runs", max_steps=1, device="cpu")
    assert json.loads((run / "run.json").read_text("utf-8"))["sessions"][0]["compiled"] is False
