import logging

import pytest
import torch

from medcyclegan.config import Generator
from medcyclegan.inference.runtime.runner import SliceRunner, choose_batch_size

CPU = torch.device("cpu")


class Doubler:
    """Doubles its input; memory holds ``capacity`` slices on another device, ``cpu_capacity`` on the CPU."""

    shareable = False

    def __init__(self, capacity, device="meta", cpu_capacity=100):
        self.device = torch.device(device)
        self.capacity, self.cpu_capacity = capacity, cpu_capacity
        self.seen = []

    def __call__(self, slices):
        self.seen.append((self.device.type, len(slices)))
        if self.device.type != "cpu" and len(slices) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.device.type == "cpu" and len(slices) > self.cpu_capacity:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")
        return slices * 2

    def to(self, device):
        self.device = device


@pytest.fixture
def slices():
    return torch.arange(10.0).reshape(10, 1, 1, 1)


def test_a_batch_that_does_not_fit_is_halved_with_a_warning(slices, caplog):
    generator = Doubler(capacity=3)
    with caplog.at_level(logging.WARNING), SliceRunner(generator, 8) as run:
        assert torch.equal(run(slices), slices * 2)
        assert run.batch_size == 2
    assert generator.seen == [("meta", 8), ("meta", 4), *[("meta", 2)] * 5]
    assert caplog.text.count("memory ran out on meta") == 2


def test_if_one_slice_does_not_fit_the_cpu_continues(slices, caplog):
    generator = Doubler(capacity=0)
    with caplog.at_level(logging.WARNING), SliceRunner(generator, 2) as run:
        assert torch.equal(run(slices), slices * 2)
    assert generator.device == CPU
    assert "continuing on the CPU" in caplog.text


def test_the_cpu_s_memory_is_named(slices):
    with SliceRunner(Doubler(0, "cpu", cpu_capacity=2), 8) as run:
        assert torch.equal(run(slices), slices * 2)
        assert run.batch_size == 2
    with SliceRunner(Doubler(0, "cpu", cpu_capacity=0), 8) as run, pytest.raises(MemoryError, match="one slice"):
        run(slices)


def test_other_failures_are_not_taken_for_memory(slices):
    def broken(_slices):
        raise RuntimeError("shapes do not fit")

    broken.device, broken.shareable = CPU, False
    with SliceRunner(broken, 8) as run, pytest.raises(RuntimeError, match="shapes"):
        run(slices)


def test_threads_share_out_the_slices_and_leave_no_trace(slices):
    threads = torch.get_num_threads()
    generator = Doubler(0, "cpu")
    generator.shareable = True
    torch.set_num_threads(2)
    try:
        with SliceRunner(generator, 4) as run:
            assert torch.equal(run(slices), slices * 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert [n for _, n in generator.seen] == [1] * 10


def test_a_cpu_is_given_no_more_slices_than_it_has_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    on_cpu, on_device = Doubler(capacity=9, device="cpu"), Doubler(capacity=9)
    on_cpu.shareable = True
    assert [SliceRunner(on_cpu, n).at_once for n in (2, 4096)] == [2, 4]
    assert SliceRunner(on_device, 16).at_once == 16


def test_the_batch_size_follows_memory_and_canvas(monkeypatch):
    generator = Generator(kind="resnet", filters=64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    small = choose_batch_size(generator, (256, 256), CPU, volume_voxels=1)
    assert small == 4, "256 MB of maps for any volume"
    assert choose_batch_size(generator, (512, 512), CPU, volume_voxels=1) == 1
    large = choose_batch_size(generator, (256, 256), CPU, volume_voxels=512 * 512 * 400)
    assert large == 7, "as much as the volume in float32"
    assert choose_batch_size(Generator(filters=2), (64, 64), CPU, volume_voxels=1) == 32, "a slice two threads"
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (8 * 2**30, 16 * 2**30))
    assert choose_batch_size(generator, (256, 256), torch.device("cuda"), 1) == 8
    assert choose_batch_size(generator, (1024, 1024), torch.device("cuda"), 1) == 2
