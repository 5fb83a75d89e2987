"""Start the server on the loopback."""

from __future__ import annotations

import contextlib
import importlib
import secrets
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medcyclegan.app.guard import Guard
from medcyclegan.app.upload import UploadLimits
from medcyclegan.errors import MissingExtraError, UsageError
from medcyclegan.storage import scratch_folder

__all__ = ["serve_app"]

_HOST = "127.0.0.1"
#: A request whose headers are longer is refused before it is complete.
_MOST_HEADER_BYTES = 65_536
_MOST_CONNECTIONS = 64
_MAX_VOXELS = 2**29
_SETTINGS: dict[str, Any] = {
    "http": "h11",
    "ws": "none",
    "lifespan": "off",
    "access_log": False,
    "log_config": None,
    "log_level": "error",
    "proxy_headers": False,
    "server_header": False,
    "limit_concurrency": _MOST_CONNECTIONS,
    "h11_max_incomplete_event_size": _MOST_HEADER_BYTES,
    "timeout_graceful_shutdown": 5,
}


def serve_app(
    announce: Callable[[str], object], *, port: int = 0, models: Sequence[Path] = (), limits: UploadLimits | None = None
) -> None:
    """Serve the page until Ctrl-C; call ``announce`` with its address once it can be opened.

    ``port``: 0 for any free one. ``models``: model folders to offer in addition to the shipped models. All files are
    removed at the end; what a killed server left is removed by the next one. Raises
    :class:`~medcyclegan.errors.UsageError` for a port that is in use, and
    :class:`~medcyclegan.errors.MissingExtraError` without the extra.
    """
    try:
        uvicorn = importlib.import_module("uvicorn")
        importlib.import_module("starlette")
    except ImportError:
        raise MissingExtraError(
            "starlette or uvicorn is not installed, which the page needs",
            remedy="install the extra with pip install 'medcyclegan[app]'",
        ) from None
    server_module = importlib.import_module("medcyclegan.app.server")
    token = secrets.token_urlsafe(24)
    with (
        _listening(port) as listener,
        scratch_folder(Path(tempfile.gettempdir()), "medcyclegan-app", mode=0o700) as root,
    ):
        number = listener.getsockname()[1]
        app = server_module.App(root, list(models), limits or UploadLimits(), _MAX_VOXELS)
        server = uvicorn.Server(uvicorn.Config(Guard(app.routes(), token, number), **_SETTINGS))
        app.is_ending = lambda: bool(server.should_exit)
        _announce_when_started(server, lambda: announce(f"http://{_HOST}:{number}/{token}/"))
        try:
            with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when it has ended
                server.run(sockets=[listener])
        finally:
            app.close()


def _announce_when_started(server: Any, announce: Callable[[], object]) -> None:
    """Let ``server`` call ``announce`` when it handles signals: an earlier interruption would not end it properly."""
    start = server.startup

    async def announced_start(sockets: list[socket.socket] | None = None) -> None:
        await start(sockets)
        announce()

    server.startup = announced_start


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
        listener.listen(_MOST_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise UsageError(f"--port {port}: {error.strerror}", remedy="choose another one") from None
    return listener
