"""One update of a CycleGAN at a site that has slices of one domain only."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from torch import nn

from medcyclegan.training.update.losses import cycle_loss, fake_loss, generator_loss, identity_loss, real_loss
from medcyclegan.training.update.masks import mask_loss
from medcyclegan.training.update.step import CycleGANStep, Losses, detached
from medcyclegan.training.update.structure import structure_loss
from medcyclegan.training.update.warps import seen

__all__ = ["OnlyAStep", "OnlyBStep"]


class _OneDomainStep(CycleGANStep):
    """The terms of :class:`CycleGANStep` that need real slices of one domain X, and no others.

    The losses of the generators and of the discriminators are sums of terms that need real A and of terms that need
    real B (Song and Ye 2021, arXiv 2106.09246). With Y for the other domain, those that need real X are:

    - generators: the adversarial term of the fakes of Y, the cycle X to Y to X, the identity term of X, and the
      structure and mask terms between X and the fakes of Y;
    - D_X: the term of real X; D_Y: the term of the fakes of Y.

    Each discriminator sees its real images at one site and its fakes at another, so the weights must be averaged after
    few steps.
    """

    #: The letters of X and Y.
    own: str
    other: str

    def __call__(self, engine: Engine, batch: tuple[torch.Tensor, ...]) -> Losses:
        """Update all four networks on ``real_X`` ``(N, 1, H, W)`` in [-1, 1]."""
        real = batch[0].to(self.device, self.dtype, non_blocking=True)
        step, count = engine.state.iteration - 1, len(real)
        # Those of fakes of A and B, then those of the real images and fakes that D_A and D_B see.
        warps = self.warps(step, count)
        x, y = "AB".index(self.own), "AB".index(self.other)
        fake, _, of_generators = self._generators_update(real, *warps[y : y + 1])
        past = (self.pool_A, self.pool_B)[y].exchange(fake, step)
        judged = (warps[2 + x][:count], warps[2 + y][count:]) if warps else ()
        return self.finish(of_generators | self._discriminators_update(real, past, *judged), step)

    def update_generators(self, real: torch.Tensor, *warps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        """Minimize the terms of equation 3 that need real X; return the fakes of Y, X restored by the cycle, the terms.

        ``warps``: that of the fakes of Y, if the discriminators see images warped.
        """
        x, y, weight = self.own, self.other, self.losses
        forth, back, judge = self._network(f"G_{x}{y}"), self._network(f"G_{y}{x}"), self._network(f"D_{y}")
        self.networks.D_A.requires_grad_(False)
        self.networks.D_B.requires_grad_(False)
        with self.autocast():
            fake = forth(real)
            restored = back(fake)
            terms = {
                f"adversarial_{x}{y}": generator_loss(judge(seen(fake, warps)), weight.adversarial),
                f"cycle_{x}": cycle_loss(restored, real),
            }
            weights = [weight.adversarial_weight, weight.cycle_weight]
            if weight.identity_weight > 0:
                terms[f"identity_{x}"] = identity_loss(back(real), real)
                weights.append(weight.identity_weight)
            if weight.structure != "none" and weight.structure_weight > 0:
                terms[f"structure_{x}{y}"] = structure_loss(fake, real, weight.structure)
                weights.append(weight.structure_weight)
            if weight.mask_weight > 0:
                terms[f"mask_{x}{y}"] = mask_loss(fake, real)
                weights.append(weight.mask_weight)
            loss = torch.stack([factor * term for factor, term in zip(weights, terms.values(), strict=True)]).sum()
        self.minimize(loss, self.optimizer_G)
        return fake.detach(), restored.detach(), detached(generators=loss, **terms)

    def update_discriminators(self, real: torch.Tensor, past: torch.Tensor, *warps: torch.Tensor) -> Losses:
        """Update D_X on real X, and D_Y on current or past fakes of Y; ``warps``: that of each, if they are warped."""
        own, other = self._network(f"D_{self.own}"), self._network(f"D_{self.other}")
        own.requires_grad_(True)
        other.requires_grad_(True)
        weight, form = self.losses.discriminator_weight, self.losses.adversarial
        with self.autocast():
            of_real = weight * real_loss(own(seen(real, warps[:1])), form)
            of_fakes = weight * fake_loss(other(seen(past, warps[1:])), form)
        self.minimize(of_real + of_fakes, self.optimizer_D)
        return detached(**{f"discriminator_{self.own}": of_real, f"discriminator_{self.other}": of_fakes})

    def _network(self, name: str) -> nn.Module:
        network: nn.Module = getattr(self.networks, name)
        return network


class OnlyAStep(_OneDomainStep):
    """The step of a site that has slices of A only."""

    own, other = "A", "B"


class OnlyBStep(_OneDomainStep):
    """The step of a site that has slices of B only."""

    own, other = "B", "A"
