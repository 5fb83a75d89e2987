"""The page of an evaluation: numbers of the table, names only on request, pictures only from its own folder."""

from __future__ import annotations

import dataclasses
import io
import math
import re

import numpy as np
import pytest
from PIL import Image

from medcyclegan.errors import ReadError, UsageError
from medcyclegan.evaluation import CaseScores, Evaluation, Refusal, compare_models, evaluate, mean_interval, write_table
from medcyclegan.report import ReportOptions, charts, write_report

FLAT = Evaluation(
    mae=100.0, psnr=10.0, ms_ssim=0.1, mae_2023=100.0, psnr_2023=9.0, ssim_2023=0.05, mean_error=-20.0, ncc=0.0,
    mae_air=None, mae_soft_tissue=90.0, mae_bone=300.0, voxels=1000, unit="HU", normalization="none", scored="flat",
)  # fmt: skip


def png():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def cases(*maes, picture=None):
    baselines = {"flat": FLAT, "water": dataclasses.replace(FLAT, mae=130.0, scored="water")}
    better = dataclasses.replace(FLAT, psnr=20.0, scored="fake", baselines=baselines, notes=("fake: resampled",))
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
    assert "In 1 of 3 cases, the MAE of a baseline is lower than that of the translation, or equal." in page
    assert "In case 2, that of the baseline flat is 100, lower than that of the translation, 120." in page
    assert "Each point is a case." in page
    assert ": median " not in page, "three cases have no distribution"
    assert "The baseline from the training set is missing" in page
    headings = re.findall(r"<button[^>]*>([^<]*)</button>", page)
    assert headings[-6:] == ["flat mae", "flat psnr", "flat ms_ssim", "water mae", "water psnr", "water ms_ssim"]
    assert page.count('<td data-value="130.0">130</td>') == 3
    assert "water: water (0 HU) everywhere" in page
    assert "<li>patients<b>3</b></li>" in page
    assert page.count("<svg") == 6
    assert "mae_air" not in page
    assert ("A case was refused" in page) == (ending == "json")


def test_every_baseline_has_a_color():
    assert len(charts._COLOURS) > len(evaluate.BASELINES), "the fake has a colour too"


def test_five_cases_have_a_median_and_fewer_are_points(tmp_path):
    write_table(tmp_path / "t.json", cases(*range(50, 55)))
    page = page_of(tmp_path / "t.json")
    assert "the line is the median" in page
    assert "fake: median 52, from 50 to 54" in page
    write_table(tmp_path / "four.json", cases(*range(50, 54)))
    page = page_of(tmp_path / "four.json")
    assert "the line is the median" not in page
    assert "fake: 50, 51, 52, 53" in page


def test_notes_are_whole_and_counted(tmp_path):
    first, second = (
        f"by their headers, the fake is MR and the reference CT: check the pair|fake: {n} x 64 voxels".split("|")
        for n in (32, 48)
    )
    noted = [
        dataclasses.replace(case, evaluation=dataclasses.replace(case.evaluation, notes=tuple(notes)))
        for case, notes in zip(cases(50.0, 60.0), (first, second), strict=True)
    ]
    write_table(tmp_path / "t.json", noted)
    page = page_of(tmp_path / "t.json")
    assert "By their headers, the fake is MR and the reference CT: check the pair (2 of 2 cases)." in page
    assert "Case 1: fake: 32 x 64 voxels (similar in 2 of 2 cases; see the table file)." in page


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
    assert "The smallest possible p for 5 patients is 0.0625" in page
    assert "<td>-10, -11, -12, -13, -14</td>" in page, "too few for an interval: each difference is shown"
    assert '<th scope="row">lowest</th><td>50</td>' in page
    assert '<th scope="row">highest</th><td>60</td>' in page
    assert "<li>mean mae<b>55 (50 to 60) HU</b></li>" in page
    assert "<li>mean mae, water<b>130</b></li>" in page
    assert "95 % interval from" not in page


def test_ten_patients_have_an_interval_and_no_list_of_differences(tmp_path):
    scores = [{f"c{n}": {"mae": value + n * step} for n in range(10)} for value, step in ((50.0, 1), (60.0, 2))]
    write_table(tmp_path / "t.json", cases(*range(50, 60)), comparison=compare_models(*scores))
    page = page_of(tmp_path / "t.json")
    low, high = (f"{limit:.4g}" for limit in mean_interval(np.arange(50, 60)))
    assert f'<th scope="row">95 % interval from</th><td>{low}</td>' in page
    assert f'<th scope="row">to</th><td>{high}</td>' in page
    assert "<li>mean mae<b>54.5 ± 3.0 HU</b></li>" in page
    assert "-10, -11" not in page


def test_sessions_of_a_patient_are_counted_as_one(tmp_path):
    write_table(tmp_path / "t.json", [dataclasses.replace(c, patient="one") for c in cases(*range(50, 62))])
    page = page_of(tmp_path / "t.json")
    assert "<li>cases<b>12</b></li><li>patients<b>1</b></li>" in page
    assert "95 % interval from" not in page


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_every_baseline_is_drawn_and_tabled(tmp_path, ending):
    """With the maximum number of groups, every group has a color of its own."""
    scored = ("input", "tissue_means", "flat", "water")
    found = {name: dataclasses.replace(FLAT, mae=200.0 + n, scored=name) for n, name in enumerate(scored)}
    evaluations = [dataclasses.replace(each.evaluation, baselines=found) for each in cases(50.0, 60.0)]
    write_table(tmp_path / f"t.{ending}", [CaseScores(str(n), each) for n, each in enumerate(evaluations)])
    page = page_of(tmp_path / f"t.{ending}")
    for name, value in zip(("input", "tissue means", "flat", "water"), range(200, 204), strict=True):
        assert f"{name}: {value}, {value}" in page
        assert f">{name} mae</button>" in page
    assert "The baseline from the training set is missing" not in page


def test_pictures_are_sorted_worst_first(tmp_path):
    write_table(tmp_path / "t.json", cases(50.0, 120.0, 61.25, picture=png()))
    page = page_of(tmp_path / "t.json")
    assert re.findall(r"<figcaption>Case (\d): MAE ([\d.]+)", page) == [("2", "120"), ("3", "61.25"), ("1", "50")]
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", page))


def test_pictures_from_elsewhere_are_not_taken(tmp_path):
    """A table from another person cannot include files of this machine in the page."""
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
    changes = (('"cases"', '"rows"'), ('"mae"', '"mea"'), ('"water"', '"watre"'), ('"patient"', '"person"'))
    for broken in (text[:-30], *(text.replace(*change) for change in changes)):
        (tmp_path / "t.json").write_text(broken)
        with pytest.raises(ReadError, match=r"t\.json"):
            page_of(tmp_path / "t.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ReadError, match=r"other\.json"):
        page_of(tmp_path / "other.json")
    write_table(tmp_path / "t.json", cases(50.0))
    with pytest.raises(UsageError, match=r"--reference: .* is a table"):
        page_of(tmp_path / "t.json", reference=tmp_path / "r.nii.gz")
