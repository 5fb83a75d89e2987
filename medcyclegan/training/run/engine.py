"""The training loop: MONAI's trainer over prefetched batches."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil
import torch
from ignite.engine import Engine, Events
from monai.engines.trainer import Trainer

from medcyclegan.data import PairedSlices, Sampling, UnpairedSlices, open_reader, paired_slices, prefetched_batches
from medcyclegan.device import is_out_of_memory
from medcyclegan.errors import TrainingError, one_line
from medcyclegan.progress import Bar, progress_bar
from medcyclegan.training.monitor.metrics_log import MetricsLog
from medcyclegan.training.plan import Plan
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["run_engine"]


def run_engine(
    plan: Plan, step: CycleGANStep, first: int, handlers: Iterable[Any], metrics: MetricsLog, end: int | None = None
) -> None:
    """Run MONAI's trainer from step ``first`` to ``end``, with a progress bar on a terminal.

    ``end``: the number of steps after which it ends (default: the plan's). Raises
    :class:`~medcyclegan.errors.TrainingError` if the device runs out of memory.
    """
    end = plan.steps if end is None else end
    training = plan.config.training
    sampling = Sampling(
        *(plan.config.seed, training.batch_size, training.flip_probability, training.pairing),
        *(step.ranks.rank, step.ranks.world_size),
    )
    pin = step.device.type == "cuda"
    with (
        _opened(plan, step.device, sampling) as read_batch,
        contextlib.closing(prefetched_batches(read_batch, first, end, pin=pin)) as batches,
        progress_bar("training", plan.steps, done=first) as bar,
    ):
        trainer = Trainer(
            device=step.device,
            max_epochs=-(-plan.steps // plan.epoch_length),
            data_loader=batches,
            epoch_length=plan.epoch_length,
            iteration_update=step,
            handlers=list(handlers),
            decollate=False,
        )
        # Its messages repeat those of medcyclegan, and an error is reported where it is caught.
        trainer.logger = logging.Logger("medcyclegan.training.run.engine", logging.CRITICAL)
        trainer.state.iteration, trainer.state.epoch = first, first // plan.epoch_length

        @trainer.on(Events.ITERATION_COMPLETED)
        def _count(engine: Engine) -> None:
            _advance(bar, plan, step, engine.state.iteration, metrics)
            if engine.state.iteration == end:
                engine.terminate()

        try:
            trainer.run()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"the device's memory is too small ({one_line(error)}): lower training.batch_size or "
                "networks.generator.filters, or slice to a smaller size"
            ) from None


@contextlib.contextmanager
def _opened(
    plan: Plan, device: torch.device, sampling: Sampling
) -> Iterator[Callable[[int], tuple[torch.Tensor, ...]]]:
    """Yield the function that reads the batch of a step: unpaired slices of the store, or the plan's pairs.

    With ``losses.paired_weight``, the batch of unpaired slices is followed by one of pairs. A plan with slices of one
    domain reads only those.
    """
    if plan.pairs is not None:
        with plan.pairs.opened(device, sampling) as read_batch:
            yield read_batch
        return
    rows = [row for own in plan.training for row in own]
    reader = open_reader(plan.store, rows, device, plan.config.training.slices_on_device)
    if not all(plan.training):
        uniform = dataclasses.replace(sampling, pairing="uniform")
        yield UnpairedSlices(rows, rows, reader, uniform).batch_of_A
        return
    unpaired = UnpairedSlices(*plan.training, reader, sampling)
    if plan.config.losses.paired_weight == 0:
        yield unpaired.batch
        return
    paired = PairedSlices(paired_slices(plan.training), reader, sampling)
    yield lambda step: (*unpaired.batch(step), *paired.batch(step))


def _advance(bar: Bar, plan: Plan, step: CycleGANStep, done: int, metrics: MetricsLog) -> None:
    """Count a step, and show the latest losses and rates after each new row of the metrics."""
    bar.advance()
    if bar.shown and metrics.last and plan.is_due(done, plan.config.training.log_every):
        losses, rates = metrics.last, metrics.rates
        terms = f"G {losses['generators']:.3g}"
        of_discriminators = [value for name, value in losses.items() if name.startswith("discriminator_")]
        if of_discriminators:
            terms += f"  D {sum(of_discriminators):.3g}"
        bar.show(
            f"epoch {done / plan.epoch_length:.1f}  {terms}  "
            f"{rates['images_per_second']:.3g} images/s  {_memory(step.device) / 2**30:.1f} GiB"
        )


def _memory(device: torch.device) -> int:
    """Return the memory of this process in bytes: its peak on the CUDA device, or its resident memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)
