"""What only a CUDA device shows: its number formats, compiled networks, slices in its memory, no waiting for it."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from medcyclegan.config import Config, parse_config
from medcyclegan.networks import build_cyclegan
from medcyclegan.training import train
from medcyclegan.training.precision import choose_precision
from medcyclegan.training.step import CycleGANStep, build_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def make(precision: str, device: str = "cuda") -> CycleGANStep:
    networks = {"generator": {"filters": 8, "blocks": 1}, "discriminator": {"filters": 8, "layers": 2}}
    config = parse_config({"networks": networks, "losses": {"structure": "gradient"}}, "test")
    where = torch.device(device)
    return build_step(config, build_cyclegan(config.networks, 64, 0).to(where), where, precision)


def losses_of(step: CycleGANStep, steps: int = 10) -> list[float]:
    losses = []
    for number in range(steps):
        random = torch.Generator().manual_seed(number)
        batch = tuple(torch.rand(2, 1, 64, 64, generator=random) * 2 - 1 for _ in range(2))
        losses.append(step(SimpleNamespace(state=SimpleNamespace(iteration=number + 1)), batch)["generators"])
    return [loss.item() for loss in losses]


def with_training(config: Config, **training) -> Config:
    values = config.model_dump(mode="json")
    values["training"].update(training)
    return parse_config(values, "test")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_number_format_follows_the_cpu(precision) -> None:
    if precision == "bf16" and torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("this device has no bf16")
    expected = losses_of(make("fp32", "cpu"))
    assert losses_of(make(precision)) == pytest.approx(expected, rel=0.001 if precision == "fp32" else 0.03)


def test_the_fp16_scaler_leaves_out_a_step_that_overflows_and_goes_on() -> None:
    step = make("fp16")
    step.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    before = [p.detach().clone() for p in step.networks.generator_parameters()]
    losses_of(step, 1)
    assert step.scaler.get_scale() < 2.0**40
    assert all(torch.equal(a, b) for a, b in zip(before, step.networks.generator_parameters(), strict=True))
    assert all(math.isfinite(loss) for loss in losses_of(step, 40))
    assert all(torch.isfinite(p).all() for p in step.networks.parameters())


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_step_never_waits_for_the_device(precision) -> None:
    step = make(choose_precision(precision, torch.device("cuda")))
    losses_of(step, 3)  # past the first allocations and the optimisers' state
    random = torch.Generator().manual_seed(9)
    batch = tuple((torch.rand(2, 1, 64, 64, generator=random) * 2 - 1).pin_memory() for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(SimpleNamespace(state=SimpleNamespace(iteration=4)), batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_compiled_networks_train_alike(store, tiny, tmp_path) -> None:
    rows = {}
    for wish in ("off", "auto"):
        config = with_training(tiny, compile=wish, max_steps=8, ema_decay=None)
        config = config.model_copy(update={"networks": Config().networks.model_copy(deep=True)})
        run = train(store, config=config, out=tmp_path / wish, device="cuda")
        assert json.loads((run / "run.json").read_text("utf-8"))["sessions"][0]["compiled"] is (wish == "auto")
        text = (run / "metrics.jsonl").read_text("utf-8").splitlines()
        rows[wish] = [row["generators"] for row in map(json.loads, text) if "generators" in row]
    assert rows["auto"] == pytest.approx(rows["off"], rel=0.01)


def test_slices_in_the_devices_memory_train_alike(store, tiny, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    rows = {}
    for wish in ("off", "auto"):
        config = with_training(tiny, slices_on_device=wish, compile="off", max_steps=8)
        run = train(store, config=config, out=tmp_path / wish, device="cuda")
        text = (run / "metrics.jsonl").read_text("utf-8").splitlines()
        rows[wish] = [row["cycle_A"] for row in map(json.loads, text) if "cycle_A" in row]
    assert "the slices lie in the memory of cuda" in caplog.text
    assert rows["auto"] == pytest.approx(rows["off"], rel=0.001)
