"""The open pages of the browser: each has a folder with its upload and results, and at most one process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medcyclegan.errors import MedCycleGANError, ReadError, one_line
from medcyclegan.model.contrast_names import contrasts_in

__all__ = ["Page", "as_text", "fitting_choices", "inspect_upload", "start_process"]

_INSPECT_SECONDS = 120
#: The longest line that a process may print; a report of an inspection has a few kB for each series.
_LONGEST_ANSWER = 8 << 20


class Page:
    """One open page.

    ``events``: what the page is told, as JSON values. ``source``: its volume, if one was uploaded and can be read.
    ``rows``: the rows of its inspection. ``results``: the files that can be downloaded or shown, by their addresses.
    ``busy``: whether an upload or a translation is in progress. ``task``: the translation.
    """

    def __init__(self, root: Path) -> None:
        self.id = secrets.token_urlsafe(16)
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.source: Path | None = None
        self.rows: list[dict[str, Any]] = []
        self.results: dict[str, Path] = {}
        self.busy = False
        self.task: asyncio.Task[None] | None = None
        self._closed = False
        self._root = root / secrets.token_hex(8)
        self._root.mkdir(mode=0o700)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def folder(self) -> Path:
        """The folder of the page."""
        return self._root

    def empty(self) -> None:
        """Remove the upload and the results."""
        self.source, self.rows, self.results = None, [], {}
        for path in self._root.iterdir() if self._root.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def hold(self, process: asyncio.subprocess.Process | None) -> None:
        """Remember the process that works for the page; one that is started for a closed page ends at once."""
        self._process = process
        if self._closed:
            self.stop()

    def stop(self) -> None:
        """End the process that works for the page, if there is one."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the work and remove all files."""
        self._closed = True
        self.stop()
        shutil.rmtree(self._root, ignore_errors=True)

    def close_again(self) -> None:
        """Remove what was written while the page was being closed."""
        if self._closed:
            self.close()

    async def run_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a translation in a process of its own; return its last answer, and pass the others on to the page."""
        process = await start_process("medcyclegan.app.job")
        self.hold(process)
        last: dict[str, Any] = {"kind": "failed", "text": ""}
        try:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the process has no pipes")
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            while line := await process.stdout.readline():
                last = json.loads(line)
                if last["kind"] == "progress":
                    self.events.put_nowait(last)
            code = await process.wait()
        finally:
            self.stop()
            self.hold(None)
        if last["kind"] == "progress" or not last.get("text", True):
            reason = "it was stopped, or there was not enough memory" if code < 0 else f"exit code {code}"
            return {"kind": "failed", "text": f"the translation ended early ({reason})"}
        return last


async def start_process(module: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start a module of this package in a process group of its own, with its output in a pipe."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # it may name files and contents of headers
        start_new_session=True,
        limit=_LONGEST_ANSWER,
    )


async def inspect_upload(page: Page, source: Path, max_voxels: int) -> list[dict[str, Any]]:
    """Return the rows of ``medcyclegan inspect`` about an upload, with its folder removed from all texts.

    Raises :class:`~medcyclegan.errors.ReadError` unless at least one volume can be read as it is.
    """
    process = await start_process(
        "medcyclegan", "inspect", "--json", "--quiet", "--max-voxels", str(max_voxels), str(source)
    )
    page.hold(process)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _INSPECT_SECONDS)
    except TimeoutError:
        raise ReadError("the upload could not be inspected in time", remedy="upload a smaller one") from None
    finally:
        page.stop()
        page.hold(None)
    if process.returncode != 0:
        raise ReadError("the upload cannot be read", remedy="check it with medcyclegan inspect")
    rows = json.loads(_without_folder(output.decode(), source))
    readable = [row for row in rows if row["verdict"] == "ok"]
    if not readable:
        reasons = [row["reason"] for row in rows if row["reason"]]
        raise ReadError(reasons[0] if reasons else "there is no volume in the upload")
    return readable


def _without_folder(text: str, source: Path) -> str:
    """Return JSON text in which the path of the upload is replaced."""
    return text.replace(json.dumps(str(source))[1:-1], "the upload")


def as_text(error: MedCycleGANError | OSError) -> str:
    """Return an error as one line without paths of the server."""
    if isinstance(error, MedCycleGANError):
        return str(error)
    return one_line(f"a file cannot be written: {error.strerror or type(error).__name__}")


def fitting_choices(rows: Sequence[dict[str, Any]], choices: Sequence[str]) -> list[str]:
    """Return ``choices`` with those whose input has the modality and contrast of the first volume at the front."""
    first = rows[0]
    named = contrasts_in(str(first.get("description") or ""))
    is_ct = first.get("modality") == "CT"

    def rank(choice: str) -> int:
        source = choice.split(" to ")[0]
        if source in named:
            return 0
        return 1 if (source == "ct") == is_ct else 2

    return sorted(choices, key=rank)
