"""A server of DICOM associations that hostile or broken connections cannot block, fill or end.

pynetdicom's server reads a PDU of any announced length into memory, completes TLS handshakes one after the other in
the thread that accepts connections, and starts two threads for each connection. The limits here are applied before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["LargestInput", "Listening", "build_server"]

_log = logging.getLogger(__name__)

#: An association request with 128 presentation contexts and their transfer syntaxes is smaller.
_NEGOTIATION_BYTES = 1 << 18
_CHUNK_BYTES = 1 << 16
#: States of the upper layer (PS3.8 table 9-1): idle, and waiting for the other end to close.
_CLOSED = ("Sta1", "Sta13")
#: Connections up to this multiple of the largest number of associations get a rejection; more are closed at once.
_ANSWERED = 4


@dataclasses.dataclass(frozen=True)
class LargestInput:
    """What one connection may send: ``pdu_bytes`` in one PDU, ``object_bytes`` in one object, ``pdu_s`` for one PDU."""

    pdu_bytes: int = 1 << 18
    object_bytes: int = 1 << 30
    pdu_s: float = 60.0

    def guard(self, association: Any) -> None:
        """Apply the limits to the connection of ``association``: the first breach closes it."""
        provider = association.dul
        connection = provider.socket
        connection.counted_bytes = 0
        connection.recv = lambda count: self._receive(connection, count)
        machine = provider.state_machine
        machine.do_action = lambda event, act=machine.do_action: _act(provider, event, act)

    def _receive(self, connection: Any, count: int) -> bytearray:
        """Read ``count`` bytes, as pynetdicom does; less if the connection ends. Raises OSError for a breach."""
        connection.counted_bytes += count
        if count > max(self.pdu_bytes, _NEGOTIATION_BYTES) + 6 or connection.counted_bytes > self.object_bytes:
            _log.warning("closed a connection that announced %d bytes: over the limit", count)
            raise OSError("over the limit")
        deadline = time.monotonic() + self.pdu_s
        received = bytearray()
        while len(received) < count:
            part = connection.socket.recv(min(count - len(received), _CHUNK_BYTES))
            if not part:
                break
            received += part
            if time.monotonic() > deadline:
                raise TimeoutError("too slow")
        return received


@dataclasses.dataclass(frozen=True)
class Listening:
    """Where and for whom to listen.

    ``callers``: the titles that may open an association; empty: all. ``largest``: limits for one connection.
    ``associations``: the largest number at once. ``timeout_s``: after that time without data, a connection is closed.
    """

    title: str
    host: str
    port: int
    callers: Sequence[str] = ()
    tls: ssl.SSLContext | None = None
    largest: LargestInput = dataclasses.field(default_factory=LargestInput)
    associations: int = 16
    timeout_s: float = 60.0


def _act(provider: Any, event: str, act: Callable[[str], None]) -> None:
    """Let the state machine of a connection act; what breaks the protocol ends the connection, without a traceback."""
    try:
        act(event)
    except Exception as error:
        _log.warning("closed a connection that broke the protocol (%s)", type(error).__name__)
        provider._kill_thread = True  # as pynetdicom does after errors of its own
    if provider._kill_thread or provider.state_machine.current_state in _CLOSED:
        # an association that waits for its request would otherwise occupy its place until the timeout
        provider.to_user_queue.put(None)


def build_server(entity: Any, listening: Listening, handlers: list[Any]) -> Any:
    """Return a server that is bound to its port; its ``serve_forever`` accepts connections.

    Raises OSError if the port cannot be used.
    """
    server = entity.make_server(
        (listening.host, listening.port), evt_handlers=handlers, server_class=_guarded_server(listening)
    )
    entity._servers.append(server)  # its shutdown removes it from there
    return server


def _guarded_server(listening: Listening) -> Any:
    """Return the class of the server; pynetdicom, its base class, may not be installed."""
    transport: Any = importlib.import_module("pynetdicom.transport")

    class GuardedServer(transport.ThreadedAssociationServer):
        """pynetdicom's server with limits on connections, and handshakes in the threads of their connections."""

        daemon_threads, block_on_close, request_queue_size = True, False, 128

        def __init__(self, *args: Any, **options: Any) -> None:
            self.starting, self.lock = 0, threading.Lock()
            super().__init__(*args, **options)

        def get_request(self) -> tuple[socket.socket, Any]:
            client, address = self.socket.accept()
            client.settimeout(listening.timeout_s)
            return client, address

        def verify_request(self, _request: Any, _address: Any) -> bool:
            alive = len(self.active_associations) + self.starting
            if alive >= _ANSWERED * listening.associations:
                _log.warning("closed a connection: %d are open", alive)
                return False
            return True

        def process_request(self, request: Any, client_address: Any) -> None:
            with self.lock:
                self.starting += 1
            threading.Thread(target=self._begin, args=(request, client_address), daemon=True).start()

        def _begin(self, request: Any, address: Any) -> None:
            with self._counted():
                try:
                    if listening.tls is not None:
                        request = listening.tls.wrap_socket(request, server_side=True)
                    self.finish_request(request, address)
                except (OSError, ssl.SSLError) as error:
                    _log.warning("closed a connection: %s", getattr(error, "reason", None) or error.strerror or error)
                    self.shutdown_request(request)

        @contextlib.contextmanager
        def _counted(self) -> Iterator[None]:
            try:
                yield
            finally:
                with self.lock:
                    self.starting -= 1

    return GuardedServer
