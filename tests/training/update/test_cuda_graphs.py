"""Captured steps (CUDA graphs), as far as they can be tested without a CUDA device."""

import contextlib
import gc
from types import SimpleNamespace

import pytest
import torch

from medcyclegan.config import parse_config
from medcyclegan.errors import TrainingError
from medcyclegan.networks import build_cyclegan
from medcyclegan.training import train
from medcyclegan.training.run.checkpoint import restore_step, step_state
from medcyclegan.training.schedule import LearningRate
from medcyclegan.training.update.cuda_graphs import CapturedFunction
from medcyclegan.training.update.step import CycleGANStep, build_step

CPU = torch.device("cpu")


def make(graphs: str = "auto") -> CycleGANStep:
    networks = {"generator": {"filters": 2, "blocks": 1}, "discriminator": {"filters": 2, "layers": 2}}
    config = parse_config({"networks": networks, "training": {"cuda_graphs": graphs, "max_steps": 10}}, "test")
    return build_step(config, build_cyclegan(config.networks, 32, 0), CPU, "fp32")


def take_step(step: CycleGANStep, number: int) -> dict[str, float]:
    random = torch.Generator().manual_seed(number)
    batch = tuple(torch.rand(1, 1, 32, 32, generator=random) * 2 - 1 for _ in range(2))
    losses = step(SimpleNamespace(state=SimpleNamespace(iteration=number + 1)), batch)
    return {name: loss.item() for name, loss in losses.items()}


@pytest.mark.parametrize("wish", ["auto", "off"])
def test_on_a_cpu_nothing_is_captured(wish) -> None:
    step = make(wish)
    for number in range(5):
        take_step(step, number)
    assert not step.captured


def test_graphs_that_are_required_need_a_cuda_device() -> None:
    with pytest.raises(
        TrainingError, match=r"training.cuda_graphs = on: cpu is not a CUDA device: set it to auto or off"
    ):
        make("on")


def test_training_requests_the_recording(store, tiny, tmp_path) -> None:
    values = tiny.model_dump(mode="json")
    values["training"]["cuda_graphs"] = "on"
    with pytest.raises(TrainingError, match=r"training.cuda_graphs = on: cpu is not a CUDA device"):
        train(store, config=parse_config(values, "test"), out=tmp_path / "runs", device="cpu")


class Device:
    """Simulates a CUDA device whose graphs replay what was called while they were captured."""

    def __init__(self, monkeypatch, free: int = 100) -> None:
        self.recorded: list[bool] = []
        self.recording = False
        self.streams: list[object] = []
        monkeypatch.setattr(torch.cuda, "device", lambda _device: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(wait_stream=lambda _other: None))
        monkeypatch.setattr(torch.cuda, "Stream", lambda: SimpleNamespace(wait_stream=lambda _other: None))
        monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "set_stream", self.streams.append)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 1000))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 60)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 20)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: self.work()))
        monkeypatch.setattr(torch.cuda, "graph", self.graph)

    @contextlib.contextmanager
    def graph(self, _graph, *, stream, capture_error_mode):
        assert stream is not None
        assert capture_error_mode == "thread_local"
        assert not gc.isenabled()
        self.recording = True
        yield
        self.recording = False

    def twice(self, image: torch.Tensor) -> torch.Tensor:
        self.recorded.append(self.recording)
        out = torch.zeros_like(image)
        self.work = lambda: out.copy_(2 * image)
        if not self.recording:
            self.work()
        return out


def test_the_fourth_call_is_recorded_and_later_ones_replay_it(monkeypatch) -> None:
    device = Device(monkeypatch)
    call = CapturedFunction(device.twice, CPU)
    assert [call(torch.tensor(float(n))).item() for n in range(6)] == [0, 2, 4, 6, 8, 10]
    assert device.recorded == [False, False, False, True], "called once more, to be recorded, and never again"
    assert call.replays
    assert gc.isenabled()


def test_without_memory_nothing_is_recorded_and_that_is_logged_once(monkeypatch, caplog) -> None:
    device = Device(monkeypatch, free=79)
    call = CapturedFunction(device.twice, CPU)
    assert [call(torch.tensor(float(n))).item() for n in range(6)] == [0, 2, 4, 6, 8, 10]
    assert not any(device.recorded)
    assert caplog.text.count("no CUDA graphs are used (") == 1
    with pytest.raises(TrainingError, match=r"cuda_graphs = on: too little memory on cpu .*: set it to auto or off"):
        CapturedFunction(device.twice, CPU, strict=True)._has_memory()


def test_a_recording_that_fails_is_a_line_with_its_remedy(monkeypatch) -> None:
    device = Device(monkeypatch)

    def waits(image: torch.Tensor) -> torch.Tensor:
        if device.recording:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return image

    call = CapturedFunction(waits, CPU)
    for _ in range(3):
        call(torch.zeros(()))
    with pytest.raises(
        TrainingError, match=r"cannot be captured as a CUDA graph \(operation not .*: set training.cuda_graphs=off"
    ):
        call(torch.zeros(()))
    assert len(device.streams) == 1, "the stream is the one of before"
    assert gc.isenabled()


def test_the_losses_of_a_step_are_not_overwritten_by_the_next() -> None:
    step = make()
    static = torch.zeros(())

    def update(*_: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"discriminator_A": static.add_(1.0), "discriminator_B": static}

    step._discriminators_update = update
    batch = (torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32))
    first, _ = (step(SimpleNamespace(state=SimpleNamespace(iteration=i)), batch) for i in (1, 2))
    assert first["discriminator_A"].item() == 1.0


def test_the_rate_of_an_update_on_a_device_is_changed_in_its_place() -> None:
    step = make()
    rate = torch.tensor(2e-4)
    for optimizer in (step.optimizer_G, step.optimizer_D):
        optimizer.param_groups[0]["lr"] = rate
    handler = LearningRate(SimpleNamespace(config=step.config, steps=10), step)
    handler._set_rate(SimpleNamespace(state=SimpleNamespace(iteration=9)))
    assert step.optimizer_G.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(2e-4 * 2 / 5)


def test_a_checkpoint_of_a_cuda_device_continues_on_a_cpu() -> None:
    first, resumed = make(), make()
    for number in range(2):
        take_step(first, number)
    state = step_state(first)
    for optimizer in ("optimizer_G", "optimizer_D"):
        state[optimizer]["param_groups"][0].update(lr=torch.tensor(2e-4), capturable=True)
    restore_step(resumed, state)
    assert resumed.optimizer_G.param_groups[0]["lr"] == 2e-4
    assert resumed.optimizer_G.param_groups[0]["capturable"] is False
    assert take_step(resumed, 2) == take_step(first, 2)
