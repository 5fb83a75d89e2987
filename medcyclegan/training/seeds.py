"""Train with several seeds for part of the steps, and continue with the best of them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

from medcyclegan.errors import TrainingError
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.training.monitor.health import read_reference
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.agreement import agreement_of_contrasts
from medcyclegan.training.run.folder import RunFolder
from medcyclegan.training.update.distributed import Ranks

__all__ = ["find_best_seed", "steps_of_trial"]

log = logging.getLogger(__name__)

#: The part of the steps after which the seeds are compared.
_TRIAL = 0.25


def steps_of_trial(plan: Plan) -> int:
    """Return the number of steps after which the seeds are compared: a quarter of all."""
    return max(1, round(_TRIAL * plan.steps))


def find_best_seed(plan: Plan, count: int, train_trial: Callable[[Plan], Path], ranks: Ranks) -> Path:
    """Train ``count`` trials with consecutive seeds; return the folder of the run whose contrasts agree best.

    ``train_trial``: trains a plan for :func:`steps_of_trial` steps and returns the run's folder. The first of several
    processes compares the runs. Raises :class:`~medcyclegan.errors.TrainingError` if a trial ends early.
    """
    references = {"AB": read_reference(plan, 0), "BA": read_reference(plan, 1)}
    first = plan.config.seed
    found: list[tuple[float, Path]] = []
    for seed in range(first, first + count):
        log.info("seed %d (%d of %d): %d steps", seed, seed - first + 1, count, steps_of_trial(plan))
        trial = dataclasses.replace(plan, config=plan.config.model_copy(update={"seed": seed}))
        try:
            run = RunFolder(train_trial(trial))
        except TrainingError as error:
            raise TrainingError(
                f"{error}; that trains seed {seed} only: repeat the command to compare all {count} seeds"
            ) from None
        if ranks.first:
            # The best validated weights may be of an early step: what counts is where the training leads.
            last = run.model_last if run.model_last.is_dir() else run.model
            found.append((agreement_of_contrasts(trial, ModelBundle.load(last), references), run.path))
    for seed, (agreement, path) in enumerate(found, start=first):
        log.info("seed %d: agreement of contrasts %.3f (%s)", seed, agreement, path)
    return Path(ranks.from_first(str(max(found, key=lambda entry: entry[0])[1]) if ranks.first else ""))
