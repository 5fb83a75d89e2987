"""Send a derived DICOM series to a DICOM node by C-STORE (DICOM PS3.4 annex B); extra ``pacs``."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medcyclegan.errors import WriteError
from medcyclegan.io.dicom.network.address import DicomNode, tls_context
from medcyclegan.io.dicom.network.library import import_pynetdicom, keep_responses
from medcyclegan.progress import progress_bar

__all__ = ["check_node", "send_series"]

_log = logging.getLogger(__name__)

#: CT Image Storage and MR Image Storage, the only classes of images that are written here (PS3.4 section B.5).
_IMAGES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4")
#: Basic Text SR Storage, the class of notes about refused series.
_NOTES = ("1.2.840.10008.5.1.4.1.1.88.11",)
#: Explicit, as in the files; implicit, which every node must accept, is converted when sending.
_SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 60
#: Warnings despite which an image is stored (PS3.4 table B.2-1).
_STORED = {0xB000: "elements were coerced", 0xB006: "elements were discarded", 0xB007: "it found it odd"}


def check_node(node: DicomNode) -> None:
    """Open an association with ``node`` and release it: checks that it answers and accepts CT or MR images from us.

    Raises :class:`~medcyclegan.errors.WriteError` with its answer, and
    :class:`~medcyclegan.errors.MissingExtraError` without pynetdicom.
    """
    with _association(node):
        pass


def send_series(folder: Path, node: DicomNode, *, repeatable: bool = True, notes: bool = False) -> int:
    """Send every image of the series in ``folder`` to ``node``; return their number.

    ``notes``: the series consists of text notes (:mod:`medcyclegan.io.dicom.write.note`) instead of images.

    If the node already has an image (repeating a translation gives the same UIDs), it decides whether to replace it.
    ``repeatable``: whether writing the series again gives the same UIDs, which is not so for a de-identified one.
    Raises :class:`~medcyclegan.errors.WriteError` at the first image that the node does not store.
    """
    files = sorted(folder.glob("*.dcm"))
    warned: set[int] = set()
    with _association(node, _NOTES if notes else _IMAGES) as association, progress_bar("sending", len(files)) as bar:
        for sent, file in enumerate(files):
            try:
                status = association.send_c_store(file).get("Status")
            except (RuntimeError, ValueError) as error:
                raise WriteError(f"{node}: {error}{_so_far(sent, files, repeatable)}") from error
            if status is None:
                raise WriteError(f"{node}: the connection broke or no answer came{_so_far(sent, files, repeatable)}")
            if status in _STORED:
                warned.add(status)
            elif status != 0:
                kept = _so_far(sent, files, repeatable)
                raise WriteError(f"{node}: it refused an image with status {status:04X}H{kept}")
            bar.advance()
    for status in sorted(warned):
        _log.warning("%s stored images with status %04XH: %s", node, status, _STORED[status])
    _log.info("%s stored %d images", node, len(files))
    return len(files)


def _so_far(sent: int, files: Sequence[Path], repeatable: bool) -> str:
    again = "send again, which duplicates nothing because the UIDs stay the same"
    if not repeatable:
        again = "remove these there before you send again, because the UIDs will differ"
    return f"; {sent} of {len(files)} images are stored there: check the node and {again}"


@contextlib.contextmanager
def _association(node: DicomNode, classes: Sequence[str] = _IMAGES) -> Iterator[Any]:
    """Open an association for objects of ``classes``, and release it; abort it on an error."""
    pynetdicom = import_pynetdicom("sending")
    context = tls_context(node)
    entity = pynetdicom.AE(ae_title=node.calling)
    entity.connection_timeout, entity.acse_timeout = _CONNECT_SECONDS, _ANSWER_SECONDS
    entity.dimse_timeout = entity.network_timeout = _ANSWER_SECONDS
    for sop_class in classes:
        entity.add_requested_context(sop_class, _SYNTAXES)
    connected: list[bool] = []
    try:
        association = entity.associate(
            node.host,
            node.port,
            ae_title=node.called,
            tls_args=None if context is None else (context, node.host),
            evt_handlers=[(pynetdicom.evt.EVT_CONN_OPEN, lambda _event: connected.append(True))],
        )
    except OSError as error:
        raise WriteError(f"{node}: {error.strerror or error}", remedy="check the host's name") from error
    if not association.is_established:
        raise WriteError(_refusal(node, association, connected=bool(connected), classes=classes))
    keep_responses(association)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()


def _refusal(node: DicomNode, association: Any, *, connected: bool, classes: Sequence[str]) -> str:
    """Describe why there is no association: no connection, a refusal, or no common class."""
    if not connected:
        return f"{node}: no connection ({_connection_error(node)}): check host, port{' and TLS' if node.tls else ''}"
    answer = association.acceptor.primitive
    if association.is_rejected:
        return (
            f"{node}: it refused the association ({answer.reason_str}): ask its administrator to admit {node.calling}, "
            "or name another title with ?calling=AET"
        )
    if association.rejected_contexts:
        taken = "no structured reports" if classes == _NOTES else "neither CT nor MR images"
        return f"{node}: it takes {taken}: ask its administrator, or name another node"
    return (
        f"{node}: it closed the connection without an answer: is this a DICOM port, and does it require TLS (?tls=on)?"
    )


def _connection_error(node: DicomNode) -> str:
    """Connect once more and return the reason, which pynetdicom does not report."""
    context = tls_context(node)
    try:
        with socket.create_connection((node.host, node.port), _CONNECT_SECONDS) as plain:
            if context is not None:
                with context.wrap_socket(plain, server_hostname=node.host):
                    pass
    except OSError as error:
        return str(getattr(error, "verify_message", "") or error.strerror or error)
    return "it succeeded only on a second attempt"
