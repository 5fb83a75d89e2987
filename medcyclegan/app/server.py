"""The server of the page: its addresses, and what each does.

Importing this module needs the extra ``app``; :mod:`medcyclegan.app.serve` imports it when it is needed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from medcyclegan.app.pages import Page, as_text, fitting_choices, inspect_upload
from medcyclegan.app.upload import UploadLimits, unpack_upload
from medcyclegan.errors import MedCycleGANError
from medcyclegan.model.shipped import find_translation, translation_choices
from medcyclegan.report.page import asset, render

__all__ = ["App"]

_HOME = "medcyclegan.app"
_MOST_PAGES = 8
_MOST_REQUEST_BYTES = 10_000
#: A line without content is sent this often, so that a page that was closed is noticed, and the end of the server too.
_PING_SECONDS = 1.0
_KINDS = {".html": "text/html", ".js": "text/javascript", ".json": "application/json"}
#: Sent with the page, whose own policy is in its head.
_POLICY = {"content-security-policy": "frame-ancestors 'self'"}


class App:
    """The open pages, and the answers to their requests.

    ``root``: the folder that holds those of the pages. ``folders``: models to offer in addition to the shipped ones.
    ``is_ending``: whether the server is about to end, and waits for open requests.
    """

    def __init__(self, root: Path, folders: Sequence[Path], limits: UploadLimits, max_voxels: int) -> None:
        self._root, self._folders, self._limits, self._max_voxels = root, folders, limits, max_voxels
        self._choices = translation_choices(folders)
        self.is_ending: Callable[[], bool] = lambda: False
        self._pages: dict[str, Page] = {}
        #: One translation at a time, since each needs the memory and the processors of the machine.
        self._turn = asyncio.Lock()

    def routes(self) -> Starlette:
        """Return the ASGI application."""
        at = "/pages/{page}"
        return Starlette(
            routes=[
                Route("/", self.show),
                Route("/app.js", self.script),
                Route("/events", self.events),
                Route(f"{at}/upload", self.upload, methods=["PUT"]),
                Route(f"{at}/translate", self.translate, methods=["POST"]),
                Route(f"{at}/stop", self.stop, methods=["POST"]),
                Route(f"{at}/results/{{name:path}}", self.result),
            ],
        )

    def close(self) -> None:
        """Close all pages."""
        for page in list(self._pages.values()):
            page.close()
        self._pages.clear()

    async def show(self, _request: Request) -> Response:
        """Answer with the page."""
        most_mb = self._limits.most_bytes // 1_000_000
        html = render("app.html.j2", home=_HOME, title="medcyclegan", most_mb=most_mb)
        return HTMLResponse(html, headers=_POLICY)

    async def script(self, _request: Request) -> Response:
        """Answer with the script of the page."""
        return Response(asset("app.js", _HOME), media_type="text/javascript")

    async def events(self, _request: Request) -> Response:
        """Open a page, and tell it what happens for as long as it is open; then remove its files."""
        if len(self._pages) >= _MOST_PAGES:
            return _refused("too many pages are open: close one", 503)
        page = Page(self._root)
        self._pages[page.id] = page
        page.events.put_nowait({"kind": "opened", "page": page.id})
        return StreamingResponse(self._stream(page), media_type="text/event-stream")

    async def _stream(self, page: Page) -> AsyncIterator[str]:
        try:
            while not self.is_ending():
                try:
                    event = await asyncio.wait_for(page.events.get(), _PING_SECONDS)
                    yield f"data: {json.dumps(event)}\n\n"
                except TimeoutError:
                    yield ": open\n\n"
        finally:
            self._pages.pop(page.id, None)
            page.close()

    async def upload(self, request: Request) -> Response:
        """Receive a file, check it, and answer with the volumes in it."""
        page = self._pages.get(request.path_params["page"])
        if page is None:
            return _refused("this page is closed", 404)
        if page.busy:
            return _refused("the page is busy", 409)
        declared = request.headers.get("content-length", "")
        if not declared.isdecimal():
            return _refused("the size of the upload is not stated", 411)
        if int(declared) > self._limits.most_bytes:
            return _refused(f"the file is larger than {self._limits.most_bytes // 1_000_000} MB", 413)
        page.busy = True
        try:
            page.empty()
            received = await self._receive(request, page)
            source = await run_in_threadpool(unpack_upload, received, page.folder, self._limits)
            page.rows = await inspect_upload(page, source, self._max_voxels)
            page.source = source
        except ClientDisconnect:
            page.empty()
            return _refused("the upload ended early", 400)
        except (MedCycleGANError, OSError) as error:
            page.empty()
            return _refused(as_text(error), 415 if isinstance(error, MedCycleGANError) else 507)
        finally:
            page.busy = False
            page.close_again()
        shown = ("series_uid", "description", "modality", "columns", "rows", "slices", "spacing_mm")
        volumes = [{name: row[name] for name in shown} for row in page.rows]
        return JSONResponse({"volumes": volumes, "choices": fitting_choices(page.rows, list(self._choices))})

    async def _receive(self, request: Request, page: Page) -> Path:
        """Write the body into a file of the page; the server itself limits it to the declared size."""
        received = page.folder / "upload"
        with received.open("xb") as file:
            async for piece in request.stream():
                file.write(piece)
        return received

    async def translate(self, request: Request) -> Response:
        """Start a translation; its progress and end are events."""
        page = self._pages.get(request.path_params["page"])
        if page is None or page.source is None:
            return _refused("there is no upload", 404)
        if page.busy or self._turn.locked():
            return _refused("a translation is running: wait until it has ended", 409)
        try:
            job = await self._read_job(request, page)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            return _refused(f"not a request for a translation ({type(error).__name__})", 400)
        except MedCycleGANError as error:
            return _refused(str(error), 400)
        page.busy = True
        page.task = asyncio.create_task(self._work(page, job))
        return JSONResponse({}, 202)

    async def _read_job(self, request: Request, page: Page) -> dict[str, Any]:
        if not 0 < int(request.headers.get("content-length", "0")) <= _MOST_REQUEST_BYTES:
            raise ValueError("too long")
        asked = json.loads(await request.body())
        model, to = find_translation(str(asked["choice"]), self._folders)
        series = [row["series_uid"] for row in page.rows]
        chosen = series[int(asked["volume"])]
        return {
            "source": str(page.source),
            "results": str(page.folder / "results"),
            "model": model,
            "to": to,
            "series": chosen,
            "planes": "three" if asked["three"] is True else "axial",
            "uncertainty": asked["uncertainty"] is True,
            "max_voxels": self._max_voxels,
        }

    async def _work(self, page: Page, job: dict[str, Any]) -> None:
        async with self._turn:
            try:
                results = Path(job["results"])
                page.results = {}
                shutil.rmtree(results, ignore_errors=True)
                results.mkdir(mode=0o700)
                ended = await page.run_job(job)
                if ended["kind"] == "done":
                    page.results = {name: results / name for name in ended["downloads"]}
                    page.results |= {f"view/{name}": results / "view" / name for name in ended["view"]}
                else:
                    shutil.rmtree(results, ignore_errors=True)
            except (OSError, ValueError) as error:
                ended = {"kind": "failed", "text": f"the translation failed ({type(error).__name__})"}
            finally:
                page.busy = False
                page.close_again()
            page.events.put_nowait(ended)

    async def stop(self, request: Request) -> Response:
        """Stop the translation of the page."""
        page = self._pages.get(request.path_params["page"])
        if page is not None:
            page.stop()
        return JSONResponse({})

    async def result(self, request: Request) -> Response:
        """Answer with a file of the results, of which there is a list; other names are not looked up."""
        page, name = self._pages.get(request.path_params["page"]), request.path_params["name"]
        file = None if page is None else page.results.get(name)
        if file is None:
            return _refused("no such result", 404)
        if name.startswith("view/"):
            return FileResponse(file, media_type=_KINDS[file.suffix], headers=_POLICY)
        return FileResponse(file, media_type="application/octet-stream", filename=file.name)


def _refused(text: str, status: int) -> Response:
    return JSONResponse({"error": text}, status)
