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
    slices = [(case, number) for case in cases for number in range(len(case.signals))]
    rows, columns = (min(_CROP, *(case.signals.shape[axis] for case in cases)) // 2 for axis in (2, 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ErrorHead(cases[0].signals.shape[1])
    _arrange(head, torch.channels_last)
    optimizer = torch.optim.Adam(head.parameters(), lr=_LEARNING_RATE)
    order: list[int] = []
    with progress_bar("fitting the error head", steps) as bar:
        for step in range(steps):
            if len(order) < _BATCH:
                order += random.permutation(len(slices)).tolist()
            chosen, order = order[:_BATCH], order[_BATCH:]
            parts = [_random_part(*slices[place], (rows, columns), random) for place in chosen]
            batch = [torch.stack(values).float() for values in zip(*parts, strict=True)]
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
    _arrange(head, torch.contiguous_format)
    return head.half().float().eval().requires_grad_(False)


def _arrange(head: ErrorHead, order: torch.memory_format) -> None:
    """Store the weights in this order of memory: channels last is faster on a CPU, contiguous ones can be saved."""
    for parameter in head.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=order)


def _random_part(
    case: FittingSlices, number: int, shape: tuple[int, int], random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a random part of one slice: signals ``(2, 2 h, 2 w)``, and error and weight ``(1, h, w)``.

    ``shape``: (h, w). Large fields of view have larger canvases than others.
    """
    top, left = (int(random.integers(0, n - k + 1)) for n, k in zip(case.error.shape[2:], shape, strict=True))
    part = slice(top, top + shape[0]), slice(left, left + shape[1])
    fine = slice(2 * top, 2 * (top + shape[0])), slice(2 * left, 2 * (left + shape[1]))
    return case.signals[number][:, *fine], case.error[number][:, *part], case.weight[number][:, *part]


def _schedule(share: float) -> float:
    """Return the learning rate after a share of the steps: a linear rise, then a cosine to 0."""
    if share < _WARMUP:
        return share / _WARMUP
    return 0.5 * (1 + math.cos(math.pi * (share - _WARMUP) / (1 - _WARMUP)))
