"""One update of both generators on pairs of slices: the step of ``pretrain``."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from torch.nn import functional

from medcyclegan.training.update.losses import generator_loss
from medcyclegan.training.update.step import CycleGANStep, Losses, detached
from medcyclegan.training.update.warps import seen

__all__ = ["PairedStep", "gradient_loss", "ssim_loss"]

#: SSIM: the edge of its window in pixels, the two constants (Wang et al. 2004, section III.B) and the range of values.
_WINDOW, _K1, _K2, _RANGE = 7, 0.01, 0.03, 2.0


class PairedStep(CycleGANStep):
    """The supervised update of both generators, each on its own direction: no cycle and no identity term.

    A batch holds ``input_A``, ``input_B``, ``target_A`` and ``target_B``, each ``(N, 1, H, W)`` in [-1, 1], all of the
    same places of the same patients; then, if lesions are weighted, the weight of each pixel in the L1 terms.
    ``config.pretraining`` has the weights of the terms. With an adversarial term the
    discriminators are trained as in :class:`CycleGANStep`, on targets and fakes; without one they are not run.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weights = self.config.pretraining
        self._generators_update = self.execution.of(self.update_on_pairs)

    def __call__(self, engine: Engine, batch: tuple[torch.Tensor, ...]) -> Losses:
        """Update the generators, and with an adversarial term the discriminators, on one batch of pairs."""
        images = [image.to(self.device, self.dtype, non_blocking=True) for image in batch]
        step = engine.state.iteration - 1
        warps = self.warps(step, len(images[0]))
        fake_A, fake_B, losses = self._generators_update(*images, *warps[:2])
        if self.trains_discriminators:
            past_A, past_B = self.pool_A.exchange(fake_A, step), self.pool_B.exchange(fake_B, step)
            losses = losses | self._discriminators_update(images[2], images[3], past_A, past_B, *warps[2:])
        return self.finish(losses, step)

    def update_on_pairs(
        self,
        input_A: torch.Tensor,
        input_B: torch.Tensor,
        target_A: torch.Tensor,
        target_B: torch.Tensor,
        *more: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        """Minimize the distance of G_AB(A) from B and of G_BA(B) from A; return both fakes and the terms.

        ``more``: the weights of the pixels, if there are any; then the warps of the fakes of A and of B for the
        discriminators, if they see images warped.
        """
        pixels, warps = more[: len(more) % 2], more[len(more) % 2 :]  # warps are two or none
        networks, weights, form = self.networks, self.weights, self.losses.adversarial
        networks.D_A.requires_grad_(False)
        networks.D_B.requires_grad_(False)
        with self.autocast():
            fake_B, fake_A = networks.G_AB(input_A), networks.G_BA(input_B)
        # Outside autocast: 8 bits of mantissa are too few for differences and variances.
        terms = self._distances("AB", fake_B, target_B, *pixels) | self._distances("BA", fake_A, target_A, *pixels)
        if self.trains_discriminators:
            with self.autocast():
                terms["adversarial_AB"] = generator_loss(networks.D_B(seen(fake_B, warps[1:])), form)
                terms["adversarial_BA"] = generator_loss(networks.D_A(seen(fake_A, warps[:1])), form)
        weight_of = {
            "l1": weights.l1_weight,
            "gradient": weights.gradient_weight,
            "ssim": weights.ssim_weight,
            "adversarial": weights.adversarial_weight,
        }
        loss = torch.stack([weight_of[name[:-3]] * term for name, term in terms.items()]).sum()
        self.minimize(loss, self.optimizer_G)
        return fake_A.detach(), fake_B.detach(), detached(generators=loss, **terms)

    def _distances(self, direction: str, fake: torch.Tensor, target: torch.Tensor, *pixels: torch.Tensor) -> Losses:
        """Return the terms that compare a fake with its target; L1 always, because it is logged."""
        fake = fake.to(self.dtype)
        errors = functional.l1_loss(fake, target, reduction="none" if pixels else "mean")
        terms = {f"l1_{direction}": (errors * pixels[0]).mean() if pixels else errors}
        if self.weights.gradient_weight > 0:
            terms[f"gradient_{direction}"] = gradient_loss(fake, target)
        if self.weights.ssim_weight > 0:
            terms[f"ssim_{direction}"] = ssim_loss(fake, target)
        return terms

    def warps(self, step: int, count: int) -> tuple[torch.Tensor, ...]:
        """Return the warps of what the discriminators see; none without an adversarial term."""
        return super().warps(step, count) if self.trains_discriminators else ()

    @property
    def trains_discriminators(self) -> bool:
        """Whether there is an adversarial term."""
        return self.weights.adversarial_weight > 0


def gradient_loss(fake: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of the derivatives of ``(N, 1, H, W)`` along rows plus that along columns.

    The gradient difference loss of Mathieu et al. 2016 (arXiv 1511.05440, equation 6), with signed differences.
    """
    rows = functional.l1_loss(fake.diff(dim=2), target.diff(dim=2))
    columns = functional.l1_loss(fake.diff(dim=3), target.diff(dim=3))
    return rows + columns


def ssim_loss(fake: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return 1 - SSIM of ``(N, 1, H, W)`` in [-1, 1], with uniform windows of 7 x 7 pixels (Wang et al. 2004).

    The mean is over windows that lie inside the image.
    """
    # SSIM compares the means of values that start at 0.
    x, y = fake + _RANGE / 2, target + _RANGE / 2
    mean_x, mean_y = _mean(x), _mean(y)
    variances = _mean(x * x) - mean_x**2 + _mean(y * y) - mean_y**2
    covariance = _mean(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * _RANGE) ** 2, (_K2 * _RANGE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return 1.0 - (luminance * structure).mean()


def _mean(values: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(values, _WINDOW, stride=1)
