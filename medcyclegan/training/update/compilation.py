"""Whether the networks are compiled (``torch.compile``) for the training step."""

from __future__ import annotations

import logging

import torch

from medcyclegan.errors import TrainingError
from medcyclegan.networks import CycleGAN
from medcyclegan.training.plan import Plan

__all__ = ["compile_networks", "compiling_pays"]

log = logging.getLogger(__name__)

#: ``training.compile = auto`` compiles runs of at least this many slices of 256 x 256 pixels (steps x batch size) ...
_FEWEST_SLICES = {"cpu": 1_000, "cuda": 30_000}
#: ... with generators of at least this many filters. Compiling takes one to three minutes and saves a tenth of a
#: full-size step on a CPU and a quarter of it on a GPU (tests/benchmarks/training_step.py prints both).
_FEWEST_FILTERS = 32


def compile_networks(networks: CycleGAN, plan: Plan, device: torch.device) -> bool:
    """Compile the four networks in place, according to ``training.compile``; return whether that was done.

    ``auto`` compiles long runs of large networks (:func:`compiling_pays`), so that the same configuration on the same
    type of device always decides alike and a resumed run computes as before. If compiling fails, for example because no
    C++ compiler is installed, a warning is logged and the run is eager. Raises
    :class:`~medcyclegan.errors.TrainingError` for ``on`` if it fails.
    """
    wish = plan.config.training.compile
    if wish == "off" or (wish == "auto" and not compiling_pays(plan, device)):
        return False
    reason = _find_obstacle(device)
    if reason is not None:
        if wish == "on":
            raise TrainingError(
                f"training.compile = on: {reason}: install a C++ compiler (g++), or set training.compile=off"
            )
        log.warning("the networks are not compiled (%s): results are the same, but training is slower", reason)
        return False
    for network in (networks.G_AB, networks.G_BA, networks.D_A, networks.D_B):
        network.compile(dynamic=False)
    log.info("the networks are compiled: the first steps take a minute or more")
    return True


def compiling_pays(plan: Plan, device: torch.device) -> bool:
    """Return whether a run is long enough, and its generators large enough, for compiling to save time."""
    slices = plan.steps * plan.config.training.batch_size * plan.size**2 / 256**2
    large = plan.config.networks.generator.filters >= _FEWEST_FILTERS
    return large and slices >= _FEWEST_SLICES.get(device.type, float("inf"))


def _find_obstacle(device: torch.device) -> str | None:
    """Compile a small function for ``device``; return why that fails, in one line, or None."""
    values = torch.zeros(8, device=device)
    try:
        torch.compile(_trifle, dynamic=False)(values)
    except RuntimeError as error:  # the base class of all compiler errors
        return f"torch.compile fails with {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


def _trifle(values: torch.Tensor) -> torch.Tensor:
    return torch.tanh(values) * 2.0 + 1.0
