"""Whether the networks are compiled (``torch.compile``) for the training step."""

from __future__ import annotations

import copy
import dataclasses
import logging

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medcyclegan.errors import TrainingError
from medcyclegan.training.plan import Plan
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["compile_step", "compiling_pays", "step_flops"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Gain:
    """What a kind of device computes in a second, the share of a step that compiling saves, and what it takes."""

    flops: float
    saved: float
    seconds: float


#: Two cores in bf16, and an H100 whose steps are recorded (tests/benchmarks/training_step.py). Others differ, and so
#: little else does that it will do.
_GAINS = {"cpu": _Gain(5e11, 0.1, 150.0), "cuda": _Gain(1e14, 0.25, 70.0)}


def compile_step(step: CycleGANStep, plan: Plan) -> None:
    """Compile the four networks of ``step`` in place, as ``training.compile`` says; ``step.compiled`` then says so.

    ``auto``: where the run is long enough for it (:func:`compiling_pays`), so the same configuration on the same kind
    of device always decides alike and a resumed run computes as it did before. Where compiling fails, for want of a
    C++ compiler perhaps, it is said and the run is eager. Raises :class:`~medcyclegan.errors.TrainingError` for ``on``
    where it fails.
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


def compiling_pays(flops: float, steps: int, device: torch.device) -> bool:
    """Whether compiling saves at least twice the time that it takes, in ``steps`` steps of ``flops`` each."""
    gain = _GAINS.get(device.type)
    return gain is not None and steps * flops / gain.flops * gain.saved > 2 * gain.seconds


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
    identity, batch_size = plan.config.losses.identity_weight > 0, plan.config.training.batch_size
    flops = step_flops(step.networks.G_AB, plan.size, batch_size, identity=identity)
    return compiling_pays(flops, plan.steps, step.device)


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
