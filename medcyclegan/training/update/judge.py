"""The loss of a discriminator: its judgment of real images and of negatives, and a penalty on its gradient."""

from __future__ import annotations

import torch
from torch import nn

from medcyclegan.config import Losses
from medcyclegan.training.update.losses import discriminator_loss
from medcyclegan.training.update.warps import seen

__all__ = ["judge"]


def judge(
    network: nn.Module,
    real: torch.Tensor,
    fake: torch.Tensor,
    other: torch.Tensor,
    losses: Losses,
    warps: tuple[torch.Tensor, ...] = (),
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the loss of the discriminator ``network``, and the penalty on its gradient or None without one.

    ``real``, ``fake`` and ``other`` (real slices of the other domain), each ``(N, C, H, W)``. With
    ``losses.input_negatives``, ``other`` is that share of the negatives (Wang et al. 2022, arXiv 2211.01293). The
    penalty is E[|grad D(y)|^2] over real images (R1; Mescheder et al. 2018, arXiv 1801.04406, equation 9, without its
    factor). ``warps``: those of all images, in the order in which the arguments come.
    """
    share, form = losses.input_negatives, losses.adversarial
    images = seen(torch.cat([real, fake, other] if share > 0 else [real, fake]), warps)
    penalized = losses.gradient_penalty > 0
    if penalized:
        images.requires_grad_(True)
    logits_real, logits_fake, *logits_other = torch.split(network(images), len(real))
    loss = discriminator_loss(logits_real, logits_fake, form)
    if share > 0:
        loss = (1.0 - share) * loss + share * discriminator_loss(logits_real, logits_other[0], form)
    if not penalized:
        return loss, None
    (gradient,) = torch.autograd.grad(logits_real.float().sum(), images, create_graph=True)
    return loss, gradient[: len(real)].float().square().sum(dim=(1, 2, 3)).mean()
