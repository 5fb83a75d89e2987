"""Federated averaging of the four networks (McMahan et al. 2017, arXiv 1602.05629, algorithm 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from medcyclegan.errors import TrainingError

__all__ = ["NETWORKS", "Contribution", "Weights", "average", "check_contribution", "networks_of"]

NETWORKS = ("G_AB", "G_BA", "D_A", "D_B")

#: Network -> its state, tensors on the CPU.
Weights = Mapping[str, Mapping[str, torch.Tensor]]


@dataclasses.dataclass(frozen=True, eq=False)
class Contribution:
    """The networks that a site trained in a round. ``slices``: its training slices of A and of B; 0 if it has none."""

    site: str
    weights: Weights
    slices: tuple[int, int]


def networks_of(slices: tuple[int, int]) -> list[str]:
    """Return the networks that a site with these slices of A and of B trains: generators, and its discriminators."""
    return ["G_AB", "G_BA", *(name for name, count in zip(("D_A", "D_B"), slices, strict=True) if count)]


def check_contribution(given: Contribution, like: Weights) -> None:
    """Check that a site returned its networks, of the shapes of ``like``, with finite values.

    Raises :class:`~medcyclegan.errors.TrainingError` naming the site.
    """
    expected = networks_of(given.slices)
    if sorted(given.weights) != sorted(expected):
        raise TrainingError(f"{given.site} returned {', '.join(sorted(given.weights))}, not {', '.join(expected)}")
    for name in expected:
        own, reference = given.weights[name], like[name]
        if own.keys() != reference.keys() or any(own[k].shape != reference[k].shape for k in own):
            raise TrainingError(f"{given.site} returned a {name} of another shape: install the same version everywhere")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in own.values()):
            raise TrainingError(
                f"{given.site} returned NaN or infinite weights of {name}: start again with a lower "
                "training.learning_rate, or with training.precision=fp32"
            )


def average(contributions: Sequence[Contribution]) -> dict[str, dict[str, torch.Tensor]]:
    """Return the mean of each network over the sites that trained it.

    Generators are weighted by the slices of both domains at a site; a discriminator by the slices of its domain, so
    a site without that domain does not count. The result does not depend on the order of the sites' answers. Raises
    :class:`~medcyclegan.errors.TrainingError` if no site has one of the domains.
    """
    ordered = sorted(contributions, key=lambda given: given.site)
    result = {}
    for name in NETWORKS:
        counts = [_weight(name, given.slices) for given in ordered]
        total = sum(counts)
        if total == 0:
            there = ", ".join(given.site for given in ordered) or "no site"
            raise TrainingError(
                f"only {there} answered, without slices of domain {name[-1]}: the round is not averaged; start the "
                "job again when a site with that domain is back"
            )
        having = [(given.weights[name], count / total) for given, count in zip(ordered, counts, strict=True) if count]
        result[name] = {key: _mean([(state[key], share) for state, share in having]) for key in having[0][0]}
    return result


def _weight(network: str, slices: tuple[int, int]) -> int:
    return sum(slices) if network.startswith("G_") else slices["AB".index(network[-1])]


def _mean(parts: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
    total = torch.stack([tensor.double() * share for tensor, share in parts]).sum(dim=0)
    first = parts[0][0]
    return (total if first.is_floating_point() else total.round()).to(first.dtype)
