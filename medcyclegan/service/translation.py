"""Translate the studies of the queue one after the other, in a process that keeps the model loaded."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from medcyclegan.config import Serving
from medcyclegan.errors import MedCycleGANError
from medcyclegan.inference import InferenceOptions
from medcyclegan.service.plan import Planned, Planner
from medcyclegan.service.queue import Delivery, Queue
from medcyclegan.service.worker import SeriesJob, SeriesResult, StudyJob, translate_study
from medcyclegan.workers import WorkerProcess

__all__ = ["Translator"]

_log = logging.getLogger(__name__)

_RETRY_S, _POLL_S = 10.0, 0.2


class Translator:
    """Moves studies from ``waiting`` to ``sending``; ``counts`` says what became of their series."""

    def __init__(self, queue: Queue, planner: Planner, models: Sequence[str], computing: InferenceOptions) -> None:
        self._queue, self._planner = queue, planner
        self._models, self._computing = tuple(models), computing
        self._attempts: Counter[str] = Counter()
        self._process: WorkerProcess[StudyJob, list[SeriesResult]] | None = None
        self.counts: Counter[str] = Counter()

    @property
    def _serving(self) -> Serving:
        return self._planner.serving

    def run(self, stop: threading.Event) -> None:
        """Translate until ``stop``; the study that is being translated then is translated at the next start."""
        try:
            while not stop.wait(0.1):
                names = self._queue.names("waiting")
                if names and not self._translate(names[0], stop):
                    stop.wait(_RETRY_S)
        finally:
            self._end_process()

    def _translate(self, name: str, stop: threading.Event) -> bool:
        """Translate one study and move it on; return False if that is impossible now (a full disk)."""
        try:
            planned = self._planner.plan(self._queue, name)
            for each in planned:
                if each.ignored:
                    self._count("ignored", name, each, f"ignored: {each.ignored}")
            chosen = [each for each in planned if not each.ignored]
            results = self._run(name, chosen, stop) if chosen else []
            if results is None:
                return True
            deliveries = self._deliveries(name, chosen, results)
            if deliveries:
                self._queue.translated(name, deliveries)
            else:
                self._queue.remove("waiting", name)
        except MedCycleGANError as error:
            _log.error("study %s: %s; trying again in %g s", name, error, _RETRY_S)
            return False
        self._attempts.pop(name, None)
        return True

    def _run(self, name: str, chosen: Sequence[Planned], stop: threading.Event) -> list[SeriesResult] | None:
        """Translate in the other process; return None if that failed, or was stopped."""
        folder = self._queue.path("waiting", name)
        job = StudyJob(
            images=folder / "in",
            out=folder / "out",
            series=tuple(_series_job(folder, each) for each in chosen),
            models=self._models,
            computing=self._computing,
            notes=self._serving.note_refusals,
            lock=self._queue.folder / "translating",
        )
        if self._process is None:
            self._process = WorkerProcess(translate_study, torch.get_num_threads(), 0, job)
        else:
            self._process.give(0, job)
        try:
            results = self._receive(stop)
        except TimeoutError:
            self._failed(name, f"its translation took more than {self._serving.limits.translation_s:g} s")
            return None
        except (MemoryError, OSError, RuntimeError) as error:  # an unexpected error in the process, which continues
            self._failed(name, f"its translation failed ({_type_of(error)})")
            return None
        if results == []:
            self._failed(name, "the process that translates it crashed")
        return results[0] if results else None

    def _receive(self, stop: threading.Event) -> list[list[SeriesResult]] | None:
        """Wait for the results; kill the process if they take too long (TimeoutError) or on ``stop`` (None)."""
        assert self._process is not None  # noqa: S101
        deadline = time.monotonic() + self._serving.limits.translation_s
        while True:
            try:
                results = self._process.receive(_POLL_S)
            except TimeoutError:
                if time.monotonic() < deadline and not stop.is_set():
                    continue
                self._process.kill()
                self._end_process()
                if stop.is_set():
                    return None
                raise
            if not results:
                self._end_process()
            return results

    def _failed(self, name: str, reason: str) -> None:
        """Count an attempt; give the study up after the last one."""
        self._attempts[name] += 1
        last = self._attempts[name] >= self._serving.limits.translation_attempts
        _log.error("study %s: %s; %s", name, reason, "given up, see failed/" if last else "trying again")
        if last:
            self.counts["failed"] += 1
            del self._attempts[name]
            self._queue.fail("waiting", name)

    def _deliveries(self, name: str, chosen: Sequence[Planned], results: Sequence[SeriesResult]) -> list[Delivery]:
        """Report each result; return what is to be sent."""
        deliveries = []
        for each, result in zip(chosen, results, strict=True):
            if result.refused:
                self._count("refused", name, each, f"refused: {result.refused}")
                if result.note is not None:
                    deliveries.append(Delivery(f"out/{result.note.name}", each.address, "", is_note=True))
            else:
                said = f"translated in {result.seconds:.1f} s, verdict {result.verdict}"
                self._count("translated", name, each, said)
                deliveries.append(Delivery(f"out/{each.name}", each.address, each.digest))
        return deliveries

    def _count(self, what: str, name: str, each: Planned, said: str) -> None:
        self.counts[what] += 1
        modality = each.series.modality if each.series.modality in ("CT", "MR") else "other"
        level = logging.WARNING if what == "refused" else logging.INFO
        _log.log(
            level, "study %s: series %s (%s, %d images) %s", name, each.name, modality, len(each.series.files), said
        )

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


def _series_job(folder: Path, each: Planned) -> SeriesJob:
    return SeriesJob(each.series.uid, each.series.files, folder / "out" / each.name, each.to, each.allow_gap)


def _type_of(error: Exception) -> str:
    """Name an error; its text may contain header texts. An error of the process is the last line of a traceback."""
    if isinstance(error, MemoryError | OSError):
        return type(error).__name__
    return str(error).strip().splitlines()[-1].partition(":")[0] if str(error).strip() else type(error).__name__
