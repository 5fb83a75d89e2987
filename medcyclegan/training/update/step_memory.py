"""The memory that training needs, estimated before the first step and compared with the free memory."""

from __future__ import annotations

import dataclasses
import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medcyclegan.config import Config, Losses, Networks, Pretraining
from medcyclegan.data import BATCHES_AHEAD, Stream
from medcyclegan.errors import TrainingError
from medcyclegan.memory import FreeMemory, free_memory
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.plan import Plan
from medcyclegan.training.update.distributed import Ranks
from medcyclegan.training.update.image_pool import ImagePool
from medcyclegan.training.update.paired_step import PairedStep
from medcyclegan.training.update.precision import Precision
from medcyclegan.training.update.step import CycleGANStep, Execution
from medcyclegan.training.update.structure import structure_loss

__all__ = ["check_memory", "training_bytes"]

log = logging.getLogger(__name__)

#: The memory of training: a multiple of the tensors' bytes that exist at one time, plus a constant number of bytes. On
#: CPUs convolutions need workspace and freed memory is fragmented: the estimate is within 6 % of the measured memory
#: (tests/benchmarks/training_batches.py prints both). On an H100 in bf16 it was 0.85 times the tensors, since some maps
#: are smaller there. A CUDA device reports when it runs out, so only what cannot fit is refused.
_TAKEN = {"cpu": (1.05, 3 * 2**30 // 10), "cuda": (0.8, 0)}


def check_memory(plan: Plan, device: torch.device, precision: Precision, ranks: Ranks) -> None:
    """Refuse a training that needs more memory than is free on ``device``, before any is allocated.

    A process that takes too much of a machine's memory is killed without a message. ``training.memory_check = off``
    skips this check. Raises :class:`~medcyclegan.errors.TrainingError` naming the memory needed, the free memory
    and the largest batch that fits.
    """
    training, world = plan.config.training, ranks.world_size
    if training.memory_check == "off":
        return
    free = _free_memory(device, ranks.on_this_machine)

    def needed(share: int) -> int:
        return training_bytes(plan, share, precision, device)

    share = training.batch_size // world
    need = needed(share)
    log.debug("the training needs an estimated %.3f GiB; %.3f GiB are free", need / 2**30, free.bytes / 2**30)
    if need <= free.bytes:
        return
    most = _largest_share(needed, share, free.bytes)
    remedies = [f"set training.batch_size to at most {most * world}"] if most else []
    remedies += [plan.pairs.smaller] if plan.pairs is not None and plan.pairs.smaller else []
    remedies.append("use fewer networks.generator.filters, or slices of a smaller size")
    remedy = ", or ".join(remedies)
    raise TrainingError(
        f"training.batch_size = {training.batch_size}: the training needs about {need / 2**30:.1f} GiB of memory, but "
        f"{free.place} has {free.bytes / 2**30:.1f} GiB free: {remedy}; training.memory_check=off trains regardless"
    )


def training_bytes(plan: Plan, share: int, precision: Precision, device: torch.device) -> int:
    """Estimate the memory of training on ``device`` if a process takes ``share`` slices of each domain per step.

    The memory of a step is added up operation by operation (:func:`_trace`). Added to it are Adam's two moments of each
    weight, averaged generators, the image pools, prefetched batches and slices kept in memory.
    """
    config = plan.config
    pretraining = None if plan.pairs is None else config.pretraining
    traced = _trace(_Objective(config.networks, config.losses, pretraining), plan.size, share, precision)
    without_discriminators = pretraining is not None and pretraining.adversarial_weight == 0
    trained = traced.generator_weights if without_discriminators else traced.weights
    images = 2 * share * plan.size**2 * 4
    total = traced.peak + 2 * trained
    total += 0 if config.training.ema_decay is None else traced.generator_weights
    total += 0 if without_discriminators else images * -(-config.training.pool_size // config.training.batch_size)
    if config.training.slices_on_device == "on":
        total += sum(plan.slices) * plan.size**2 * (2 if config.slicing.dtype == "float16" else 4)
    if device.type == "cpu":
        doubled = plan.pairs is not None or config.losses.paired_weight > 0
        total += images * (2 if doubled else 1) * (BATCHES_AHEAD + 2)
    total += 0 if plan.pairs is None else plan.pairs.bytes_in_memory(device)
    factor, besides = _TAKEN[device.type]
    return round(factor * total) + besides


@dataclasses.dataclass(frozen=True)
class _Objective:
    """What a step minimizes: the terms of a CycleGAN, or with ``pretraining`` those of pairs."""

    networks: Networks
    losses: Losses
    pretraining: Pretraining | None = None


@dataclasses.dataclass(frozen=True)
class _Traced:
    """Bytes of all weights, of the generators' weights, and of all tensors at the peak of a step."""

    weights: int
    generator_weights: int
    peak: int


@functools.lru_cache(maxsize=16)
def _trace(objective: _Objective, size: int, share: int, precision: Precision) -> _Traced:
    """Run a training step on tensors with shapes but no values, and find the most bytes that exist at one time."""
    structure = objective.losses.structure
    if structure != "none":
        # Its first call caches tensors, which must have values.
        structure_loss(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16), structure)
    with torch.random.fork_rng([]), FakeTensorMode(allow_non_fake_inputs=True):
        with _Allocations() as allocations:
            step = _stateless_step(objective, size, "fp32" if precision in ("fp32", "fp64") else "bf16")
            real_A, real_B = (torch.empty(share, 1, size, size) for _ in "AB")
            warps = step.warps(0, share)
            if isinstance(step, PairedStep):
                targets = [torch.empty_like(real_A) for _ in "AB"]
                fake_A, fake_B, _ = step.update_on_pairs(real_A, real_B, *targets, *warps[:2])
            else:
                pair = (real_A, real_B) if objective.losses.paired_weight > 0 else ()
                fake_A, fake_B, _ = step.update_generators(real_A, real_B, *pair, *warps[:2])
            if step.trains_discriminators:
                step.update_discriminators(real_A, real_B, fake_A, fake_B, *warps[2:])
        weights = [p.numel() * p.element_size() for p in step.networks.parameters()]
        of_generators = [p.numel() * p.element_size() for p in step.networks.generator_parameters()]
    wider = 2 if precision == "fp64" else 1
    return _Traced(wider * sum(weights), wider * sum(of_generators), wider * allocations.peak)


def _stateless_step(objective: _Objective, size: int, precision: Precision) -> CycleGANStep:
    """Return a step whose optimizers and pools have no state: :func:`training_bytes` adds their memory."""
    built = build_cyclegan(objective.networks, size, 0)
    optimizers = [torch.optim.SGD(own, 0.0) for own in (built.generator_parameters(), built.discriminator_parameters())]
    kind = CycleGANStep if objective.pretraining is None else PairedStep
    return kind(
        built,
        Config(
            networks=objective.networks,
            losses=objective.losses,
            pretraining=objective.pretraining or Pretraining(),
        ),
        (optimizers[0], optimizers[1]),
        (ImagePool(0, 1, 0, Stream.POOL_A), ImagePool(0, 1, 0, Stream.POOL_B)),
        Execution(torch.device("cpu"), precision),
    )


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations allocated and that are not freed yet; ``peak``: the most bytes so far."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count the storages of its results."""
        results = operation(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor):
                self._note(result.untyped_storage())
        return results

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


def _free_memory(device: torch.device, processes_here: int) -> FreeMemory:
    """Return the memory that one of ``processes_here`` processes of this machine can use on ``device``."""
    if device.type == "cuda":
        unused, _ = torch.cuda.mem_get_info(device)
        # Memory that this process has reserved but does not use is available to it.
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return FreeMemory(unused + reserved, str(device))
    free = free_memory()
    if processes_here == 1:
        return free
    return FreeMemory(free.bytes // processes_here, f"{free.place}, for each of {processes_here} processes,")


def _largest_share(needed: Callable[[int], int], share: int, free: int) -> int:
    """Return how many slices of each domain fit, possibly 0; the memory needed grows linearly with their number."""
    one = needed(1)
    if share == 1 or one > free:
        return 0
    return int(1 + (free - one) * (share - 1) / (needed(share) - one))
