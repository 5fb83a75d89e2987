"""Experiment trackers that show a run while it trains: TensorBoard and MLflow."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from medcyclegan.errors import TrainingError, one_line
from medcyclegan.training.plan import Plan

__all__ = ["TensorBoard", "Tracker", "mlflow_handlers", "open_trackers"]

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Shows scalars and pictures of a run."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add a scalar of ``step``."""

    def add_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Add a picture of ``step``."""

    def close(self) -> None:
        """Write what is still buffered."""


class TensorBoard:
    """A TensorBoard event file in ``folder`` that continues after ``step``."""

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.summary.writer import event_file_writer
        from torch.utils.tensorboard import SummaryWriter

        # The file's name contains the host name, and run folders are often shared: use a neutral name instead.
        its_socket = event_file_writer.socket
        event_file_writer.socket = types.SimpleNamespace(gethostname=lambda: "medcyclegan")
        try:
            self._writer = SummaryWriter(str(folder), purge_step=step + 1)
        finally:
            event_file_writer.socket = its_socket

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add a scalar of ``step``."""
        self._writer.add_scalar(name, value, step)

    def add_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Add a picture of ``step``."""
        self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still buffered."""
        self._writer.close()


@contextlib.contextmanager
def open_trackers(folder: Path, step: int) -> Iterator[list[Tracker]]:
    """Yield the trackers of a run: a TensorBoard writer into ``folder`` that continues after ``step``, if installed."""
    try:
        tracker = TensorBoard(folder, step)
    except ImportError:
        log.info("TensorBoard is not installed (pip install tensorboard): metrics.jsonl and panels/ hold the same data")
        yield []
        return
    with contextlib.closing(tracker):
        yield [tracker]


def mlflow_handlers(run_name: str, plan: Plan, means: Callable[[], Mapping[str, float]]) -> list[Any]:
    """Return MONAI's handler for MLflow if it is installed and ``MLFLOW_TRACKING_URI`` names a server.

    It logs ``means()``, those of the last row of metrics, every ``training.log_every`` steps, in the experiment
    ``medcyclegan``; a resumed session is a new MLflow run of the same name. Raises
    :class:`~medcyclegan.errors.TrainingError` for a server that does not answer.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        return []
    if importlib.util.find_spec("mlflow") is None:
        log.warning("MLFLOW_TRACKING_URI is set, but MLflow is not installed: metrics.jsonl alone is written")
        return []
    # MLflow sends usage data to its developers unless this is set.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.exceptions import MlflowException
    from monai.handlers.mlflow_handler import MLFlowHandler

    try:
        handler = MLFlowHandler(
            tracking_uri=address,
            iteration_log=lambda engine, step: plan.is_due(step, plan.config.training.log_every),
            epoch_log=False,
            output_transform=lambda losses: dict(means()),
            experiment_name="medcyclegan",
            run_name=run_name,
            close_on_complete=True,
        )
        handler.client.search_experiments(max_results=1)
    except (MlflowException, ValueError) as error:
        raise TrainingError(
            f"MLflow at {address} does not accept the run ({one_line(error)}): start its server, or unset "
            "MLFLOW_TRACKING_URI"
        ) from None
    return [handler]
