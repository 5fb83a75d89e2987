"""The page in a real browser: drop, progress, viewer, download, and what another page can do."""

import time

import numpy as np
import pytest
from support.app_server import running_app
from support.browser import MISSING, open_browser
from support.phantoms import head_mr, make_affine

from medcyclegan.io import read_volume, write_volume

pytest.importorskip("starlette", reason="starlette is not installed: pip install 'medcyclegan[app]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'medcyclegan[app]'")
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "there")

LAPTOP = {"width": 1366, "height": 768}
VIEW = "document.getElementById('view').contentDocument"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app")) as app:
        yield app


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(server, browser):
    browser.open(server.address, **LAPTOP)
    browser.wait_for("!document.getElementById('file').disabled")
    yield browser
    browser.run("location = 'about:blank'")


def text(browser, name):
    return browser.run(f"return document.getElementById('{name}').innerText")


def test_a_dropped_scan_is_translated_shown_and_downloaded(server, page, tmp_path):
    scan = head_mr((64, 72, 10), make_affine("LPS", (3.0, 3.0, 4.0)))
    write_volume(scan, tmp_path / "sub-1_T2w.nii.gz")
    page.drop("#drop", tmp_path / "sub-1_T2w.nii.gz")
    page.wait_for("!document.getElementById('start').disabled")
    assert text(page, "volume") == "64 x 72 x 10 voxels, 3 x 3 x 4 mm"
    assert page.run("return document.getElementById('choice').value") == "t2 to t1 (head-t1-t2)"
    page.run("window.seen = []; new MutationObserver(() => seen.push(document.getElementById('progress').value))"
             ".observe(document.getElementById('stage'), {childList: true})")  # fmt: skip
    page.click("#start")
    page.wait_for("document.body.dataset.last === 'done'", 300)
    seen = page.run("return seen")
    assert max(seen) > 0.9
    page.wait_for(f"{VIEW} && {VIEW}.body && {VIEW}.body.dataset.viewer === 'ready'")
    names = page.run(f"return [...{VIEW}.querySelectorAll('canvas[data-volume]')].map(c => c.dataset.volume)")
    assert names == ["input", "fake", "uncertainty"]
    picture = page.picture("#view")
    assert np.std(picture[: len(picture) // 2]) > 20  # the views are drawn
    inside = f"{VIEW}.documentElement"
    page.wait_for(f"{inside}.scrollHeight <= {inside}.clientHeight")  # nothing has to be scrolled inside the page
    page.download_to(tmp_path)
    links = page.run("return [...document.querySelectorAll('#downloads a')].map(a => a.download)")
    assert links == ["synthetic-t1.nii.gz", "synthetic-t1.json", "uncertainty.nii.gz"]
    page.click("#downloads a")
    end = time.monotonic() + 30
    while not (tmp_path / links[0]).exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert read_volume(tmp_path / links[0]).synthetic
    page.listen()
    assert not page.console
    assert not [url for url in page.requests if not url.startswith((server.address, "data:", "blob:", "about:"))]
    page.run("location = 'about:blank'")
    while server.files():
        assert time.monotonic() < end + 30
        time.sleep(0.1)


def test_a_file_that_is_no_scan_is_refused_with_the_reason(server, page, tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7" + bytes(1000))
    page.drop("#drop", tmp_path / "a.pdf")
    page.wait_for("!document.getElementById('message').hidden")
    assert text(page, "message").startswith("The scan was refused: neither a NIfTI file nor a ZIP file")
    assert page.run("return document.getElementById('start').disabled")
    assert server.files() == []


def test_another_page_reaches_nothing(server, browser, tmp_path):
    attack = f"""
    <form id="form" method="post" enctype="text/plain" action="{server.address}pages/x/upload" target="frame"></form>
    <iframe name="frame"></iframe><iframe id="framed" src="{server.address}"></iframe>
    <script>
    window.got = [];
    for (const path of ["", "events", "app.js"])
      fetch("{server.address}" + path).then(() => got.push("read " + path), () => got.push("refused"));
    fetch("{server.address}", {{mode: "no-cors"}}).then(() => got.push("read"), () => got.push("refused"));
    document.getElementById("form").submit();
    </script>"""
    (tmp_path / "attack.html").write_text(attack)
    browser.open(tmp_path / "attack.html", **LAPTOP)
    browser.wait_for("window.got.length === 4")
    assert browser.run("return got") == ["refused"] * 4
    assert server.files() == []
    assert not list(server._temporary.rglob("*-medcyclegan-app/*"))


def test_the_page_reports_that_the_server_has_ended(browser, tmp_path):
    with running_app(tmp_path / "temporary") as app:
        browser.open(app.address, **LAPTOP)
        browser.wait_for("!document.getElementById('file').disabled")
    browser.wait_for("!document.getElementById('message').hidden")
    assert "the scan was removed" in text(browser, "message")
    assert browser.run("return document.getElementById('file').disabled")
