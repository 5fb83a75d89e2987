"""``metrics.jsonl``: losses, learning rates and speeds, a row per interval of steps; also sent to trackers."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from medcyclegan.errors import TrainingError, WriteError
from medcyclegan.storage import atomic_write
from medcyclegan.training.monitor.trackers import Tracker
from medcyclegan.training.plan import Plan
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["MetricsLog", "drop_rows_after"]

log = logging.getLogger(__name__)


class MetricsLog:
    """Collects the step's losses on the device and writes their means every ``log_every`` steps.

    The host waits for the device only when it reads them. A row holds ``step``, ``epoch``, the mean of each loss over
    the steps since the previous row, ``learning_rate``, ``seconds_per_step``, ``images_per_second`` (slices of A and B
    together) and ``data_wait``, the fraction of the time in which the step waited for its batch. With several
    processes, the means are over all of them and the first one writes.

    ``last``: the means of the last row. ``trackers``: other destinations of the rows, such as TensorBoard.
    """

    def __init__(self, file: Path, plan: Plan, step: CycleGANStep, trackers: Sequence[Tracker] = ()) -> None:
        self.last: dict[str, float] = {}
        self.rates: dict[str, float] = {}
        self._file = file
        self._plan = plan
        self._step = step
        self._trackers = trackers
        self._names: list[str] = []
        self._losses: list[torch.Tensor] = []
        self._timed, self._seconds, self._waited = 0, 0.0, 0.0
        self._all_seconds, self._all_waited = 0.0, 0.0
        self._started = time.perf_counter()
        self._waited_for_batch = 0.0

    @property
    def data_wait(self) -> float:
        """The fraction of this session's time in which completed steps waited for batches; 0 before the first step."""
        return (self._all_waited + self._waited) / max(self._all_seconds + self._seconds, 1e-9)

    def attach(self, engine: Engine) -> None:
        """Register with ``engine``."""
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._note_start)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._note_batch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note_step)

    def write_row(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row: ``step``, ``epoch`` and ``values``; also to the trackers.

        Raises :class:`~medcyclegan.errors.TrainingError` for a value that is not finite, and
        :class:`~medcyclegan.errors.WriteError` if the file cannot be written.
        """
        if not all(math.isfinite(value) for value in values.values()):
            raise _not_finite(step, [name for name, value in values.items() if not math.isfinite(value)])
        row = {"step": step, "epoch": round(step / self._plan.epoch_length, 4), **values}
        try:
            with self._file.open("ab") as file:
                file.write((json.dumps(row, allow_nan=False) + "\n").encode())
        except OSError as error:
            raise WriteError(f"{self._file} cannot be written: {error.strerror}") from None
        for tracker in self._trackers:
            for name, value in values.items():
                tracker.add_scalar(name, value, step)

    def check_finite(self, step: int) -> None:
        """Raise :class:`~medcyclegan.errors.TrainingError` if a loss since the last row is not finite."""
        if not self._losses:
            return
        wrong = ~torch.isfinite(torch.stack(self._losses)).cpu()
        if wrong.any():
            first = int(wrong.any(dim=1).nonzero()[0])
            terms = [name for name, bad in zip(self._names, wrong[first].tolist(), strict=True) if bad]
            raise _not_finite(step - len(self._losses) + first + 1, terms)

    def state_dict(self) -> dict[str, Any]:
        """Return the last row's means and the losses since, so that a resumed run writes the same next row.

        They are means over all processes, which must call this together.
        """
        if self._losses:
            self._step.ranks.average(self._losses)
        return {"names": self._names, "losses": [loss.cpu() for loss in self._losses], "last": dict(self.last)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        self._names = list(state["names"])
        self._losses = [loss.to(device) for loss in state["losses"]]
        self.last = dict(state["last"])

    def _note_start(self) -> None:
        self._started = time.perf_counter()

    def _note_batch(self) -> None:
        self._waited_for_batch = time.perf_counter() - self._started

    def _note_step(self, engine: Engine) -> None:
        step = engine.state.iteration
        self._names = list(engine.state.output)
        self._losses.append(torch.stack(list(engine.state.output.values())))
        if self._plan.is_due(step, self._plan.config.training.log_every):
            self.check_finite(step)
            means = torch.stack(self._losses).double().mean(dim=0)
            self._step.ranks.average([means])
            self.last = dict(zip(self._names, means.tolist(), strict=True))
            self._count_time()
            self.rates = self._mean_rates()
            if self._step.ranks.first:
                self.write_row(step, {**self.last, **self.rates})
            self._losses.clear()
            self._all_seconds, self._all_waited = self._all_seconds + self._seconds, self._all_waited + self._waited
            self._timed, self._seconds, self._waited = 0, 0.0, 0.0
        else:
            self._count_time()

    def _count_time(self) -> None:
        # Both together: an interrupted step counts in neither.
        self._seconds += time.perf_counter() - self._started
        self._waited += self._waited_for_batch
        self._timed += 1

    def _mean_rates(self) -> dict[str, float]:
        seconds = max(self._seconds / self._timed, 1e-9)
        return {
            # On a CUDA device it is a float32.
            "learning_rate": float(f"{float(self._step.optimizer_G.param_groups[0]['lr']):.7g}"),
            "seconds_per_step": round(seconds, 6),
            "images_per_second": round(2 * self._plan.config.training.batch_size / seconds, 4),
            "data_wait": round(self._waited / max(self._seconds, 1e-9), 6),
        }


def _not_finite(step: int, terms: list[str]) -> TrainingError:
    return TrainingError(
        f"step {step}: {', '.join(terms)} became NaN or infinite: start again with a lower training.learning_rate, or "
        "with training.precision=fp32"
    )


def drop_rows_after(file: Path, step: int) -> None:
    """Remove the rows of ``metrics.jsonl`` after ``step``, and a last line that is incomplete because of a kill."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if math.isfinite(row["step"]) and row["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, TypeError, KeyError):
            log.debug("%s: removed a line that is not a row", file)
    with atomic_write(file) as stream:
        stream.write("".join(kept).encode())
