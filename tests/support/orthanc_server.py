"""A temporary Orthanc (a DICOM server) on this machine, to which tests send series and from which they read them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("Orthanc")
MISSING = "" if PROGRAM else "Orthanc is not installed (Debian's package orthanc)"
_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
DICOMWEB_MISSING = MISSING or (
    "" if _DICOMWEB.exists() else "Orthanc's DICOMweb is not installed (Debian's package orthanc-dicomweb)"
)
_START_SECONDS = 60


class Orthanc:
    """A running server: ``http_port`` for REST, ``dicom_port`` for DIMSE, called ``ORTHANC``.

    ``dicomweb``: the address of its DICOMweb service, if it was started with it.
    """

    def __init__(self, http_port: int, dicom_port: int) -> None:
        self.http_port, self.dicom_port = http_port, dicom_port
        self.dicomweb = f"http://127.0.0.1:{http_port}/dicom-web"

    def get(self, path: str) -> bytes:
        """Return the content at a path of the REST interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def get_json(self, path: str) -> Any:
        """Return a JSON answer of the REST interface."""
        return json.loads(self.get(path))

    def post(self, path: str, content: bytes) -> Any:
        """Send bytes to the REST interface and return its JSON answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", content, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - on the loopback
            return json.loads(answer.read())

    def instances(self) -> dict[str, bytes]:
        """Return every stored file by its SOPInstanceUID."""
        uids = {each["ID"]: each["MainDicomTags"]["SOPInstanceUID"] for each in self.get_json("/instances?expand")}
        return {uid: self.get(f"/instances/{name}/file") for name, uid in uids.items()}


@contextmanager
def running_orthanc(
    modalities: Mapping[str, Sequence[Any]] | None = None,
    *,
    ports: tuple[int, int] | None = None,
    dicomweb: bool = False,
) -> Iterator[Orthanc]:
    """Start a server with an empty store, and with DICOMweb if requested; end it afterwards.

    ``modalities``: the nodes to which it can send, each with its title, host and port; ``ports``: those of HTTP and
    DICOM.
    """
    with tempfile.TemporaryDirectory() as folder:
        server = Orthanc(*(ports or (free_port(), free_port())))
        configuration = {
            "Name": "test",
            "StorageDirectory": f"{folder}/store",
            "IndexDirectory": f"{folder}/index",
            "HttpPort": server.http_port,
            "DicomPort": server.dicom_port,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [str(_DICOMWEB)] if dicomweb else [],
            "DicomAlwaysAllowStore": True,
            "DicomModalities": {name: list(node) for name, node in (modalities or {}).items()},
        }
        file = Path(folder, "orthanc.json")
        file.write_text(json.dumps(configuration))
        process = subprocess.Popen([str(PROGRAM), str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=60)


def free_port() -> int:
    """Return a port of the loopback interface that no program uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait(server: Orthanc, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.get("/system")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"Orthanc does not answer (exit code {process.poll()})")
