"""Whether the networks are compiled (``torch.compile``) for the training step."""

from __future__ import annotations

import copy
import logging

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medcyclegan.errors import TrainingError
from medcyclegan.training.plan import Plan
from medcyclegan.training.step import CycleGANStep

__all__ = ["compile_step", "pays_on_cpu", "step_flops"]

log = logging.getLogger(__name__)

#: What two cores compute in a second in bf16; other CPUs differ, and so little else does that it will do.
_CPU_FLOPS = 5e11
#: The share of a step that compiling saves, and the seconds that it takes (tests/benchmarks/training_step.py).
_SAVED, _COMPILING_SECONDS = 0.1, 150.0


def compile_step(step: CycleGANStep, plan: Plan) -> None:
    """Compile the four networks of ``step`` in place, as ``training.compile`` says; ``step.compiled`` then says so.

    ``auto``: on CUDA, and on a CPU where the run is long enough for it (:func:`pays_on_cpu`), so the
    same configuration on the same kind of device always decides alike and a resumed run computes as it
    did before. Where compiling fails, for want of a C++ compiler perhaps, it is said and the run is
    eager. Raises :class:`~medcyclegan.errors.TrainingError` for ``on`` where it fails.
    """
    wish = plan.config.training.compile
    if wish == "off" or (wish == "auto" and not _pays(step, plan)):
        return
    reason = _find_obstacle(step.device)
    if reason is not None:
        if wish == "on":
            raise TrainingError(
                f"training.compile = on: {reason}: install a C++ compiler (g++), or take training.compile=off"
            )
        log.warning("the networks are not compiled (%s): the training is as right, and slower", reason)
        return
    for network in (step.networks.G_AB, step.networks.G_BA, step.networks.D_A, step.networks.D_B):
        network.compile(dynamic=False)
    step.compiled = True
    log.info("the networks are compiled: the first steps take a minute or more")


def pays_on_cpu(flops: float, steps: int) -> bool:
    """Whether compiling saves at least twice the time that it takes, in ``steps`` steps of ``flops`` each."""
    return steps * flops / _CPU_FLOPS * _SAVED > 2 * _COMPILING_SECONDS


def step_flops(generator: nn.Module, size: int, batch_size: int, *, identity: bool) -> float:
    """Return about how many floating-point operations the generators' part of a step takes.

    Two generators, each with two passes (three with the identity term) and a way back that costs twice as much.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        channels = next(m.in_channels for m in generator.modules() if isinstance(m, nn.Conv2d))
        shadow = copy.deepcopy(generator).to("meta", torch.float32)
        shadow(torch.empty(1, channels, size, size, device="meta"))
    passes = 2 * (3 if identity else 2)
    return 3.0 * passes * batch_size * counter.get_total_flops()


def _pays(step: CycleGANStep, plan: Plan) -> bool:
    if step.device.type != "cpu":
        return True
    identity, batch_size = plan.config.losses.identity_weight > 0, plan.config.training.batch_size
    return pays_on_cpu(step_flops(step.networks.G_AB, plan.size, batch_size, identity=identity), plan.steps)


def _find_obstacle(device: torch.device) -> str | None:
    """Compile a trifle for ``device``; return why that fails, in one line, or None."""
    values = torch.zeros(8, device=device)
    try:
        torch.compile(_trifle, dynamic=False)(values)
    except RuntimeError as error:  # what all of the compiler's own errors are
        return f"torch.compile fails with {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


def _trifle(values: torch.Tensor) -> torch.Tensor:
    return torch.tanh(values) * 2.0 + 1.0
