"""The page of a run: its contents, its warnings, and the pages of unfinished runs."""

from __future__ import annotations

import fcntl
import json
import math
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from support.models import tiny_model, with_fitness

from medcyclegan.cli import main
from medcyclegan.errors import ReadError, UsageError, WriteError
from medcyclegan.io import ReadOptions
from medcyclegan.report import ReportOptions, write_report
from medcyclegan.report.charts import curve_chart


@pytest.fixture
def run(tmp_path):
    """A finished run of 400 steps with falling losses and four panels."""
    folder = tmp_path / "runs/20260101-000000"
    (folder / "panels").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\nnetworks: <generator> & {kind: resnet}\n")
    record = {
        "state": "finished", "step": 400, "steps": 400, "domains": ["t1", "t2"], "slices": "../../secret-folder/slices",
        "sessions": [{"started": "2026-01-01", "device": "cpu", "seconds": 90.0, "versions": {"torch": "2"}}],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    rows = [_row(step) for step in range(10, 401, 10)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (100, 200, 300, 400):
        Image.fromarray(np.full((40, 80), step // 2, np.uint8)).save(folder / f"panels/step-{step:06d}.png")
    return folder


def _row(step, **changes):
    loss = math.exp(-step / 100)
    row = {"step": step, "cycle_A": loss, "cycle_B": 2 * loss, "discriminator_A": 0.2, "data_wait": 0.01}
    return {**row, "a_new_loss": loss, "images_per_second": 5.0, **changes}


def page_of(run, **options):
    return write_report(run, ReportOptions(overwrite=True, **options)).read_text()


def test_it_holds_curves_panels_configuration_and_provenance(run):
    page = page_of(run)
    assert page.count("<svg") == 4
    assert "Cycle loss: t1 from 0.905 to 0.0183; t2 from 1.81 to 0.0366." in page
    assert "a new loss" in page
    panels = json.loads(re.search(r"const panels = (\[.*?\]),", page)[1])
    assert [panel["step"] for panel in panels] == [100, 200, 300, 400]
    assert all(panel["source"].startswith("data:image/webp;base64,") for panel in panels)
    assert "&lt;generator&gt; &amp; {kind: resnet}" in page
    assert "<p>No current warnings" in page
    assert (
        "Above: a slice of t1, its translation to t2, and the translation back to t1. Below: the same for t2." in page
    )
    assert "cycle_A" not in page
    assert "secret-folder" not in page


def test_every_picture_has_a_description(run):
    page = page_of(run)
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", page))
    assert len(re.findall(r'role="img" aria-label="[^"]+"', page)) == page.count("<svg")


def test_it_loads_nothing_from_the_network(run):
    page = page_of(run)
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(?!data:|#)https?:', page)


def test_warnings_of_the_run_and_of_its_curves(run):
    record = json.loads((run / "run.json").read_text())
    record["health"] = {
        "warnings": [{"step": 50, "name": "x", "message": "the fakes are <nearly> their inputs", "last_step": 400}],
        "last_check": 400,
    }
    (run / "run.json").write_text(json.dumps(record))
    rows = [_row(step, data_wait=0.5) for step in range(10, 401, 10)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 41')
    page = page_of(run)
    assert "Step 50: the fakes are &lt;nearly&gt; their inputs" in page
    assert "50% of the time is spent waiting" in page


def test_only_warnings_active_at_the_last_check_are_current(run):
    record = json.loads((run / "run.json").read_text())
    warnings = [
        {"step": 50, "name": "displacement AB", "message": "shifted <then>", "last_step": 90},
        {"step": 300, "name": "edges lost AB", "message": "edges gone now", "last_step": 400},
    ]
    record["health"] = {"warnings": warnings, "last_check": 400}
    (run / "run.json").write_text(json.dumps(record))
    page = page_of(run)
    assert re.findall(r'<p class="warning">(.*?)</p>', page) == ["<b>Current.</b> Step 300: edges gone now"]
    resolved = re.findall(r'<p class="resolved">(.*?)</p>', page)
    assert resolved == ["<b>Resolved.</b> Step 50: shifted &lt;then&gt; (last seen at step 90)"]
    assert "No current warnings" not in page
    for passed in warnings:
        passed["last_step"] = 90
    (run / "run.json").write_text(json.dumps(record))
    page = page_of(run)
    assert "<p>No current warnings" in page
    assert page.count("<b>Resolved.</b>") == 2


def test_the_models_own_verdict_is_shown(run):
    assert "Verdict before any translation" not in page_of(run)
    model = with_fitness(tiny_model(), steps=60)
    model.save(run / "model")
    page = page_of(run)
    assert "Verdict before any translation: <b>doubtful</b>" in page
    assert page.count("the model was trained for 60 steps, fewer than 1000") == 1
    with_fitness(tiny_model()).save(run / "model", overwrite=True)
    assert "Verdict before any translation: <b>ok</b>" in page_of(run)
    tiny_model().save(run / "model", overwrite=True)
    assert "does not record how it was trained" in page_of(run)
    (run / "model" / "model.json").write_text("{")
    assert "Verdict before any translation" not in page_of(run)


@pytest.mark.parametrize(
    "health",
    [
        ["a warning"],
        {"warnings": ["a warning"], "last_check": 400},
        {"warnings": [{"step": 50, "message": "a warning"}], "last_check": 400},
        {"warnings": [{"step": 50, "message": "a warning", "last_step": 50}]},
        None,
    ],
)
def test_a_damaged_record_of_health_is_refused(run, health):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "health": health}))
    with pytest.raises(ReadError, match=r"run\.json: its health cannot be read \(.*copy the run's folder again"):
        page_of(run)


def test_a_run_that_has_just_begun(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(
        json.dumps({**record, "state": "failed", "step": 3, "reason": "it fell", "sessions": []})
    )
    (run / "metrics.jsonl").unlink()
    for file in (run / "panels").iterdir():
        file.unlink()
    page = page_of(run)
    assert "The run failed at step 3: it fell." in page
    assert "<svg" not in page


def test_a_run_whose_process_is_gone_is_not_shown_as_running(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "state": "running", "step": 120}))
    page = page_of(run)
    assert "medcyclegan train --resume continues it. Its last checkpoint is at step 120." in page
    assert "<li>step<b>400 of 400</b></li><li>last checkpoint<b>step 120</b></li>" in page
    assert len(re.findall(">interrupted<", page)) == 2, "a card and the table"
    with (run / ".lock").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        page = page_of(run)
    assert "The run is still being trained, and is at step 120." in page
    assert "interrupted" not in page


def test_a_killed_pretraining_is_continued_by_pretrain(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "state": "running", "pairs": {"kind": "synthetic"}}))
    page = page_of(run)
    assert "medcyclegan pretrain --resume continues it" in page
    assert "medcyclegan train --resume" not in page


def test_many_panels_are_thinned(run, monkeypatch):
    monkeypatch.setattr("medcyclegan.report.run_page._MOST_PANELS", 3)
    page = page_of(run)
    panels = json.loads(re.search(r"const panels = (\[.*?\]),", page)[1])
    assert [panel["step"] for panel in panels] == [100, 300, 400]
    assert "3 of 4 pictures are shown." in page


def test_the_command_finds_the_latest_run(run, monkeypatch):
    monkeypatch.chdir(run.parents[1])
    (run.parent / "latest").symlink_to(run.name)
    result = CliRunner().invoke(main, ["report"])
    assert result.exit_code == 0, result.output
    assert result.stdout == "runs/latest/report.html\n"
    assert (run / "report.html").is_file()
    again = CliRunner().invoke(main, ["report"])
    assert again.exit_code == 1
    assert again.stderr.startswith("Error: runs/latest/report.html exists")


def test_what_cannot_be_reported_is_refused(run, tmp_path):
    with pytest.raises(ReadError, match="no such run, table or volume"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"choose a name that ends in \.html"):
        write_report(run, ReportOptions(out=tmp_path / "x.pdf"))
    with pytest.raises(UsageError, match=r"--uncertainty: .* is a training run"):
        write_report(run, ReportOptions(uncertainty=tmp_path / "t.nii.gz"))
    with pytest.raises(UsageError, match=r"--embed-mb: .* is a training run"):
        write_report(run, ReportOptions(embedded_mb=60.0))
    with pytest.raises(UsageError, match="--names"):
        write_report(run, ReportOptions(names=True))
    with pytest.raises(UsageError, match=r"--split-by: .* no volume is read"):
        write_report(run, ReportOptions(reading=ReadOptions(split_by="EchoTime")))
    write_report(run)
    with pytest.raises(WriteError, match="--overwrite"):
        write_report(run)
    (run / "panels/step-000200.png").write_bytes(b"cut short")
    with pytest.raises(ReadError, match=r"step-000200\.png: cannot be read as a picture"):
        page_of(run)
    (run / "run.json").write_text("{")
    with pytest.raises(ReadError, match=r"run\.json cannot be read"):
        page_of(run)


def test_a_legend_of_long_names_leaves_space_for_the_curves():
    """Warnings are errors, and matplotlib warns if a legend takes the whole width."""
    curves = {f"a rather long name of curve {n}": [(1, 1.0), (2, 2.0)] for n in range(4)}
    assert curve_chart("Many", curves).svg.count("a rather long name") == 4
