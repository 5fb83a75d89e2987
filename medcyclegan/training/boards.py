"""Boards: where a run can be watched while it goes on, TensorBoard and MLflow."""

from __future__ import annotations

import logging
import types
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

__all__ = ["Board", "TensorBoard", "open_tensorboard"]

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
