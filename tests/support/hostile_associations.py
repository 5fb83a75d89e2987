"""Connections to a DICOM node that break the protocol: raw bytes, from none to too many."""

from __future__ import annotations

import contextlib
import socket
import struct

from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt

#: The type of the answer: accepted, rejected, aborted.
ACCEPT, REJECT, ABORT = 2, 3, 7


def association_request(port: int, *, called: str = "MEDCYCLEGAN", calling: str = "SCANNER") -> bytes:
    """Return the bytes of a request, as pynetdicom sends it to the node at ``port``."""
    sent: list[bytes] = []
    entity = AE(ae_title=calling)
    entity.add_requested_context(CTImageStorage)
    handlers = [(evt.EVT_DATA_SENT, lambda event: sent.append(bytes(event.data)))]
    association = entity.associate("127.0.0.1", port, ae_title=called, evt_handlers=handlers)
    if association.is_established:
        association.release()
    return sent[0]


def connect(port: int, *parts: bytes, seconds: float = 10) -> socket.socket:
    """Connect and send the parts; an answer is read after each but the last."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    for number, part in enumerate(parts):
        if number:
            connection.recv(1 << 16)
        connection.sendall(part)
    return connection


def first_byte(connection: socket.socket) -> int | None:
    """Return the type of the next PDU; None if the node closed the connection."""
    with contextlib.suppress(ConnectionResetError):
        answer = connection.recv(1 << 16)
        return answer[0] if answer else None
    return None


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the node closes the connection within ``seconds``."""
    connection.settimeout(seconds)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def pdu(kind: int, content: bytes, length: int | None = None) -> bytes:
    """Return a PDU that announces ``length`` bytes, by default as many as it has."""
    return struct.pack(">BBL", kind, 0, len(content) if length is None else length) + content
