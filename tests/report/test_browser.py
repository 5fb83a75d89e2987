"""The pages in a real browser: they load without network requests, draw, and react to input."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from support import browser as chromium

from medcyclegan.evaluation import CaseScores, Evaluation, write_table
from medcyclegan.io import write_volume
from medcyclegan.phantom import ct_volume, make_head, t1_volume
from medcyclegan.report import ReportOptions, write_report
from medcyclegan.volume import Volume

pytestmark = pytest.mark.skipif(chromium.MISSING is not None, reason=str(chromium.MISSING))

WIDTHS = (1280, 390)
READY = "document.body.dataset.viewer === 'ready'"
PANELS = ("input", "fake", "reference", "error", "uncertainty")


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with chromium.open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def translation(tmp_path_factory):
    """A page with all five volumes; fake and reference differ in smoothness, the uncertainty map is invented."""
    folder = tmp_path_factory.mktemp("translation")
    head = make_head(3, shape=(40, 48, 28), spacing_mm=(5.0, 5.0, 5.0))
    reference = ct_volume(head)
    smooth = np.rint(ndimage.gaussian_filter(reference.array.astype(np.float32), 0.8)).astype(np.int16)
    uncertainty = ndimage.gaussian_gradient_magnitude(reference.array.astype(np.float32), 1)
    volumes = {
        "in": t1_volume(head),
        "fake": reference.replace(array=smooth),
        "ref": reference,
        "uncertainty": Volume(uncertainty, reference.affine),
    }
    for name, volume in volumes.items():
        write_volume(volume, folder / f"{name}.nii.gz")
    (folder / "fake.json").write_text(
        json.dumps({"made_by": "medcyclegan translate-volume", "synthetic": True, "Modality": "CT"})
    )
    paths = {
        "source": folder / "in.nii.gz",
        "reference": folder / "ref.nii.gz",
        "uncertainty": folder / "uncertainty.nii.gz",
    }
    inside = ReportOptions(out=folder / "page.html", **paths)
    separate = ReportOptions(out=folder / "small.html", embedded_mb=0.0, **paths)
    return {
        "inside": write_report(folder / "fake.nii.gz", inside),
        "separate": write_report(folder / "fake.nii.gz", separate),
    }


@pytest.fixture(scope="module")
def pages(tmp_path_factory, translation):
    """One page of each type."""
    folder = tmp_path_factory.mktemp("pages")
    run = folder / "run"
    (run / "panels").mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 0\n")
    (run / "run.json").write_text(json.dumps({"state": "finished", "step": 200, "steps": 200, "domains": ["t1", "t2"]}))
    rows = [{"step": n, "cycle_A": 1 / n, "cycle_B": 2 / n} for n in range(1, 201)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (100, 200):
        Image.fromarray(np.full((60, 120), step, np.uint8)).save(run / f"panels/step-{step:06d}.png")
    flat = Evaluation(
        mae=100.0, psnr=10.0, ms_ssim=0.1, mae_2023=100.0, psnr_2023=9.0, ssim_2023=0.05, mean_error=-20.0, ncc=0.0,
        mae_air=None, mae_soft_tissue=90.0, mae_bone=300.0, voxels=9, unit="HU", normalization="none", scored="input",
    )  # fmt: skip
    cases = [
        CaseScores(str(n), dataclasses.replace(flat, mae=mae, scored="fake", baselines={"input": flat}))
        for n, mae in enumerate((60.0, 40.0, 50.0))
    ]
    write_table(folder / "table.json", cases)
    return {
        "run": write_report(run),
        "table": write_report(folder / "table.json"),
        "translation": translation["inside"],
        "separate volumes": translation["separate"],
    }


@pytest.mark.parametrize("kind", ["run", "table", "translation", "separate volumes"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_loads_in_silence_and_fits_the_screen(window, pages, tmp_path_factory, kind, width):
    window.console.clear()
    window.requests.clear()
    window.listen()
    window.console.clear()
    window.requests.clear()
    page = pages[kind]
    window.open(page, width=width, dark=width == 390)
    if "volumes" in kind or kind == "translation":
        window.wait_for(READY)
    window.listen()
    assert window.console == []
    separate = page.with_name(f"{page.stem}-volumes").as_uri()
    asked = [url for url in window.requests if not url.startswith(("data:", "blob:", page.as_uri(), separate))]
    assert asked == []
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.run("return [...document.images].every((i) => i.alt && i.complete && i.naturalWidth > 0)")
    picture = window.picture()
    saved = tmp_path_factory.getbasetemp() / "screenshots" / f"{kind.replace(' ', '-')}-{width}.png"
    saved.parent.mkdir(exist_ok=True)
    Image.fromarray(picture).save(saved)
    dark = picture.mean() < 128
    assert saved.stat().st_size > 5000
    assert dark == (width == 390)


def test_the_viewer_draws_and_everything_moves(window, translation):
    window.open(translation["inside"], width=1280, height=1800)  # all views are in the window
    window.wait_for(READY)

    def look():
        return {name: window.picture(f"canvas[data-volume={name}]").astype(int) for name in PANELS}

    def changed(before, after, least=0.002):
        return {name for name in PANELS if np.mean(np.abs(before[name] - after[name]).max(axis=2) > 20) > least}

    first = look()
    for name in PANELS:
        assert first[name].max() > 150, f"{name} draws nothing"
        assert np.ptp(first[name].mean(axis=2)) > 50
    place = window.run("return document.getElementById('place').textContent")

    window.click("canvas[data-volume=fake]", 0.35, 0.4)
    clicked = look()
    assert changed(first, clicked) == set(PANELS), "a click moves the cross-hairs of all views"
    assert window.run("return document.getElementById('place').textContent") != place
    values = window.run("return [...document.querySelectorAll('#views output')].map((o) => o.textContent)")
    assert len(values) == 5
    assert all(values)

    window.set("#slice", 0.3)
    slid = look()
    assert changed(clicked, slid, 0.02) == set(PANELS), "the slider changes the slice of all views"

    window.set("select[data-kind=CT]", 2, "change")
    windowed = look()
    assert changed(slid, windowed) == {"fake", "reference"}, "a CT window changes the two CT views"

    window.set("#overlay", "error", "change")
    overlaid = look()
    assert changed(windowed, overlaid) == {"fake"}
    window.set("#opacity", 0)
    assert changed(windowed, look()) == set(), "at opacity 0 the fake is as it was"

    bars = window.run("return [...document.querySelectorAll('#views .bar')].map((b) => b.textContent)")
    assert [bar.split(" ")[-1] for bar in bars] == ["a.u.", "HU", "HU", "HU", "HU"], (
        "every view has a bar with its unit"
    )
    assert bars[1] == "-3001500 HU", "the bar shows the chosen window"

    window.click("[data-plane='1']")
    assert changed(windowed, look(), 0.02) == set(PANELS), "the coronal view differs from the axial one"

    narrow = window.run("return document.querySelector('#views .canvas').clientWidth")
    window.click("[data-plane='3']")
    wide = window.run("return document.querySelector('#views .canvas').clientWidth")
    page = window.run("return document.querySelector('main').clientWidth")
    assert wide > 0.95 * (page - 40) > 2 * narrow, "three planes take the width of the page"


def test_the_viewer_shows_the_voxel_under_the_cross_hair(window, translation):
    """The numbers below the views are the values of the volumes at that position."""
    window.open(translation["inside"], width=1280)
    window.wait_for(READY)
    window.set("#slice", 0.45)
    place = window.run("return document.getElementById('place').textContent")
    values = window.run(
        "return Object.fromEntries([...document.querySelectorAll('#views figure')].map((f) => "
        "[f.querySelector('canvas').dataset.volume, f.querySelector('output').textContent]))"
    )
    numbers = place.removeprefix("Crosshair at ").removesuffix(" (mm)").split(", ")
    mm = [float(word.split()[0]) * (-1 if word.split()[1] in "LPI" else 1) for word in numbers]
    head = make_head(3, shape=(40, 48, 28), spacing_mm=(5.0, 5.0, 5.0))
    reference = ct_volume(head)
    voxel = np.rint(np.linalg.inv(reference.affine) @ [*mm, 1])[:3].astype(int)
    near = reference.array[tuple(slice(v - 1, v + 2) for v in voxel)]
    assert values["reference"].endswith(" HU")
    assert near.min() <= float(values["reference"].split()[0]) <= near.max()


def test_the_runs_slider_changes_the_panel(window, pages):
    window.open(pages["run"], width=1280)
    before = window.picture("#panel")
    window.set("#step", 0)
    after = window.picture("#panel")
    assert before.mean() > 190
    assert after.mean() < 110
    assert window.run("return document.getElementById('step-number').textContent") == "100"
    assert window.run("return document.getElementById('panel').alt").endswith("after 100 steps.")


def test_a_heading_sorts_the_table(window, pages):
    window.open(pages["table"], width=390)
    cells = "return [...document.querySelectorAll('#cases-table tbody tr')].map((r) => r.cells[1].textContent)"
    assert window.run(cells) == ["60", "40", "50"]
    window.click("#cases-table thead th:nth-child(2) button")
    assert window.run(cells) == ["40", "50", "60"]
    window.click("#cases-table thead th:nth-child(2) button")
    assert window.run(cells) == ["60", "50", "40"]


def test_without_its_volumes_the_page_says_so(window, translation, tmp_path):
    alone = tmp_path / "small.html"
    alone.write_bytes(translation["separate"].read_bytes())
    window.open(alone, width=1280)
    window.wait_for("document.getElementById('viewer-message').className === 'warning'")
    said = window.run("return document.getElementById('viewer-message').textContent")
    assert "the file small-volumes/input.js is missing next to this page" in said
