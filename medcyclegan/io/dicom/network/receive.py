"""Receive DICOM objects by C-STORE and answer C-ECHO (DICOM PS3.4 annexes A and B); extra ``pacs``.

Objects are handed over as received: their bytes, and the few header fields that say where they belong.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from medcyclegan.errors import WriteError
from medcyclegan.io.dicom.network.library import import_pynetdicom
from medcyclegan.io.dicom.network.listener import Listening, build_server
from medcyclegan.io.dicom.summary import count_pixels
from medcyclegan.io.dicom.values import PARSE_ERRORS, text

__all__ = ["Peer", "ReceivedObject", "Receiver", "Status"]

_log = logging.getLogger(__name__)

#: CT, enhanced CT, MR and enhanced MR images: the only classes that are translated (PS3.4 section B.5).
_IMAGES = tuple(f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("2", "2.1", "4", "4.1"))
#: Explicit and implicit little endian.
_UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
#: RLE, JPEG lossless, JPEG-LS, JPEG 2000; most need the extra ``jpeg``.
_COMPRESSED = tuple(f"1.2.840.10008.1.2.{end}" for end in ("5", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91"))
_VERIFICATION = "1.2.840.10008.1.1"
_LONGEST_UID = 64
_NEGOTIATION_S = 10.0


class Status(enum.IntEnum):
    """The status of a C-STORE response (PS3.4 section B.2.3)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


@dataclasses.dataclass(frozen=True)
class Peer:
    """The other end of one association, and the title by which it calls; equal if the association is the same."""

    title: str
    association: Any

    def is_open(self) -> bool:
        """Whether more objects may arrive."""
        return bool(self.association.is_alive()) and not self.was_released()

    def was_released(self) -> bool:
        """Whether the association ended in the regular way, after all objects were sent."""
        return bool(self.association.is_released)


@dataclasses.dataclass(frozen=True)
class ReceivedObject:
    """An object as received. ``content``: a complete DICOM file. ``is_image``: a CT or MR image of ``pixels``."""

    content: bytes
    study_uid: str
    series_uid: str
    instance_uid: str
    is_image: bool
    pixels: int = 0


class Receiver:
    """A DICOM node that listens while it exists; ``port`` is the one that it got."""

    def __init__(self, listening: Listening, store: Callable[[ReceivedObject, Peer], Status]) -> None:
        """Begin to listen; ``store`` is called for each object, in a thread of its association.

        Raises :class:`~medcyclegan.errors.WriteError` if the port is taken, and
        :class:`~medcyclegan.errors.MissingExtraError` without pynetdicom.
        """
        pynetdicom = import_pynetdicom("receiving")
        self._store = store
        self._entity = _build_entity(pynetdicom, listening)
        events = pynetdicom.evt
        handlers = [
            (events.EVT_CONN_OPEN, lambda event: listening.largest.guard(event.assoc)),
            (events.EVT_C_STORE, self._answer),
            (events.EVT_C_ECHO, _answer_echo),
            (events.EVT_REJECTED, _log_rejection),
        ]
        try:
            self._server = build_server(self._entity, listening, handlers)
        except OSError as error:
            raise WriteError(
                f"{listening.host}:{listening.port} cannot be used ({error.strerror or error})",
                remedy="another program may use this port; choose one with --port and --host",
            ) from error
        self.port = int(self._server.socket.getsockname()[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="dicom", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and abort open associations."""
        self._server.shutdown()
        self._thread.join()
        for association in self._server.active_associations:
            association.abort()

    def is_alive(self) -> bool:
        """Whether connections are being accepted."""
        return self._thread.is_alive()

    def _answer(self, event: Any) -> int:
        """Pass one object on; return the status of the response. The other end is not idle meanwhile."""
        event.assoc.dul.socket.counted_bytes = 0
        try:
            return self._check(event)
        finally:
            event.assoc.dul._idle_timer.restart()

    def _check(self, event: Any) -> int:
        """Check one object and pass it on; return the status of the response."""
        peer = Peer(str(event.assoc.requestor.ae_title).strip(), event.assoc)
        request = event.request
        try:
            content = event.encoded_dataset()
            received = _parse(content)
        except PARSE_ERRORS:
            _log.warning("%s sent an object that does not parse: refused", peer.title)
            return Status.CANNOT_UNDERSTAND
        if not received.study_uid or not received.series_uid or not received.instance_uid:
            _log.warning("%s sent an object without valid study, series and instance UIDs: refused", peer.title)
            return Status.CANNOT_UNDERSTAND
        if received.instance_uid != str(request.AffectedSOPInstanceUID):
            _log.warning("%s sent an object that is not the one it announced: refused", peer.title)
            return Status.DOES_NOT_MATCH
        return self._store(received, peer)


def _build_entity(pynetdicom: Any, listening: Listening) -> Any:
    entity = pynetdicom.AE(ae_title=listening.title)
    entity.maximum_associations = listening.associations
    entity.maximum_pdu_size = listening.largest.pdu_bytes
    entity.dimse_timeout = entity.network_timeout = listening.timeout_s
    entity.acse_timeout = min(listening.timeout_s, _NEGOTIATION_S)
    entity.require_called_aet = True
    entity.require_calling_aet = list(listening.callers)
    entity.add_supported_context(_VERIFICATION)
    syntaxes = [*_UNCOMPRESSED, *(syntax for syntax in _COMPRESSED if get_decoder(UID(syntax)).is_available)]
    for context in pynetdicom.AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, syntaxes)
    return entity


def _answer_echo(event: Any) -> int:
    event.assoc.dul.socket.counted_bytes = 0
    return Status.SUCCESS


def _log_rejection(event: Any) -> None:
    caller = str(event.assoc.requestor.primitive.calling_ae_title).strip()
    called = str(event.assoc.requestor.primitive.called_ae_title).strip()
    _log.warning("rejected an association of %s with %s (titles, or too many associations)", caller, called)


def _parse(content: bytes) -> ReceivedObject:
    """Read the identifying fields of an object; a UID that is not valid becomes empty."""
    # without quiet(): warnings.catch_warnings is not safe in several threads
    dataset = dcmread(BytesIO(content), stop_before_pixels=True)
    sop_class = text(dataset, "SOPClassUID")
    study, series, instance = (_uid(text(dataset, f"{level}InstanceUID")) for level in ("Study", "Series", "SOP"))
    return ReceivedObject(content, study, series, instance, sop_class in _IMAGES, count_pixels(dataset))


def _uid(value: str) -> str:
    return value if len(value) <= _LONGEST_UID and UID(value).is_valid else ""
