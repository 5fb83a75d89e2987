"""A DICOM node of this package that runs in the test's process, and what the package logs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.dicom_studies import is_empty, wait_until, write_rules

from medcyclegan.service.node import Service, ServiceOptions, running_service


class Lines(logging.Handler):
    """Keeps the messages of the package."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def log_lines() -> Iterator[list[str]]:
    """Yield the list of all messages that the package logs meanwhile."""
    handler, logger = Lines(), logging.getLogger("medcyclegan")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class Running:
    """A running service, its ``port``, and its ``queue`` folder."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.port, self.queue = service.receiver.port, service.queue.folder

    def series(self) -> int:
        """Return the number of series about which was decided."""
        return sum(self.service.translator.counts[what] for what in ("translated", "ignored", "refused", "failed"))

    def wait_idle(self, series: int, seconds: float = 240) -> None:
        """Wait until ``series`` in all were decided upon, and nothing is left to send."""
        wait_until(lambda: self.series() >= series and is_empty(self.queue), seconds)


@contextlib.contextmanager
def service_of(
    folder: Path, send_to: str, rules: dict[str, Any] | None = None, *, listen_port: int = 0, **options: Any
) -> Iterator[Running]:
    """Run a service with the model and queue in ``folder``; ``rules``: arguments of :func:`write_rules`."""
    chosen = ServiceOptions(
        models=[str(folder / "model")],
        send_to=send_to,
        queue=folder / "queue",
        port=listen_port,
        rules=write_rules(folder / "rules.yaml", **(rules or {})),
        **options,
    )
    with running_service(chosen) as service:
        yield Running(service)
