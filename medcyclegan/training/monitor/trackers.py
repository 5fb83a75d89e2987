"""Boards: where a run can be watched while it goes on, TensorBoard and MLflow."""

from __future__ import annotations

import importlib.util
import logging
import os
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from medcyclegan.errors import TrainingError, one_line

__all__ = ["Board", "TensorBoard", "mlflow_handlers", "open_tensorboard"]

log = logging.getLogger(__name__)


class Board(Protocol):
    """What shows scalars and pictures of a run."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Show a number of ``step``."""

    def add_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Show a picture of ``step``."""

    def close(self) -> None:
        """Write what is still held back."""


class TensorBoard:
    """An event file in ``folder`` that goes on after ``step``."""

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.summary.writer import event_file_writer
        from torch.utils.tensorboard import SummaryWriter

        # The file's name holds the machine's name, and a run folder is often shared: a neutral one in its place.
        its_socket = event_file_writer.socket
        event_file_writer.socket = types.SimpleNamespace(gethostname=lambda: "medcyclegan")
        try:
            self._writer = SummaryWriter(str(folder), purge_step=step + 1)
        finally:
            event_file_writer.socket = its_socket

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Show a number of ``step``."""
        self._writer.add_scalar(name, value, step)

    def add_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Show a picture of ``step``."""
        self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()


def open_tensorboard(folder: Path, step: int) -> Board | None:
    """Return a TensorBoard writer into ``folder`` that goes on after ``step``; None without TensorBoard."""
    try:
        return TensorBoard(folder, step)
    except ImportError:
        log.info("TensorBoard is not installed: metrics.jsonl and panels/ hold all of it (pip install tensorboard)")
        return None


def mlflow_handlers(
    run_name: str, is_due: Callable[[int], bool], means: Callable[[], Mapping[str, float]]
) -> list[Any]:
    """Return MONAI's handler for MLflow where it is installed and ``MLFLOW_TRACKING_URI`` names a server, else nothing.

    It logs ``means()``, those of the last row, after the steps that are due, in the experiment ``medcyclegan``; a
    resumed session is a new MLflow run of the same name. Raises
    :class:`~medcyclegan.errors.TrainingError` for a server that does not answer.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        return []
    if importlib.util.find_spec("mlflow") is None:
        log.warning("MLFLOW_TRACKING_URI is set, but MLflow is not installed: metrics.jsonl holds all of it")
        return []
    # MLflow reports its use to its makers unless told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.exceptions import MlflowException
    from monai.handlers.mlflow_handler import MLFlowHandler

    try:
        handler = MLFlowHandler(
            tracking_uri=address,
            iteration_log=lambda engine, step: is_due(step),
            epoch_log=False,
            output_transform=lambda losses: dict(means()),
            experiment_name="medcyclegan",
            run_name=run_name,
            close_on_complete=True,
        )
        handler.client.search_experiments(max_results=1)
    except (MlflowException, ValueError) as error:
        raise TrainingError(
            f"MLflow at {address} does not take the run ({one_line(error)}): start its server, or unset "
            "MLFLOW_TRACKING_URI"
        ) from None
    return [handler]
