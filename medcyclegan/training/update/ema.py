"""The running mean of the generators' weights, whose translations vary less than those of a single step."""

from __future__ import annotations

import copy
from typing import Any

import torch

from medcyclegan.networks import CycleGAN

__all__ = ["AveragedGenerators", "decay_at"]


def decay_at(step: int, decay: float) -> float:
    """Return the fraction of the mean that is kept after ``step``, counted from 0: ``decay``, and less at first.

    It is at most (1 + step) / (10 + step), so that the mean of a short run is not dominated by untrained weights.
    """
    return min(decay, (1 + step) / (10 + step))


class AveragedGenerators:
    """The exponential moving average of ``G_AB`` and ``G_BA`` (Yazici et al. 2019, arXiv 1806.04498).

    ``networks``: a :class:`~medcyclegan.networks.CycleGAN` whose generators hold the averages and whose
    discriminators are those being trained. They are for evaluation and saving, and are not trained.
    """

    def __init__(self, networks: CycleGAN, decay: float) -> None:
        self.decay = decay
        self.networks = CycleGAN(
            copy.deepcopy(networks.G_AB).requires_grad_(False).eval(),
            copy.deepcopy(networks.G_BA).requires_grad_(False).eval(),
            networks.D_A,
            networks.D_B,
        )
        self._means: list[torch.Tensor] = list(self.networks.generator_parameters())

    @torch.no_grad()
    def update(self, networks: CycleGAN, step: int) -> None:
        """Move the means towards the weights of ``networks`` as they are after ``step``, counted from 0."""
        weights = [parameter.detach() for parameter in networks.generator_parameters()]
        torch._foreach_lerp_(self._means, weights, 1.0 - decay_at(step, self.decay))

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights of both generators."""
        return {"G_AB": self.networks.G_AB.state_dict(), "G_BA": self.networks.G_BA.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        self.networks.G_AB.load_state_dict(state["G_AB"])
        self.networks.G_BA.load_state_dict(state["G_BA"])
