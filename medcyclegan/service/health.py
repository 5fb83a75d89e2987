"""A page on the loopback interface with the state of the service: ``/`` for people, ``/health`` for programs.

It contains numbers and the addresses of nodes, no data of patients.
"""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from medcyclegan.errors import WriteError

__all__ = ["HealthPage"]

_HOST = "127.0.0.1"
#: A page of another origin cannot read this one by a name that resolves to the loopback address.
_NAMES = ("127.0.0.1", "localhost")
_REQUEST_S = 5
_STYLE = "body{font:16px sans-serif;max-width:40em;margin:2em auto;padding:0 1em}td{padding:.2em 1.5em .2em 0}"


class HealthPage:
    """Serves the result of ``state`` while it exists; ``port`` 0 takes a free one."""

    def __init__(self, port: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Begin to serve. Raises :class:`~medcyclegan.errors.WriteError` if the port is taken."""
        try:
            self._server = ThreadingHTTPServer((_HOST, port), _handler(state))
        except OSError as error:
            raise WriteError(
                f"the health page cannot use port {port} ({error.strerror})",
                remedy="choose another one with --health-port, or 0 for no page",
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(state: Callable[[], Mapping[str, Any]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET requests for the two pages."""

        timeout = _REQUEST_S
        server_version, sys_version = "medcyclegan", ""

        def do_GET(self) -> None:
            """Answer with the page, or with its state: 200 if all is well, 503 if not."""
            name = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host") or ""
            if name not in _NAMES:
                self._answer(403, "text/plain", "this page is for 127.0.0.1 only\n")
            elif self.path == "/health":
                found = state()
                self._answer(503 if found["problems"] else 200, "application/json", json.dumps(found, indent=1) + "\n")
            elif self.path == "/":
                self._answer(200, "text/html; charset=utf-8", _page(state()))
            else:
                self._answer(404, "text/plain", "no such page\n")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name of the base class)
            """Requests are not logged."""

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _page(found: Mapping[str, Any]) -> str:
    problems = found["problems"]
    rows = "".join(
        f"<tr><td>{html.escape(name.replace('_', ' '))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in found.items()
        if name != "problems"
    )
    listed = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f"<title>medcyclegan: {'check' if problems else 'ok'}</title><style>{_STYLE}</style>"
        f"<h1>medcyclegan serve: {'check' if problems else 'ok'}</h1><ul>{listed}</ul><table>{rows}</table>"
        "<p>Research software, not a medical device.</p></html>\n"
    )
