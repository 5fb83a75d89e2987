"""A DICOM node on this machine's loopback that accepts what it is configured to accept."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import CTImageStorage, MRImageStorage

#: Both kinds of images that are sent.
CLASSES = (CTImageStorage, MRImageStorage)


class Node:
    """A running node: its ``port``, the received ``images``, and the titles of its ``callers``."""

    def __init__(self) -> None:
        self.port = 0
        self.images: list[pydicom.Dataset] = []
        self.callers: list[str] = []


@contextmanager
def running_node(
    *,
    classes: Sequence[str] = CLASSES,
    syntaxes: Sequence[str] = (pydicom.uid.ExplicitVRLittleEndian,),
    called: str = "",
    answer: Callable[[int, Any], int] = lambda number, event: 0,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[Node]:
    """Run a node; ``answer`` returns the status of the n-th image (from 0); ``called`` is the only accepted title.

    ``port`` 0: a free one.
    """
    from pynetdicom import AE, evt

    node = Node()

    def store(event: Any) -> int:
        status = answer(len(node.images), event)
        if status < 0xA000 or status >= 0xB000:
            image = event.dataset
            image.file_meta = event.file_meta
            node.images.append(image)
        return status

    entity = AE(ae_title=called or "NODE")
    entity.require_called_aet = bool(called)
    for sop_class in classes:
        entity.add_supported_context(sop_class, list(syntaxes))
    handlers = [
        (evt.EVT_C_STORE, store),
        (evt.EVT_ACCEPTED, lambda event: node.callers.append(event.assoc.requestor.ae_title.strip())),
    ]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls)
    node.port = server.socket.getsockname()[1]
    try:
        yield node
    finally:
        server.shutdown()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1 with openssl; return it and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key
