"""The server of the page: who may use it, what it does, and that nothing remains."""

import contextlib
import importlib
import io
import os
import signal
import socket
import time
import zipfile

import numpy as np
import pydicom
import pytest
from support import dicom_phantoms as made
from support.app_server import running_app
from support.models import tiny_model
from support.phantoms import head_mr, make_affine

from medcyclegan.app.serve import serve_app
from medcyclegan.errors import MissingExtraError, UsageError
from medcyclegan.io import read_volume, write_volume

pytest.importorskip("starlette", reason="starlette is not installed: pip install 'medcyclegan[app]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'medcyclegan[app]'")
CHOICE = "t1 to t2 (head-t1-t2)"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    tiny_model().save(folder / "my model")
    with running_app(folder / "temporary", "--model", str(folder / "my model")) as app:
        yield app


@pytest.fixture
def page(server):
    with server.open_page() as opened:
        yield opened


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A small T1 volume."""
    return head_mr((48, 56, 10), make_affine("LPS", (4.0, 4.0, 4.0)))


@pytest.fixture(scope="module")
def nifti(scan, tmp_path_factory):
    path = tmp_path_factory.mktemp("nifti") / "PATIENT_t1.nii.gz"
    write_volume(scan, path)
    return path.read_bytes()


def ended(page):
    """Return the event with which a translation ends, and the fractions before it."""
    fractions = []
    while (event := page.next_event())["kind"] == "progress":
        fractions.append(event["fraction"])
    return event, fractions


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (421, {"Host": "evil.example:80"}),
        (421, {"Host": "127.0.0.1"}),
        (421, {"Host": None}),
        (403, {"Origin": "http://evil.example"}),
        (403, {"Origin": "null"}),
        (403, {"Origin": "http://127.0.0.1:1"}),
        (403, {"Sec_Fetch_Site": "cross-site"}),
        (403, {"Sec_Fetch_Site": "same-site"}),
    ],
)
def test_requests_of_other_pages_are_refused(server, page, status, headers):
    for method, path in (("GET", server.path), ("GET", f"{server.path}events")):
        assert server.ask(method, path, **headers)[0] in (status, 400), path  # h11 itself refuses a missing host
    assert server.ask("PUT", f"{server.path}pages/{page.id}/upload", b"x", **headers)[0] in (status, 400)
    assert server.files() == []


def test_a_change_needs_the_pages_own_origin(server, page):
    path = f"{server.path}pages/{page.id}/upload"
    assert server.ask("PUT", path, b"x", Origin=None)[0] == 403
    assert server.ask("PUT", path, b"x")[0] == 415
    assert server.ask("POST", path, b"x")[0] == 405


def test_without_the_token_nothing_is_there(server, page):
    for path in ("/", "/app.js", "/events", f"/{'x' * 32}/", f"/pages/{page.id}/upload", "//", f"{server.path}../"):
        assert server.ask("GET", path)[0] == 404, path
    assert len(server.path.strip("/")) >= 32


def test_only_the_loopback_listens(server):
    names = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for name in names - {"127.0.0.1", "127.0.1.1"}:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((name, server.port), 5)


def test_large_headers_and_long_requests_are_refused(server, page):
    assert server.ask("GET", server.path, Cookie="x" * 20_000)[0] == 431
    assert server.ask("GET", server.path + "x" * 20_000)[0] == 431
    with contextlib.suppress(ConnectionError):  # it closes the connection, also while we are still sending
        assert server.ask("GET", server.path, Cookie="x" * 10_000_000)[0] in (400, 431)
    assert page.translate(choice="x" * 20_000)[0] == 404
    assert server.ask("GET", server.path)[0] == 200


def test_every_answer_forbids_embedding_and_keeping(server):
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        host = f"127.0.0.1:{server.port}"
        plain.sendall(f"GET {server.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head = b"".join(iter(lambda: plain.recv(4096), b"")).split(b"\r\n\r\n")[0].decode().lower()
    for line in ("x-frame-options: sameorigin", "cache-control: no-store", "referrer-policy: no-referrer"):
        assert line in head
    assert "frame-ancestors 'self'" in head


def test_a_nifti_file_becomes_a_nifti_file(server, page, nifti, scan, tmp_path):
    status, answer = page.upload(nifti)
    assert status == 200, answer
    assert (answer["volumes"][0]["columns"], answer["volumes"][0]["slices"]) == (48, 10)
    assert sorted(answer["choices"])[:2] == ["ct to mr (my model)", "ct to t1 (head-t1-ct)"]
    assert page.translate(choice=CHOICE, uncertainty=True)[0] == 202
    done, fractions = ended(page)
    assert done["kind"] == "done", done
    assert done["downloads"] == ["synthetic-t2.nii.gz", "synthetic-t2.json", "uncertainty.nii.gz"]
    assert fractions == sorted(fractions)
    assert len(fractions) > 3
    for name in ("synthetic-t2.nii.gz", "uncertainty.nii.gz"):
        status, content = page.result(name)
        assert status == 200
        (tmp_path / name).write_bytes(content)
        found = read_volume(tmp_path / name)
        assert found.shape == scan.shape
        assert found.synthetic
        np.testing.assert_allclose(found.affine, scan.affine, atol=1e-5)
    html = page.result("view/report.html")[1].decode()
    assert "script-src 'unsafe-inline' 'self' file:" in html
    assert "PATIENT" not in html
    assert page.result("view/report-volumes/fake.js")[0] == 200
    for name in ("view/../synthetic-t2.json", "../volume.nii.gz", "volume.nii.gz", "/etc/passwd", "view/"):
        assert page.result(name)[0] == 404, name


def test_a_zipped_series_becomes_a_zipped_series(server, page, scan, tmp_path):
    made.save(made.slices_of(scan), tmp_path / "series")
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (tmp_path / "series").iterdir():
            archive.write(file, f"patient/{file.name}")
    status, answer = page.upload(memory.getvalue())
    assert status == 200, answer
    assert answer["volumes"][0]["modality"] == "MR"
    assert page.translate(choice=CHOICE)[0] == 202
    done, _ = ended(page)
    assert done["kind"] == "done", done
    assert done["downloads"] == ["synthetic-t2.zip", "synthetic-t2.json"]
    with zipfile.ZipFile(io.BytesIO(page.result("synthetic-t2.zip")[1])) as archive:
        archive.extractall(tmp_path / "made")
    images = [pydicom.dcmread(path) for path in (tmp_path / "made").rglob("*.dcm")]
    source = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    assert len(images) == 10
    assert {image.StudyInstanceUID for image in images} == {source.StudyInstanceUID}
    assert {image.SyntheticData for image in images} == {"YES"}


def test_a_translation_that_fails_is_a_line(server, page, nifti):
    assert page.upload(nifti)[0] == 200
    assert page.translate(choice="ct to t1 (head-t1-ct)")[0] == 202
    failed, _ = ended(page)
    assert failed["kind"] == "failed"
    assert "if it is not a CT, translate to ct" in failed["text"]
    assert "/tmp" not in failed["text"]
    assert [path.name for path in server.files()] == ["volume.nii.gz"]
    for asked in ({"choice": "t1 to pet"}, {"choice": CHOICE, "volume": 5}, {"choice": CHOICE, "volume": "x"}, {}):
        assert page.translate(**asked)[0] == 400


def test_files_vanish_and_work_ends_when_the_page_is_closed(server, nifti):
    with server.open_page() as page:
        assert page.upload(nifti)[0] == 200
        assert [path.name for path in server.files()] == ["volume.nii.gz"]
        assert page.translate(choice=CHOICE, three=True)[0] == 202
        assert page.next_event()["kind"] == "progress"
        assert jobs_of(server)
        assert page.upload(nifti)[0] == 409
        with server.open_page() as second:
            assert second.upload(nifti)[0] == 200
            assert second.translate(choice=CHOICE)[0] == 409
    wait_until(lambda: not server.files())
    wait_until(lambda: not jobs_of(server))
    assert page.upload(nifti)[0] == 404


def test_a_translation_can_be_stopped(server, page, nifti):
    assert page.upload(nifti)[0] == 200
    assert page.translate(choice=CHOICE, three=True)[0] == 202
    assert page.next_event()["kind"] == "progress"
    assert server.ask("POST", f"{server.path}pages/{page.id}/stop", b"")[0] == 200
    failed, _ = ended(page)
    assert "it was stopped" in failed["text"]
    assert page.translate(choice=CHOICE)[0] == 202
    assert ended(page)[0]["kind"] == "done"


def test_no_more_than_eight_pages_are_open(server):
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(server.open_page())
        assert server.ask("GET", f"{server.path}events")[0] == 503
    wait_until(lambda: not any(server._temporary.rglob("*-medcyclegan-app/*")))


def jobs_of(server):
    """Return the processes that the server started."""
    return [pid for pid in os.listdir("/proc") if pid.isdecimal() and parent_of(pid) == server.process.pid]


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_files_vanish_when_the_server_ends(tmp_path, nifti, number):
    with running_app(tmp_path / "temporary") as app, app.open_page() as page:
        assert page.upload(nifti)[0] == 200
        folder = next((tmp_path / "temporary").iterdir())
        assert folder.stat().st_mode & 0o777 == 0o700
        assert page.translate(choice=CHOICE, three=True)[0] == 202
        assert page.next_event()["kind"] == "progress"
        (job,) = jobs_of(app)
        app.process.send_signal(number)
        assert app.process.wait(timeout=30) == {signal.SIGINT: 0, signal.SIGTERM: 1, signal.SIGKILL: -9}[number]
        wait_until(lambda: parent_of(job) == 0)
    if number == signal.SIGKILL:  # nothing can be done at that moment: the next one does it
        assert list((tmp_path / "temporary").rglob("volume.nii.gz"))
        time.sleep(0.1)
        with running_app(tmp_path / "temporary") as app:
            assert app.files() == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_port_in_use_is_a_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="in use: choose another one"):
            serve_app(print, port=taken.getsockname()[1])


def test_without_the_extra_its_name_is_printed(monkeypatch):
    def refuse(name, package=None):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"medcyclegan\[app\]"):
        serve_app(print)
