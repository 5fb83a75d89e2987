"""Federated averaging of the four networks (McMahan et al. 2017, arXiv 1602.05629, algorithm 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from medcyclegan.errors import TrainingError

__all__ = ["NETWORKS", "Contribution", "Weights", "average", "check_contribution"]

NETWORKS = ("G_AB", "G_BA", "D_A", "D_B")

#: Network -> its state, tensors on the CPU.
Weights = Mapping[str, Mapping[str, torch.Tensor]]


@dataclasses.dataclass(frozen=True, eq=False)
class Contribution:
    """The networks that a site trained in a round. ``slices``: its training slices of A and of B; 0 if it has none."""

    site: str
    weights: Weights
    slices: tuple[int, int]


def check_contribution(given: Contribution, like: Weights) -> None:
    """Check that a site returned the four networks, of the shapes of ``like``, with finite values.

    Raises :class:`~medcyclegan.errors.TrainingError` naming the site.
    """
    if sorted(given.weights) != sorted(NETWORKS):
        raise TrainingError(f"{given.site} returned {', '.join(sorted(given.weights))}, not {', '.join(NETWORKS)}")
    for name in NETWORKS:
        own, reference = given.weights[name], like[name]
        if own.keys() != reference.keys() or any(own[k].shape != reference[k].shape for k in own):
            raise TrainingError(f"{given.site} returned a {name} of another shape: install the same version everywhere")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in own.values()):
            raise TrainingError(
                f"{given.site} returned NaN or infinite weights of {name}: start again with a lower "
                "training.learning_rate, or with training.precision=fp32"
            )


def average(contributions: Sequence[Contribution]) -> dict[str, dict[str, torch.Tensor]]:
    """Return the mean of each network over the sites.

    A site's share is the mean of its share of all slices of A and its share of all slices of B. If every site has one
    domain, the terms of the loss that need real A then have the same weight as those that need real B, as in central
    training, whose batches hold one slice of each; with shares of all slices together, the larger domain would
    dominate. With sites that have both domains, this is an approximation. The result does not depend on the order of
    the answers. Raises :class:`~medcyclegan.errors.TrainingError` if no site has one of the domains.
    """
    ordered = sorted(contributions, key=lambda given: given.site)
    totals = [sum(given.slices[domain] for given in ordered) for domain in (0, 1)]
    for domain, total in zip("AB", totals, strict=True):
        if total == 0:
            there = ", ".join(given.site for given in ordered) or "no site"
            raise TrainingError(
                f"only {there} answered, without slices of domain {domain}: the round is not averaged; start the "
                "job again when a site with that domain is back"
            )
    shares = [sum(count / total for count, total in zip(given.slices, totals, strict=True)) / 2 for given in ordered]
    return {
        name: {
            key: _mean([(given.weights[name][key], share) for given, share in zip(ordered, shares, strict=True)])
            for key in ordered[0].weights[name]
        }
        for name in NETWORKS
    }


def _mean(parts: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
    total = torch.stack([tensor.double() * share for tensor, share in parts]).sum(dim=0)
    first = parts[0][0]
    return (total if first.is_floating_point() else total.round()).to(first.dtype)
