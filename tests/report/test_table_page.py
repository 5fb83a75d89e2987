"""The page of an evaluation: figures as in the table, no names unless asked for, pictures beside it only."""

from __future__ import annotations

import dataclasses
import io
import math
import re

import numpy as np
import pytest
from PIL import Image

from medcyclegan.errors import ReadError, UsageError
from medcyclegan.evaluation import CaseScores, Evaluation, Refusal, compare_models, write_table
from medcyclegan.report import ReportOptions, write_report

FLAT = Evaluation(
    mae=100.0, psnr=10.0, ms_ssim=0.1, mae_2023=100.0, psnr_2023=9.0, ssim_2023=0.05, mean_error=-20.0, ncc=0.0,
    mae_air=None, mae_soft_tissue=90.0, mae_bone=300.0, voxels=1000, unit="HU", normalization="none", scored="flat",
)  # fmt: skip


def png():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def cases(*maes, picture=None):
    better = dataclasses.replace(FLAT, psnr=20.0, scored="fake", baseline=FLAT, notes=("fake: resampled",))
    return [
        CaseScores(f"sub-MARKER{n}", dataclasses.replace(better, mae=mae), picture)
        for n, mae in enumerate(maes, start=1)
    ]


def page_of(table, **options):
    return write_report(table, ReportOptions(overwrite=True, **options)).read_text()


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_it_holds_the_table_without_names(tmp_path, ending):
    table = tmp_path / f"t.{ending}"
    write_table(table, cases(50.0, 120.0, 61.25), [Refusal("sub-MARKER9", "sub-MARKER9 is broken")])
    page = page_of(table)
    assert "MARKER" not in page
    rows = re.findall(r'<tr><th scope="row" data-value="\d+">(\d+)</th><td data-value="([\d.]+)">', page)
    assert rows == [("1", "50.0"), ("2", "120.0"), ("3", "61.25")]
    assert "In 1 of 3 cases doing nothing gives an MAE that is as good" in page
    assert "No input was given, so the baseline is a flat image" in page
    assert page.count("<svg") == 6
    assert "mae_air" not in page
    assert ("A case was refused" in page) == (ending == "json")


def test_names_are_shown_on_request(tmp_path):
    write_table(tmp_path / "t.json", cases(50.0, 60.0), [Refusal("sub-MARKER9", "it is broken")])
    page = page_of(tmp_path / "t.json", names=True)
    assert ">sub-MARKER2</th>" in page
    assert "sub-MARKER9: it is broken" in page


def test_summary_and_comparison_are_the_tables(tmp_path):
    first = {f"c{n}": {"mae": 50.0 + n} for n in range(5)}
    second = {f"c{n}": {"mae": 60.0 + 2 * n} for n in range(5)}
    write_table(tmp_path / "t.json", cases(50.0, 60.0), comparison=compare_models(first, second))
    page = page_of(tmp_path / "t.json")
    assert '<th scope="row">mean</th><td>55</td>' in page
    assert "Wilcoxon signed-rank" in page
    assert "<td>-12</td>" in page
    assert "0.0625" in page


def test_pictures_stand_worst_first(tmp_path):
    write_table(tmp_path / "t.json", cases(50.0, 120.0, 61.25, picture=png()))
    page = page_of(tmp_path / "t.json")
    assert re.findall(r"<figcaption>Case (\d): MAE ([\d.]+)", page) == [("2", "120"), ("3", "61.25"), ("1", "50")]
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", page))


def test_pictures_from_elsewhere_are_not_taken(tmp_path):
    """A table from somebody else cannot make the page hold files of this machine."""
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "private.png")
    write_table(tmp_path / "t.json", cases(50.0, picture=png()))
    text = (tmp_path / "t.json").read_text()
    for place in ("private.png", "../private.png", str(tmp_path / "private.png"), "t-pictures/../private.png"):
        (tmp_path / "t.json").write_text(text.replace("t-pictures/0001.png", place))
        assert "<img" not in page_of(tmp_path / "t.json")


def test_infinite_scores_are_shown(tmp_path):
    perfect = dataclasses.replace(cases(0.0)[0].evaluation, psnr=math.inf)
    write_table(tmp_path / "t.json", [CaseScores("a", perfect)])
    assert '<td data-value="Infinity">∞</td>' in page_of(tmp_path / "t.json")


def test_other_files_are_no_tables(tmp_path):
    write_table(tmp_path / "t.json", cases(50.0))
    text = (tmp_path / "t.json").read_text()
    for broken in (text.replace('"cases"', '"rows"'), text[:-30], text.replace('"mae"', '"mea"')):
        (tmp_path / "t.json").write_text(broken)
        with pytest.raises(ReadError, match=r"t\.json"):
            page_of(tmp_path / "t.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ReadError, match=r"other\.json"):
        page_of(tmp_path / "other.json")
    write_table(tmp_path / "t.json", cases(50.0))
    with pytest.raises(UsageError, match=r"--reference: .* is a table"):
        page_of(tmp_path / "t.json", reference=tmp_path / "r.nii.gz")
