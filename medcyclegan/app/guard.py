"""Refuse requests that do not come from the page itself, before anything reads them."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["HEADERS", "Guard"]

#: The path and the headers of a request; a browser sends less than 2 kB.
_MOST_HEADER_BYTES = 16_384

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]

#: Of every answer: no other page may embed it, refer to it or keep it.
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
}


class Guard:
    """An ASGI application that passes on only requests with the right host, origin and token.

    ``token``: the first part of every path, known to whom the address was printed. Another page in the browser does
    not know it, and could not use it: the browser adds the page's origin, or sends another host name if that name was
    made to point to this machine.
    """

    def __init__(self, application: Application, token: str, port: int) -> None:
        self._application, self._token = application, token
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # the server is configured without websockets and lifespan
            return
        status = self._refusal(scope)
        if status:
            await _answer(send, status)
            return
        scope["root_path"] = f"/{self._token}"

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in present]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._application(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> int:
        """Return the status with which a request is refused, or 0."""
        if len(scope["path"]) + sum(len(name) + len(value) for name, value in scope["headers"]) > _MOST_HEADER_BYTES:
            return 431
        values: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts, origins = values.get("host", []), values.get("origin", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 421
        if any(origin not in self._origins for origin in origins) or len(origins) > 1:
            return 403
        if any(site not in ("same-origin", "none") for site in values.get("sec-fetch-site", [])):
            return 403
        if scope["method"] not in ("GET", "HEAD") and not origins:
            return 403
        token = scope["path"].split("/")[1] if scope["path"].startswith("/") else ""
        return 0 if secrets.compare_digest(token.encode("utf-8", "replace"), self._token.encode()) else 404


async def _answer(send: Any, status: int) -> None:
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    headers += [(b"content-type", b"text/plain"), (b"content-length", b"7"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"refused"})
