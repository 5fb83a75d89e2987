"""The pages in a real browser: they load without network requests, draw, and react to input."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from support import browser as chromium
from support.phantoms import make_affine

from medcyclegan.evaluation import CaseScores, Evaluation, write_table
from medcyclegan.io import write_volume
from medcyclegan.phantom import ct_volume, make_head, t1_volume
from medcyclegan.report import ReportOptions, write_report
from medcyclegan.report.viewing import error_volume
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
        json.dumps(
            {
                "made_by": "medcyclegan translate-volume",
                "synthetic": True,
                "Modality": "CT",
                "uncertainty": {"calibrated": False, "mean": 1.0, "percentile_95": 3.0, "unit": "HU"},
            }
        )
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


def shown_value(window, name):
    """The number and the unit below a view."""
    figure = f"[...document.querySelectorAll('#views figure')].find((f) => f.querySelector('[data-volume={name}]'))"
    return window.run(f"return {figure}.querySelector('output').textContent")


def near_the_cross_hair(window, volume, array):
    """The values of ``array``, on the grid of ``volume``, at most one voxel away from the cross-hair."""
    place = window.run("return document.getElementById('place').textContent")
    numbers = place.removeprefix("Crosshair at ").removesuffix(" (mm)").split(", ")
    mm = [float(word.split()[0]) * (-1 if word.split()[1] in "LPI" else 1) for word in numbers]
    voxel = np.rint(np.linalg.inv(volume.affine) @ [*mm, 1])[:3].astype(int)
    return array[tuple(slice(max(v - 1, 0), v + 2) for v in voxel)]


def test_the_viewer_shows_the_voxel_under_the_cross_hair(window, translation):
    """The numbers below the views are the values of the volumes at that position."""
    window.open(translation["inside"], width=1280)
    window.wait_for(READY)
    window.set("#slice", 0.45)
    reference = ct_volume(make_head(3, shape=(40, 48, 28), spacing_mm=(5.0, 5.0, 5.0)))
    near = near_the_cross_hair(window, reference, reference.array)
    value = shown_value(window, "reference")
    assert value.endswith(" HU")
    assert near.min() <= float(value.split()[0]) <= near.max()


def test_the_viewer_computes_the_error_of_a_reference_on_another_grid(window, tmp_path):
    fake = ct_volume(make_head(4, shape=(40, 48, 28), spacing_mm=(5.0, 5.0, 5.0)))
    other = ct_volume(make_head(3, shape=(52, 60, 26), spacing_mm=(3.7, 3.9, 4.5)))
    motion = make_affine("RAS", origin=(3.0, -2.0, 1.5), rotation_degrees=(4.0, 0.0, 7.0))
    reference = other.replace(affine=motion @ other.affine)
    for name, volume in {"fake": fake, "ref": reference}.items():
        write_volume(volume, tmp_path / f"{name}.nii.gz")
    write_report(tmp_path / "fake.nii.gz", ReportOptions(out=tmp_path / "p.html", reference=tmp_path / "ref.nii.gz"))
    window.open(tmp_path / "p.html", width=1280)
    window.wait_for(READY)
    expected = error_volume(fake, reference).array
    shown_values = []
    for position in np.linspace(0.02, 0.98, 25):
        window.set("#slice", float(position))
        shown = float(shown_value(window, "error").split()[0])
        assert np.abs(near_the_cross_hair(window, fake, expected) - shown).min() <= 1, position
        shown_values.append(shown)
    assert len(set(shown_values)) > 8
    assert 0 in shown_values, "outside the reference"


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


def test_the_page_reports_missing_volumes(window, translation, tmp_path):
    alone = tmp_path / "small.html"
    alone.write_bytes(translation["separate"].read_bytes())
    window.open(alone, width=1280)
    window.wait_for("document.getElementById('viewer-message').className === 'warning'")
    said = window.run("return document.getElementById('viewer-message').textContent")
    assert "the file small-volumes/input.js is missing next to this page" in said
