"""A DICOMweb service on the loopback whose answers a test chooses, for answers that no honest server gives."""

from __future__ import annotations

import io
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pydicom

BOUNDARY = "part-of-a-series"


class Request:
    """What the server received: ``method``, ``path`` with its query, ``headers`` and ``body``."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body


#: Status, headers and the pieces of a body.
Answer = tuple[int, dict[str, str], Sequence[bytes] | Iterator[bytes]]


@contextmanager
def running_service(
    answer: Callable[[Request], Answer], *, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[Request]]]:
    """Run a server; yield the address of its service and the list of the requests that it received."""
    received: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            request = Request(self.command, self.path, dict(self.headers), self.rfile.read(length))
            received.append(request)
            status, headers, pieces = answer(request)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in pieces:
                    self.wfile.write(piece)
            except OSError:
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/dicom-web", received
    finally:
        server.shutdown()
        server.server_close()


def as_json(rows: object) -> Answer:
    """Answer a search."""
    return 200, {"Content-Type": "application/dicom+json; charset=utf-8"}, [json.dumps(rows).encode()]


def as_images(files: Sequence[Path | bytes]) -> Answer:
    """Answer with files as the parts of a multipart message."""
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    parts = [file if isinstance(file, bytes) else file.read_bytes() for file in files]
    head = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return 200, {"Content-Type": kind}, [*(head + part for part in parts), f"\r\n--{BOUNDARY}--\r\n".encode()]


def row_of(study: str, series: str, images: object, **more: str) -> dict[str, object]:
    """Return a series as a search lists it."""
    values = {"0020000D": study, "0020000E": series, "00201209": images, **more}
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items()}


def stored_answer(request: Request) -> Answer:
    """Confirm each image of a store request."""
    boundary = request.headers["Content-Type"].split('boundary="')[1].split('"')[0].encode()
    parts = request.body.split(b"--" + boundary)[1:-1]
    uids = [pydicom.dcmread(io.BytesIO(p.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))).SOPInstanceUID for p in parts]
    items = [{"00081155": {"vr": "UI", "Value": [str(uid)]}} for uid in uids]
    return as_json({"00081199": {"vr": "SQ", "Value": items}})


def archive_of(
    files: Sequence[Path], *, images: Sequence[Path | bytes] | None = None, stated: object = None
) -> Callable[[Request], Answer]:
    """Return the function of a server that lists the series in ``files``, sends its images, and confirms new ones.

    ``images``, ``stated``: what it sends instead, and the number of images that it states.
    """
    first = pydicom.dcmread(files[0], stop_before_pixels=True)
    count = len(files) if stated is None else stated

    def answer(request: Request) -> Answer:
        if request.method == "POST":
            return stored_answer(request)
        if "/series/" in request.path:
            return as_images(files if images is None else images)
        row = row_of(str(first.StudyInstanceUID), str(first.SeriesInstanceUID), count, **{"00080060": first.Modality})
        return as_json([row])

    return answer
