"""Scores of the generators on held-out slices: cycle error, distances of distributions, and errors of true pairs."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan.data import SliceIndex, StackReader, row_pairs, shared_slices
from medcyclegan.errors import TrainingError
from medcyclegan.intensity import foreground_threshold
from medcyclegan.manifest import SliceRow
from medcyclegan.metrics import histogram_distance, mae, psnr, sliced_wasserstein, ssim
from medcyclegan.training.plan import Plan
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["HeldOut", "held_out_slices", "paired_places", "patches_of", "scores_of", "scores_of_inputs"]

Slices = NDArray[np.float32]

#: Patches: their edge in pixels, the stride, how many are compared, and along how many directions.
_EDGE, _STRIDE, _MOST_PATCHES, _PROJECTIONS = 8, 4, 8192, 128
_RANGE = (-1.0, 1.0)
_CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The slices for validation, of domains A and B.

    ``inputs``: slices of held-out volumes, ``(N, 1, H, W)``, possibly none.
    ``real`` ``(M, H, W)``: real slices that fakes of that domain should resemble, of held-out volumes if there are any,
    else of training volumes.
    ``levels``: the value above which ``real`` shows the patient, in each domain. ``pairs``: the places of two slices of
    one patient at one place on one grid: the first in A, the second in B, of ``inputs`` and of ``real``.
    ``input_levels``: that of ``inputs``, if they are not the slices of ``real``.
    """

    inputs: tuple[torch.Tensor, torch.Tensor]
    real: tuple[Slices, Slices]
    levels: tuple[float, float]
    pairs: tuple[tuple[int, int], ...]
    input_levels: tuple[float, float] | None = None


def held_out_slices(plan: Plan, device: torch.device = _CPU) -> HeldOut:
    """Return evenly spaced slices of the held-out volumes; of paired volumes, the same slices of both.

    If the plan's pairs have their own for validation, return those, computed on ``device``; ``real`` are their targets.
    """
    count = plan.config.validation.slices
    if plan.pairs is not None and plan.pairs.has_held_out:
        return _held_out_pairs(*plan.pairs.held_out(count, device))
    reader = StackReader(plan.store)
    places: tuple[list[tuple[SliceRow, int]], list[tuple[SliceRow, int]]] = ([], [])
    for first, second in paired_places(plan, count):
        places[0].append(first)
        places[1].append(second)
    pairs = tuple((n, n) for n in range(len(places[0])))
    inputs, real = [], []
    for own, training, held_out in zip(places, plan.training, plan.held_out, strict=True):
        if not own and held_out:
            index = SliceIndex(held_out)
            own += [index.find(number) for number in index.spread(count)]
        images = [reader.read_image(*place) for place in own]
        inputs.append(torch.stack(images) if images else torch.empty(0, 1, plan.size, plan.size))
        index = SliceIndex(training)
        shown = own or [index.find(number) for number in index.spread(count)]
        real.append(np.stack([reader.read(*place) for place in shown]))
    levels = (foreground_threshold(real[0], None), foreground_threshold(real[1], None))
    return HeldOut((inputs[0], inputs[1]), (real[0], real[1]), levels, pairs)


def _held_out_pairs(
    input_A: torch.Tensor, input_B: torch.Tensor, target_A: torch.Tensor, target_B: torch.Tensor
) -> HeldOut:
    real, shown = ((a[:, 0].numpy(), b[:, 0].numpy()) for a, b in ((target_A, target_B), (input_A, input_B)))
    levels, input_levels = ((foreground_threshold(a, None), foreground_threshold(b, None)) for a, b in (real, shown))
    return HeldOut((input_A, input_B), real, levels, tuple((n, n) for n in range(len(input_A))), input_levels)


def scores_of(step: CycleGANStep, slices: HeldOut) -> dict[str, float]:
    """Return the scores of both generators, in units of the scaled range [-1, 1] (PSNR in dB, SSIM at most 1).

    ``cycle_A``, ``cycle_B``: the mean absolute difference between slices and their reconstructions.
    Raises :class:`~medcyclegan.errors.TrainingError` for generators that return NaN.
    ``sliced_wasserstein_AB``: the distance of patches of fakes of B from those of real slices of B, inside the head;
    ``histogram_AB``: that of their intensities. ``mae_AB``, ``psnr_AB``, ``ssim_AB``, of true pairs: inside the
    union of both heads. ``_BA``: the same for fakes of A.
    """
    scores: dict[str, float] = {}
    model = step.model
    for source, (there, back) in enumerate(((model.G_AB, model.G_BA), (model.G_BA, model.G_AB))):
        inputs = slices.inputs[source]
        if not len(inputs):
            continue
        fake, scores[f"cycle_{'AB'[source]}"] = _translate(step, there, back, inputs)
        scores |= _compare(slices, source, fake)
    return scores


def scores_of_inputs(slices: HeldOut) -> dict[str, float]:
    """Return the scores of the inputs used as outputs, that is, of no translation."""
    scores: dict[str, float] = {}
    for source, inputs in enumerate(slices.inputs):
        if len(inputs):
            scores |= _compare(slices, source, inputs[:, 0].numpy())
    return scores


def _compare(slices: HeldOut, source: int, fake: Slices) -> dict[str, float]:
    """Return how fakes ``(N, H, W)`` of the held-out slices of domain ``source`` compare with real slices."""
    real, direction = slices.real[1 - source], "AB" if source == 0 else "BA"
    input_level = (slices.input_levels or slices.levels)[source]
    head = _heads(slices.inputs[source][:, 0].numpy(), input_level)
    real_head = _heads(real, slices.levels[1 - source])
    distance = sliced_wasserstein(patches_of(fake, head), patches_of(real, real_head), projections=_PROJECTIONS)
    scores = {
        f"sliced_wasserstein_{direction}": distance,
        f"histogram_{direction}": histogram_distance(fake[head], real[real_head]),
    }
    if slices.pairs:
        own, other = (
            list(numbers) for numbers in zip(*(pair[:: 1 - 2 * source] for pair in slices.pairs), strict=True)
        )
        scores |= _pair_scores(fake[own], real[other], head[own] | real_head[other], direction)
    return scores


def patches_of(images: Slices, heads: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return patches of ``(N, H, W)`` at least half of which is in the head, as rows ``(P, 64)``; at most 8,192."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (_EDGE, _EDGE), (1, 2))[:, ::_STRIDE, ::_STRIDE]
    inside = np.lib.stride_tricks.sliding_window_view(heads, (_EDGE, _EDGE), (1, 2))[:, ::_STRIDE, ::_STRIDE]
    places = np.argwhere(inside.mean(axis=(3, 4)) >= 0.5)
    if not len(places):
        places = np.argwhere(np.ones(inside.shape[:3], dtype=np.bool_))
    chosen = places[np.linspace(0, len(places) - 1, min(len(places), _MOST_PATCHES)).round().astype(int)]
    patches: NDArray[np.float32] = windows[tuple(chosen.T)].reshape(len(chosen), -1)
    return patches


def _translate(
    step: CycleGANStep, there: torch.nn.Module, back: torch.nn.Module, inputs: torch.Tensor
) -> tuple[Slices, float]:
    """Return the fakes ``(N, H, W)`` of inputs ``(N, 1, H, W)`` and their mean cycle error; slice by slice."""
    fakes, errors = [], []
    with step.evaluating():
        for image in inputs:
            real = image[None].to(step.device, step.dtype)
            fake = there(real)
            errors.append((back(fake).float() - real.float()).abs().mean())
            fakes.append(fake[0, 0].float().cpu().numpy())
    if not np.isfinite(fakes).all():
        raise TrainingError(
            "the generators return NaN or infinite slices: start again with a lower training.learning_rate, or with "
            "training.precision=fp32"
        )
    return np.stack(fakes), float(torch.stack(errors).double().mean())


def _pair_scores(fake: Slices, real: Slices, heads: NDArray[np.bool_], direction: str) -> dict[str, float]:
    """Return MAE, PSNR and SSIM of pairs ``(N, H, W)``; SSIM slice by slice, since they need not be neighbors."""
    ssims = [
        ssim(a[None], b[None], value_range=_RANGE, mask=m[None]) for a, b, m in zip(fake, real, heads, strict=True)
    ]
    return {
        f"mae_{direction}": mae(fake, real, heads),
        # The PSNR of equal images is infinite, but a row of metrics.jsonl holds finite numbers.
        f"psnr_{direction}": min(psnr(fake, real, value_range=_RANGE, mask=heads), 100.0),
        f"ssim_{direction}": float(np.mean(ssims)),
    }


def _heads(images: Slices, level: float) -> NDArray[np.bool_]:
    """Return where ``(N, H, W)`` show the patient; an image without a head counts as a whole."""
    heads = np.stack([ndimage.binary_fill_holes(image > level) for image in images])
    heads[~heads.any(axis=(1, 2))] = True
    return heads


def paired_places(plan: Plan, count: int) -> list[tuple[tuple[SliceRow, int], tuple[SliceRow, int]]]:
    """Return evenly spaced pairs of places (row, place in its stack) in A and B: one patient, one position."""
    found = [
        ((pair[0], place_a), (pair[1], place_b))
        for pair in row_pairs(*plan.held_out)
        for place_a, place_b in shared_slices(pair)
    ]
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [found[n] for n in chosen]
