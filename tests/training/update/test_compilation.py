"""Compiled networks: when, what if they cannot be, and that they train alike."""

import json
from types import SimpleNamespace

import pytest
import torch

from medcyclegan.config import Config, parse_config
from medcyclegan.errors import TrainingError
from medcyclegan.networks import build_cyclegan, build_generator
from medcyclegan.training import train
from medcyclegan.training.update.compilation import compile_step, compiling_pays, step_flops
from medcyclegan.training.update.step import CycleGANStep, build_step

CPU = torch.device("cpu")


def config(wish: str, **training) -> Config:
    networks = {"generator": {"filters": 2, "blocks": 1}, "discriminator": {"filters": 2, "layers": 2}}
    return parse_config({"networks": networks, "training": {"compile": wish, "max_steps": 3, **training}}, "test")


def make(values: Config) -> CycleGANStep:
    return build_step(values, build_cyclegan(values.networks, 32, 0), CPU, "fp32")


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


def test_flops_are_those_of_the_published_network() -> None:
    # The generator's 56.83 G multiply-adds at 256 x 256 (see the sums below), six passes, forwards and twice backwards.
    f, pixels = 64, 256 * 256
    macs = 49 * f * pixels * 2 + 9 * 2 * f * f * pixels / 4 * 2 + 9 * 8 * f * f * pixels / 16 * 2
    macs += 18 * 9 * 16 * f * f * pixels / 16
    generator = build_generator(Config().networks.generator, 256)
    assert step_flops(generator, 256, 1, identity=True) == pytest.approx(3 * 6 * 2 * macs, rel=0.1)
    assert step_flops(generator, 256, 4, identity=False) == pytest.approx(3 * 4 * 4 * 2 * macs, rel=0.1)


def test_long_runs_of_large_networks_pay_and_short_ones_do_not() -> None:
    flops = step_flops(build_generator(Config().networks.generator, 256), 256, 1, identity=True)
    assert compiling_pays(flops, 5000, CPU)
    assert not compiling_pays(flops, 100, CPU)
    assert not compiling_pays(flops / 100, 5000, CPU)
    assert compiling_pays(flops, 50_000, torch.device("cuda"))
    assert not compiling_pays(flops, 10_000, torch.device("cuda"))
    assert not compiling_pays(flops, 1_000_000, torch.device("mps")), "nothing is known of it"


@pytest.mark.parametrize("wish", ["off", "auto"])
def test_a_short_run_on_a_cpu_is_eager(wish, monkeypatch) -> None:
    break_the_compiler(monkeypatch)  # not even tried
    step = make(config(wish))
    compile_step(step, plan_of(config(wish)))
    assert not step.compiled


def test_a_missing_compiler_is_said_and_the_run_goes_on_eager(monkeypatch, caplog) -> None:
    break_the_compiler(monkeypatch)
    values = config("auto", max_steps=10**9)
    step = make(values)
    compile_step(step, plan_of(values))
    assert not step.compiled
    assert "not compiled (torch.compile fails with RuntimeError: no working C++ compiler found)" in caplog.text


def test_on_refuses_where_it_cannot_be(monkeypatch) -> None:
    break_the_compiler(monkeypatch)
    with pytest.raises(TrainingError, match=r"training.compile = on: .*no working C\+\+.*training.compile=off"):
        compile_step(make(config("on")), plan_of(config("on")))


# Dynamo looks at the gradient of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_networks_train_alike() -> None:
    eager, compiled = make(config("off")), make(config("on", ema_decay=0.5))
    compile_step(compiled, plan_of(config("on", ema_decay=0.5)))
    assert compiled.compiled
    assert list(compiled.networks.state_dict()) == list(eager.networks.state_dict())
    assert take_steps(compiled) == pytest.approx(take_steps(eager), rel=1e-4)
    with compiled.evaluating() as networks:
        assert networks.G_AB(torch.zeros(2, 1, 48, 32)).shape == (2, 1, 48, 32)


def test_a_run_keeps_whether_it_was_compiled(store, tiny, tmp_path) -> None:
    run = train(store, config=tiny, out=tmp_path / "runs", max_steps=1, device="cpu")
    assert json.loads((run / "run.json").read_text("utf-8"))["sessions"][0]["compiled"] is False
