"""The memory of training: estimated in advance, and refused if it is not free."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.run_folders import with_training

from medcyclegan.config import Config, parse_config
from medcyclegan.errors import TrainingError
from medcyclegan.memory import FreeMemory
from medcyclegan.training import train
from medcyclegan.training.pretraining.synthetic_pairs import SyntheticPairs
from medcyclegan.training.update import step_memory
from medcyclegan.training.update.distributed import Ranks
from medcyclegan.training.update.step_memory import _Objective, check_memory, training_bytes
from medcyclegan.training.update.structure import _local_correlation, _mutual_information

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
#: The factor by which the estimate multiplies the bytes of tensors, and the bytes that it adds on a CPU.
ON_CPU, ON_CUDA, BESIDES = 1.05, 0.8, 3 * 2**30 // 10


def config_of(**training) -> Config:
    networks = {"generator": {"filters": 4, "blocks": 1}, "discriminator": {"filters": 4, "layers": 2}}
    return parse_config({"networks": networks, "training": {"pool_size": 0, **training}}, "test")


def plan_of(config: Config, size: int = 32, pairs=None) -> SimpleNamespace:
    return SimpleNamespace(config=config, size=size, slices=(70, 50), pairs=pairs)


def bytes_of(config: Config, share: int = 1, precision="fp32", device: torch.device = CPU, size: int = 32) -> int:
    return training_bytes(plan_of(config, size), share, precision, device)


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets the free memory."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(step_memory, "free_memory", lambda: FreeMemory(free, "this machine"))

    return set_free


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("structure", ["none", "gradient", "lncc", "mutual_information"])
def test_a_traced_step_takes_what_a_real_one_takes_and_leaves_no_trace(precision, structure) -> None:
    _local_correlation.cache_clear()
    _mutual_information.cache_clear()
    values = config_of().model_dump(mode="json")
    values["losses"]["structure"] = structure
    config = parse_config(values, "test")
    traced = step_memory._trace(_Objective(config.networks, config.losses), 48, 3, precision)
    with step_memory._Allocations() as allocations:
        step = step_memory._stateless_step(_Objective(config.networks, config.losses), 48, precision)
        real = [torch.rand(3, 1, 48, 48) for _ in "AB"]
        fake_A, fake_B, _ = step.update_generators(*real)
        step.update_discriminators(*real, fake_A, fake_B)
    assert traced.peak == pytest.approx(allocations.peak, rel=0.02)
    assert traced.weights == 4 * sum(p.numel() for p in step.networks.parameters())
    assert traced.generator_weights == 4 * sum(p.numel() for p in step.networks.generator_parameters())


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_traced_step_on_pairs_takes_what_a_real_one_takes(weight) -> None:
    config = parse_config(
        {**config_of().model_dump(mode="json"), "pretraining": {"adversarial_weight": weight}}, "test"
    )
    objective = _Objective(config.networks, config.losses, config.pretraining)
    traced = step_memory._trace(objective, 48, 3, "fp32")
    with step_memory._Allocations() as allocations:
        step = step_memory._stateless_step(objective, 48, "fp32")
        images = [torch.rand(3, 1, 48, 48) for _ in range(4)]
        fake_A, fake_B, _ = step.update_on_pairs(*images)
        if weight:
            step.update_discriminators(*images[2:], fake_A, fake_B)
    assert traced.peak == pytest.approx(allocations.peak, rel=0.02)
    assert traced.peak < step_memory._trace(_Objective(config.networks, config.losses), 48, 3, "fp32").peak


def test_what_pairs_keep_is_added() -> None:
    """Without discriminators there are no pools and no moments of their weights; batches have targets too."""
    traced = step_memory._trace(
        _Objective(config_of().networks, config_of().losses, config_of().pretraining), 32, 1, "fp32"
    )
    pairs = SimpleNamespace(bytes_in_memory=lambda device: 10_000_000)
    need = training_bytes(plan_of(config_of(pool_size=50), pairs=pairs), 1, "fp32", CPU)
    kept = 2 * traced.generator_weights + 6 * 4 * 4096 + 10_000_000
    assert (need - BESIDES) / ON_CPU - traced.peak == pytest.approx(kept, abs=3)


def test_too_many_workers_are_named_as_what_to_lower(machine) -> None:
    config = parse_config({"pretraining": {"workers": 200}}, "test")
    pairs = SyntheticPairs((Path("a.nii.gz"),), (), {}, ("t1", "t2"), config)
    assert pairs.bytes_in_memory(CPU) > 200e9
    assert pairs.bytes_in_memory(CUDA) < 4e9, "one thread draws on the device"
    machine(8 * 2**30)
    with pytest.raises(TrainingError, match=r"this machine has 8\.0 GiB free: lower pretraining\.workers, pretraining"):
        check_memory(plan_of(config, pairs=pairs), CPU, "fp32", Ranks())


def test_tracing_computes_nothing_and_draws_no_random_number() -> None:
    step_memory._trace.cache_clear()
    before = torch.get_rng_state()
    assert bytes_of(config_of(), share=10**6) > 2**40
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_grows_evenly_with_the_batch_and_the_pixels() -> None:
    one, two, three = (bytes_of(config_of(), share) for share in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=0.01)
    assert bytes_of(config_of(), size=64) - bytes_of(config_of(), size=32) > 2 * (two - one)
    assert bytes_of(config_of(), 8, "bf16") < bytes_of(config_of(), 8) < bytes_of(config_of(), 8, "fp64")


def test_what_a_run_keeps_is_added() -> None:
    """Slices of 32 x 32 pixels take 4,096 bytes each, in a store of float16 2,048."""
    plain = bytes_of(config_of())
    generators = step_memory._trace(
        _Objective(config_of().networks, config_of().losses), 32, 1, "fp32"
    ).generator_weights
    for training, kept in (
        ({"ema_decay": 0.9}, generators),
        ({"pool_size": 10}, 10 * 2 * 4096),
        ({"pool_size": 11, "batch_size": 4}, 3 * 2 * 4096),  # a pool for each place of a batch, rounded up
        ({"slices_on_device": "on"}, 120 * 2048),
    ):
        assert bytes_of(config_of(**training)) - plain == pytest.approx(ON_CPU * kept, abs=2)
    ahead = 6 * 2 * 4096  # four prefetched batches, one being read and one in use; a device holds only the last
    assert (plain - BESIDES) / ON_CPU - bytes_of(config_of(), device=CUDA) / ON_CUDA == pytest.approx(ahead, abs=3)


def test_what_does_not_fit_is_refused_with_the_largest_batch_that_does(machine) -> None:
    config = config_of(batch_size=40)
    machine(bytes_of(config, 7) + 100)
    message = r"training.batch_size = 40: the training needs about .* GiB of memory, but this machine has .* GiB free: "
    with pytest.raises(TrainingError, match=message + r"set training.batch_size to at most 7, .*memory_check=off"):
        check_memory(plan_of(config), CPU, "fp32", Ranks())
    check_memory(plan_of(config_of(batch_size=7)), CPU, "fp32", Ranks())
    with pytest.raises(TrainingError, match="at most 7,"):
        check_memory(plan_of(config_of(batch_size=8)), CPU, "fp32", Ranks())
    machine(10)
    for size in (1, 2):
        with pytest.raises(TrainingError, match=r"free: use fewer networks.generator.filters, or slices of a smaller"):
            check_memory(plan_of(config_of(batch_size=size)), CPU, "fp32", Ranks())


def test_processes_of_one_machine_share_its_memory(machine) -> None:
    config = config_of(batch_size=40)
    machine(2 * bytes_of(config, 5) + 100)
    both = Ranks(0, 2, None, 2)
    check_memory(plan_of(config_of(batch_size=10)), CPU, "fp32", both)
    with pytest.raises(TrainingError, match=r"this machine, for each of 2 processes, has .* at most 10, "):
        check_memory(plan_of(config), CPU, "fp32", both)
    machine(bytes_of(config, 20))
    check_memory(plan_of(config), CPU, "fp32", dataclasses.replace(both, on_this_machine=1))


def test_the_memory_of_a_cuda_device_is_measured(monkeypatch, machine) -> None:
    machine(0)
    config = config_of(batch_size=40)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (bytes_of(config, 5, device=CUDA), 10**12))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 900)
    with pytest.raises(TrainingError, match=r"cuda:0 has .* GiB free: set training.batch_size to at most 5, "):
        check_memory(plan_of(config), CUDA, "fp32", Ranks())
    check_memory(plan_of(config_of(batch_size=5)), CUDA, "fp32", Ranks(0, 1, None, 4))


def test_train_refuses_before_it_creates_a_run_unless_the_check_is_off(store, tiny, tmp_path: Path, machine) -> None:
    machine(1000)
    with pytest.raises(TrainingError, match=r"training.batch_size = 2: the training needs about"):
        train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()
    train(store, config=with_training(tiny, memory_check="off"), out=tmp_path / "runs", max_steps=1, device="cpu")
