"""Import pynetdicom, an optional dependency (extra ``pacs``), without its log messages."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from medcyclegan.errors import MissingExtraError

__all__ = ["import_pynetdicom"]


def import_pynetdicom(needed_by: str) -> Any:
    """Return the module pynetdicom; ``needed_by`` says what needs it.

    Raises :class:`~medcyclegan.errors.MissingExtraError` if it is not installed.
    """
    try:
        pynetdicom = importlib.import_module("pynetdicom")
    except ImportError:
        raise MissingExtraError(
            f"pynetdicom is not installed, which {needed_by} needs",
            remedy="install the extra with pip install 'medcyclegan[pacs]'",
        ) from None
    # Failures that it logs are reported by the callers in one line, and its messages may contain header text.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    return pynetdicom
