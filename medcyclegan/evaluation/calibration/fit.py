"""Fit the error head: the network that predicts the expected absolute error of a translation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from medcyclegan.evaluation.calibration.measure import FittingSlices
from medcyclegan.networks import ErrorHead
from medcyclegan.progress import progress_bar

__all__ = ["fit_error_head"]

_BATCH, _LEARNING_RATE = 4, 2e-3
#: Pixels of the parts of slices on which a step is computed.
_CROP = 160
#: The share of steps in which the learning rate rises from 0.
_WARMUP = 0.05


def fit_error_head(cases: Sequence[FittingSlices], *, steps: int, seed: int) -> ErrorHead:
    """Fit an error head to the errors of ``cases``, on the CPU.

    The loss is the negative logarithm of the likelihood of a Laplace distribution, ``|e| / b + log b`` (Kendall and Gal
    2017, arXiv 1703.04977), whose best ``b`` is the expected absolute error. Slices are mirrored at random.
    """
    random = np.random.default_rng(seed)
    signals, errors, weights = (torch.cat([getattr(c, name) for c in cases]) for name in ("signals", "error", "weight"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ErrorHead(signals.shape[1]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(head.parameters(), lr=_LEARNING_RATE)
    order: list[int] = []
    with progress_bar("fitting the error head", steps) as bar:
        for step in range(steps):
            if len(order) < _BATCH:
                order += random.permutation(len(signals)).tolist()
            chosen, order = order[:_BATCH], order[_BATCH:]
            batch = _cropped([values[chosen].float() for values in (signals, errors, weights)], random)
            if random.random() < 0.5:
                batch = [values.flip(3) for values in batch]
            for group in optimizer.param_groups:
                group["lr"] = _LEARNING_RATE * _schedule(step / steps)
            expected = head(batch[0].contiguous(memory_format=torch.channels_last))
            loss = ((batch[1] / expected + expected.log()) * batch[2]).sum() / batch[2].sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            bar.advance()
    # The weights are stored in half precision: what is calibrated is what is used.
    return head.half().float().to(memory_format=torch.contiguous_format).eval().requires_grad_(False)


def _cropped(batch: list[torch.Tensor], random: np.random.Generator) -> list[torch.Tensor]:
    """Return the same random part of at most 160 x 160 pixels of signals, errors and weights (at half resolution)."""
    signals, errors, weights = batch
    rows, columns = (min(_CROP // 2, n) for n in errors.shape[-2:])
    top, left = (int(random.integers(0, n - k + 1)) for n, k in zip(errors.shape[-2:], (rows, columns), strict=True))
    fine = signals[..., 2 * top : 2 * (top + rows), 2 * left : 2 * (left + columns)]
    return [fine, *(values[..., top : top + rows, left : left + columns] for values in (errors, weights))]


def _schedule(share: float) -> float:
    """Return the learning rate after a share of the steps: a linear rise, then a cosine to 0."""
    if share < _WARMUP:
        return share / _WARMUP
    return 0.5 * (1 + math.cos(math.pi * (share - _WARMUP) / (1 - _WARMUP)))
