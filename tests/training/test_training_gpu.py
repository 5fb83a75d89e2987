"""Tests that need a CUDA device: number formats, compiled networks, CUDA graphs, slices in its memory."""

import json
import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from support.run_folders import with_training

from medcyclegan.config import parse_config
from medcyclegan.errors import TrainingError
from medcyclegan.networks import build_cyclegan
from medcyclegan.training import train
from medcyclegan.training.run.checkpoint import restore_step, step_state
from medcyclegan.training.update.compilation import compile_networks
from medcyclegan.training.update.cuda_graphs import CapturedFunction
from medcyclegan.training.update.precision import choose_precision
from medcyclegan.training.update.step import CycleGANStep, build_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


NETWORKS = {"generator": {"filters": 8, "blocks": 1}, "discriminator": {"filters": 8, "layers": 2}}


def make(precision: str, device: str = "cuda", graphs: str = "off", **changes) -> CycleGANStep:
    values = {"networks": NETWORKS, "losses": {"structure": "gradient"}} | changes
    training = {"batch_size": 2, "pool_size": 4, "compile": "off", **values.get("training", {})}
    values["training"] = training | {"cuda_graphs": graphs}
    config, where = parse_config(values, "test"), torch.device(device)
    networks = build_cyclegan(config.networks, 64, 0).to(where)
    compiled = compile_networks(networks, SimpleNamespace(config=config, size=64, steps=1), where)
    return build_step(config, networks, where, precision, compiled=compiled)


def losses_of(step: CycleGANStep, steps: int = 10, first: int = 0) -> list[float]:
    losses = []
    for number in range(first, first + steps):
        random = torch.Generator().manual_seed(number)
        batch = tuple(torch.rand(2, 1, 64, 64, generator=random) * 2 - 1 for _ in range(2))
        losses.append(step(SimpleNamespace(state=SimpleNamespace(iteration=number + 1)), batch)["generators"])
    return [loss.item() for loss in losses]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_number_format_follows_the_cpu(precision) -> None:
    if precision == "bf16" and torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("this device has no bf16")
    expected = losses_of(make("fp32", "cpu"))
    assert losses_of(make(precision)) == pytest.approx(expected, rel=0.001 if precision == "fp32" else 0.03)


def test_the_fp16_scaler_skips_a_step_that_overflows_and_continues() -> None:
    step = make("fp16")
    step.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    before = [p.detach().clone() for p in step.networks.generator_parameters()]
    losses_of(step, 1)
    assert step.scaler.get_scale() < 2.0**40
    assert all(torch.equal(a, b) for a, b in zip(before, step.networks.generator_parameters(), strict=True))
    assert all(math.isfinite(loss) for loss in losses_of(step, 40))
    assert all(torch.isfinite(p).all() for p in step.networks.parameters())


@pytest.mark.parametrize("graphs", ["off", "on"])
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_step_never_waits_for_the_device(precision, graphs) -> None:
    step = make(choose_precision(precision, torch.device("cuda")), graphs=graphs)
    losses_of(step, 5)  # past the first allocations, the optimizers' state and the capture
    random = torch.Generator().manual_seed(9)
    batch = tuple((torch.rand(2, 1, 64, 64, generator=random) * 2 - 1).pin_memory() for _ in range(2))
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        step(SimpleNamespace(state=SimpleNamespace(iteration=6)), batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"networks": {"generator": {"kind": "unet", "filters": 8, "dropout": 0.0}, "discriminator": {"filters": 8}}},
        {"networks": {"generator": {"kind": "subpixel_unet", "filters": 8}, "discriminator": {"filters": 8}}},
        {"networks": {"generator": {"filters": 8, "blocks": 1, "upsampling": "resize"}}},
        {"networks": {"generator": {"filters": 8, "blocks": 1}, "discriminator": {"kind": "classifier", "filters": 8}}},
        {"losses": {"adversarial": "log", "identity_weight": 0.0, "structure": "lncc"}},
        {"losses": {"structure": "mutual_information"}},
        {"training": {"gradient_clip": 0.5, "ema_decay": 0.9}},
    ],
    ids=["default", "unet", "subpixel unet", "resize", "classifier", "log, lncc", "mutual information", "clip, ema"],
)
def test_a_captured_step_follows_an_eager_one(changes) -> None:
    start, eager, again, captured = (make("fp32", graphs=graphs, **changes) for graphs in ("off", "off", "off", "on"))
    # Replays that updated nothing would be off by 0.01 and more in the losses, and by 0.15 in the weights' change.
    expected = losses_of(eager, 12)
    assert losses_of(captured, 12) == pytest.approx(expected, rel=0.004)
    assert captured.captured
    losses_of(again, 12)
    for model in ("networks", "model"):
        ways = []
        for step in (eager, again, captured):
            pairs = zip(getattr(step, model).parameters(), start.networks.parameters(), strict=True)
            ways.append(torch.cat([(p - q).detach().flatten() for p, q in pairs]))
        # Adam amplifies rounding where the gradient is nearly 0: two eager steps differ, too.
        usual = torch.cosine_similarity(ways[0], ways[1], dim=0)
        assert torch.cosine_similarity(ways[0], ways[2], dim=0) > min(0.93, usual - 0.1)


def test_a_step_that_cannot_be_captured_is_an_error_with_its_remedy() -> None:
    step = make("fp32", graphs="auto")
    update = step.update_generators

    def waiting(*images):
        images[0].sum().item()
        return update(*images)

    step._generators_update = CapturedFunction(waiting, step.device)
    with pytest.raises(TrainingError, match=r"the step cannot be captured .*: set training.cuda_graphs=off"):
        losses_of(step)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


def test_a_step_without_memory_for_graphs_stays_eager(monkeypatch, caplog) -> None:
    step, eager = make("fp32", graphs="auto"), make("fp32")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (0, 2**30))
    assert losses_of(step) == pytest.approx(losses_of(eager), rel=0.004)
    assert "no CUDA graphs are used (" in caplog.text
    assert not step.captured
    with pytest.raises(TrainingError, match=r"cuda_graphs = on: too little memory on cuda .*: set it to auto or off"):
        losses_of(make("fp32", graphs="on"))


def test_a_replayed_step_obeys_the_learning_rate_and_is_not_disturbed_by_a_look() -> None:
    step, eager = make("fp32", graphs="on"), make("fp32")
    losses_of(eager, 6)
    losses_of(step, 6)
    with step.evaluating() as networks:
        networks.G_AB(torch.zeros(1, 1, 96, 96, device="cuda"))
    assert losses_of(step, 4, first=6) == pytest.approx(losses_of(eager, 4, first=6), rel=0.01)
    for optimizer in (step.optimizer_G, step.optimizer_D):
        optimizer.param_groups[0]["lr"].fill_(0.0)
    before = [p.detach().clone() for p in step.networks.parameters()]
    losses_of(step, 2, first=10)
    assert all(torch.equal(a, b) for a, b in zip(before, step.networks.parameters(), strict=True))


def test_dropout_differs_from_replay_to_replay() -> None:
    generator = {"kind": "unet", "filters": 8, "dropout": 0.5}
    step = make("fp32", graphs="on", networks=NETWORKS | {"generator": generator})
    losses_of(step, 5)
    for optimizer in (step.optimizer_G, step.optimizer_D):
        optimizer.param_groups[0]["lr"].fill_(0.0)
    same = [losses_of(step, 1)[0] for _ in range(3)]
    assert len(set(same)) == 3


@pytest.mark.parametrize(("before", "after"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_a_step_continues_on_another_device(before, after) -> None:
    first, unbroken = make("fp32", before, "auto"), make("fp32", before, "auto")
    losses_of(first, 5)
    expected = losses_of(unbroken, 10)[5:]
    resumed = make("fp32", after, "auto")
    restore_step(resumed, step_state(first))
    assert losses_of(resumed, 5, first=5) == pytest.approx(expected, rel=0.01)
    (group,) = resumed.optimizer_G.param_groups
    assert isinstance(group["lr"], torch.Tensor) is (after == "cuda")


# Warnings from torch's compiler itself; they are harmless.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("graphs", ["off", "on"])
def test_compiled_networks_train_alike(graphs) -> None:
    eager, compiled = make("fp32"), make("fp32", graphs=graphs, training={"compile": "on"})
    assert compiled.compiled
    assert losses_of(compiled, 6) == pytest.approx(losses_of(eager, 6), rel=0.01)
    assert compiled.captured is (graphs == "on")


def test_slices_in_the_devices_memory_train_alike(store, tiny, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    rows = {}
    for wish in ("off", "auto"):
        config = with_training(tiny, slices_on_device=wish, compile="off", max_steps=8)
        run = train(store, config=config, out=tmp_path / wish, device="cuda")
        text = (run / "metrics.jsonl").read_text("utf-8").splitlines()
        rows[wish] = [row["cycle_A"] for row in map(json.loads, text) if "cycle_A" in row]
        assert json.loads((run / "run.json").read_text("utf-8"))["sessions"][0]["cuda_graphs"]
    assert "the slices are kept in the memory of cuda" in caplog.text
    assert rows["auto"] == pytest.approx(rows["off"], rel=0.001)
