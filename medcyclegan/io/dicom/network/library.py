"""Import pynetdicom, an optional dependency (extra ``pacs``), without its log messages, and send with it safely."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from medcyclegan.errors import MissingExtraError

__all__ = ["import_pynetdicom", "keep_responses"]


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


def keep_responses(association: Any) -> None:
    """Prevent the thread of a sending association from taking the responses to its requests.

    That thread looks for requests of the other node, and discards any other message that it finds. pynetdicom 3.0.4
    pauses it during a request, but a thread that has just passed the pause, and is not scheduled until the response is
    there, takes the response: the request then waits until its timeout. A node that only sends gets no requests.
    """
    messages = association.dimse
    receive = messages.get_msg
    messages.get_msg = lambda block=False: receive(block) if block else (None, None)
