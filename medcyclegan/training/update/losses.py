"""The terms of the objective, equation by equation (Zhu et al. 2017, arXiv 1703.10593).

Discriminators return logits. D(x) of the paper is sigmoid(logits) in the log form of equation 1, and the
logits themselves in the least-squares form of section 4.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

__all__ = [
    "cycle_loss",
    "discriminator_loss",
    "fake_loss",
    "generator_loss",
    "identity_loss",
    "paired_loss",
    "real_loss",
]

Adversarial = Literal["lsgan", "log"]


def generator_loss(logits_fake: torch.Tensor, form: Adversarial) -> torch.Tensor:
    """Return the adversarial loss of a generator, a mean over all logits of its fakes.

    ``lsgan``: E[(D(G(x)) - 1)^2], section 4. ``log``: E[-log D(G(x))], the non-saturating form of
    equation 1 (Goodfellow et al. 2014, section 3).
    """
    logits = _full_precision(logits_fake)
    if form == "lsgan":
        return (logits - 1.0).square().mean()
    return functional.softplus(-logits).mean()


def discriminator_loss(logits_real: torch.Tensor, logits_fake: torch.Tensor, form: Adversarial) -> torch.Tensor:
    """Return the loss of a discriminator: a mean over all logits of real images plus one over those of fakes.

    ``lsgan``: E[(D(y) - 1)^2] + E[D(G(x))^2], section 4. ``log``: E[-log D(y)] + E[-log(1 - D(G(x)))],
    equation 1 with the opposite sign.
    """
    return real_loss(logits_real, form) + fake_loss(logits_fake, form)


def real_loss(logits: torch.Tensor, form: Adversarial) -> torch.Tensor:
    """Return the term of real images in :func:`discriminator_loss`."""
    return generator_loss(logits, form)  # a generator wants its fakes to be judged as real


def fake_loss(logits: torch.Tensor, form: Adversarial) -> torch.Tensor:
    """Return the term of fakes in :func:`discriminator_loss`."""
    fake = _full_precision(logits)
    return fake.square().mean() if form == "lsgan" else functional.softplus(fake).mean()


def cycle_loss(reconstructed: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return E[|F(G(x)) - x|], equation 2: the mean absolute difference for one direction."""
    return functional.l1_loss(_full_precision(reconstructed), real)


def identity_loss(identity: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return E[|G(y) - y|], section 5.2: how much a generator changes an image that needs no change."""
    return functional.l1_loss(_full_precision(identity), real)


def paired_loss(fake: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return E[|G(x) - y|] for pairs of x and its true y (Isola et al. 2017, arXiv 1611.07004, equation 3)."""
    return functional.l1_loss(_full_precision(fake), target)


def _full_precision(values: torch.Tensor) -> torch.Tensor:
    """Return ``values`` in float32 at least: 8 or 11 bits of mantissa are too few for a mean."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
