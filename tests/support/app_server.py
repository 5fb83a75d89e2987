"""A running ``medcyclegan app``, and a plain HTTP client that can send what a browser would not."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class AppServer:
    """The server: its ``address``, ``port``, ``path`` (with the token) and the folder ``root`` of its pages."""

    def __init__(self, address: str, temporary: Path, process: subprocess.Popen[str]) -> None:
        parts = urlsplit(address)
        self.address, self.port, self.path = address, parts.port, parts.path
        self.origin = f"http://127.0.0.1:{self.port}"
        self.process = process
        self._temporary = temporary

    def files(self) -> list[Path]:
        """Return all files of open pages."""
        return [path for path in self._temporary.rglob("*") if path.is_file()]

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str | None) -> tuple[int, bytes]:
        """Send a request of the page; ``headers`` replace those of a browser, or remove them if None."""
        sent = {"Host": f"127.0.0.1:{self.port}", "Origin": self.origin, "Content-Length": str(len(body or b""))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before the body was read
                if body:
                    connection.send(body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    @contextlib.contextmanager
    def open_page(self) -> Iterator[Page]:
        """Open a page, and close it at the end of the block."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", f"{self.path}events")
        stream = connection.getresponse()
        try:
            yield Page(self, stream)
        finally:
            stream.close()
            connection.close()


class Page:
    """An open page: its ``id`` and the ``events`` that it was told."""

    def __init__(self, server: AppServer, stream: http.client.HTTPResponse) -> None:
        self._server, self._stream = server, stream
        self.id = str(self.next_event()["page"])

    def next_event(self) -> dict[str, Any]:
        """Wait for the next event."""
        while line := self._stream.readline():
            if line.startswith(b"data: "):
                event: dict[str, Any] = json.loads(line[6:])
                return event
        raise AssertionError("the stream has ended")

    def upload(self, content: bytes, **headers: str | None) -> tuple[int, dict[str, Any]]:
        """Upload a file; return the status and the answer."""
        status, body = self._server.ask("PUT", f"{self._server.path}pages/{self.id}/upload", content, **headers)
        return status, json.loads(body)

    def translate(self, **asked: Any) -> tuple[int, dict[str, Any]]:
        """Ask for a translation."""
        body = json.dumps({"volume": 0, "three": False, "uncertainty": False, **asked}).encode()
        status, answer = self._server.ask("POST", f"{self._server.path}pages/{self.id}/translate", body)
        return status, json.loads(answer)

    def result(self, name: str) -> tuple[int, bytes]:
        """Fetch a result."""
        return self._server.ask("GET", f"{self._server.path}pages/{self.id}/results/{name}")


@contextlib.contextmanager
def running_app(temporary: Path, *options: str) -> Iterator[AppServer]:
    """Run ``medcyclegan app`` with its files in ``temporary``; end it with SIGINT."""
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "medcyclegan", "app", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        address = process.stdout.readline().strip()
        assert address, errors
        yield AppServer(address, temporary, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        reader.join(timeout=10)
        process.stdout.close()
        process.stderr.close()
    assert not [line for line in errors if not line.startswith("Error: stopped by SIGTERM")], errors
