"""A headless Chromium for tests, driven by the W3C WebDriver protocol through chromedriver; no package needed."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = None if CHROMIUM and DRIVER else "no chromium or no chromedriver is installed (Debian: chromium-driver)"

_FLAGS = [
    "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-background-networking", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1",
]  # fmt: skip


class Browser:
    """One window: loads pages, runs scripts, takes pictures, records console messages and requests."""

    def __init__(self, address: str, profile: Path) -> None:
        self._address = address
        options = {"binary": CHROMIUM, "args": [*_FLAGS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        reply = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{reply['sessionId']}"
        self.console: list[str] = []
        self.requests: list[str] = []

    def open(self, page: Path | str, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a page from the disk, or an address, in a window of ``width`` x ``height`` CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._tell("/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})
        self._tell("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": scheme}})
        self._tell("/url", {"url": page if isinstance(page, str) else page.resolve().as_uri()})

    def run(self, script: str):
        """Return the value of a JavaScript function's body."""
        return self._tell("/execute/sync", {"script": script, "args": []})

    def wait_for(self, condition: str, seconds: float = 90) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, (
                f"waited {seconds} s for {condition}: {self.run('return document.body.innerText')}"
            )
            time.sleep(0.2)

    def picture(self, selector: str | None = None) -> np.ndarray:
        """Return the window, or one element of it, as RGB ``(H, W, 3)``, after the next frame was drawn."""
        self._tell("/execute/async", {
            "script": "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()));",
            "args": [],
        })  # fmt: skip
        if selector is None:
            params = {"format": "png", "captureBeyondViewport": True}
            encoded = self._tell("/goog/cdp/execute", {"cmd": "Page.captureScreenshot", "params": params})["data"]
        else:
            found = self._tell("/element", {"using": "css selector", "value": selector})
            encoded = self._ask("GET", f"{self._session}/element/{next(iter(found.values()))}/screenshot")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Click at a fraction of an element's width and height, with a real pointer."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.run(f"return document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        place = {"x": round(box["x"] + across * box["width"]), "y": round(box["y"] + down * box["height"])}
        moves = [{"type": "pointerMove", "duration": 0, **place}, {"type": "pointerDown", "button": 0},
                 {"type": "pointerUp", "button": 0}]  # fmt: skip
        self._tell("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})

    def download_to(self, folder: Path) -> None:
        """Save downloads in ``folder``."""
        params = {"behavior": "allow", "downloadPath": str(folder)}
        self._tell("/goog/cdp/execute", {"cmd": "Page.setDownloadBehavior", "params": params})

    def drop(self, selector: str, file: Path) -> None:
        """Drop a file on an element, as from a file manager."""
        box = self.run(f"return document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        place = {"x": round(box["x"] + box["width"] / 2), "y": round(box["y"] + box["height"] / 2)}
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            params = {"type": kind, "data": data, **place}
            self._tell("/goog/cdp/execute", {"cmd": "Input.dispatchDragEvent", "params": params})

    def set(self, selector: str, value: object, event: str = "input") -> None:
        """Give a control a value as a user would."""
        self.run(
            f"const c = document.querySelector({json.dumps(selector)}); c.value = {json.dumps(str(value))};"
            f"c.dispatchEvent(new Event('{event}', {{bubbles: true}}));"
        )

    def listen(self) -> None:
        """Add new console messages and requests to ``console`` and ``requests``."""
        self.console += [f"{e['level']}: {e['message']}" for e in self._tell("/se/log", {"type": "browser"})]
        for entry in self._tell("/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            sent = message["params"] if message["method"] == "Network.requestWillBeSent" else None
            if sent and not sent["documentURL"].startswith("chrome"):  # the empty tab that it starts with
                self.requests.append(sent["request"]["url"])

    def close(self) -> None:
        """Close the window."""
        self._ask("DELETE", self._session)

    def _tell(self, path: str, body: dict):
        return self._ask("POST", self._session + path, body)

    def _ask(self, method: str, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data=data, method=method)  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None


@contextlib.contextmanager
def open_browser(folder: Path):
    """Yield a :class:`Browser` whose profile is in ``folder``; it and its driver end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (folder / "driver.log").open("wb")
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        _await_driver(address)
        browser = Browser(address, folder / "profile")
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(timeout=30)
        log.close()


def _await_driver(address: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(300):
        with contextlib.suppress(OSError), opener.open(f"{address}/status", timeout=10) as reply:
            if json.load(reply)["value"]["ready"]:
                return
        time.sleep(0.1)
    raise AssertionError("chromedriver did not start")
