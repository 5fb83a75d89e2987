"""Tables that are written can be read, with the patient of each case and every baseline."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import numpy as np
import pytest

from medcyclegan.errors import ReadError
from medcyclegan.evaluation import (
    CaseScores,
    Evaluation,
    Refusal,
    compare_models,
    load_scores,
    mean_interval,
    merge_tables,
    rows_to_text,
    to_json,
    to_text,
    write_table,
)

FLAT = Evaluation(
    mae=100.0, psnr=10.0, ms_ssim=0.1, mae_2023=100.0, psnr_2023=9.0, ssim_2023=0.05, mean_error=-20.0, ncc=0.0,
    mae_air=None, mae_soft_tissue=90.0, mae_bone=300.0, voxels=1000, unit="HU", normalization="none", scored="flat",
)  # fmt: skip


WATER = dataclasses.replace(FLAT, mae=120.0, scored="water")


def case(name, mae, psnr=20.0, picture=None, patient=None):
    scores = dataclasses.replace(FLAT, mae=mae, psnr=psnr, scored="fake", baselines={"flat": FLAT, "water": WATER})
    return CaseScores(name, scores, picture, patient)


def test_infinity_in_json_is_readable_for_all_parsers():
    text = to_json({"psnr": math.inf, "note": '": Infinity', "list": [{"psnr": math.inf}]})
    read = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert read == {"psnr": math.inf, "note": '": Infinity', "list": [{"psnr": math.inf}]}


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_what_is_written_can_be_read(tmp_path, ending):
    cases = [case("p/a", 50.0, patient="p"), case('b, "quoted"', 60.5, psnr=math.inf)]
    write_table(tmp_path / f"t.{ending}", cases)
    scores = load_scores(tmp_path / f"t.{ending}")
    assert list(scores) == ["p/a", 'b, "quoted"']
    assert scores["p/a"]["mae"] == 50
    assert scores['b, "quoted"']["psnr"] == math.inf
    assert "mae_air" not in scores["p/a"]
    assert [row["patient"] for row in scores.values()] == ["p", 'b, "quoted"']


def test_the_json_table_holds_cases_summary_and_refusals(tmp_path):
    comparison = compare_models({"a": {"mae": 1.0}, "b": {"mae": 2.0}}, {"a": {"mae": 2.0}, "b": {"mae": 2.5}})
    cases = [case("a", 50.0, patient="p"), case("b", 60.0, patient="p"), case("c", 64.0)]
    write_table(tmp_path / "t.json", cases, [Refusal("c", "NaN")], comparison)
    table = json.loads((tmp_path / "t.json").read_text())
    assert table["made_by"] == "medcyclegan evaluate"
    assert [(row["case"], row["patient"]) for row in table["cases"]] == [("a", "p"), ("b", "p"), ("c", "c")]
    assert {name: scores["mae"] for name, scores in table["cases"][0]["baselines"].items()} == {
        "flat": 100,
        "water": 120,
    }
    assert (table["summary"]["fake"]["mae"]["mean"], table["summary"]["fake"]["mae"]["patients"]) == (59.5, 2)
    assert table["summary"]["baselines"]["flat"]["mae"]["mean"] == 100
    assert table["summary"]["baselines"]["water"]["mae"]["mean"] == 120
    assert table["refused"] == [{"case": "c", "reason": "NaN"}]
    assert table["comparison"]["metrics"]["mae"]["mean_difference"] == -0.75


def test_the_csv_table_holds_a_row_a_case(tmp_path):
    write_table(tmp_path / "t.csv", [case("a", 50.0), case("b", 60.0)])
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [(row["case"], row["mae"], row["flat_mae"], row["water_mae"], row["patient"]) for row in rows] == [
        ("a", "50.0", "100.0", "120.0", "a"),
        ("b", "60.0", "100.0", "120.0", "b"),
    ]
    assert rows[0]["mae_air"] == ""


def test_the_worst_and_best_cases_keep_their_pictures(tmp_path):
    cases = [case(str(n), mae=float(n), picture=f"png {n}".encode()) for n in range(10)]
    write_table(tmp_path / "t.json", cases)
    table = json.loads((tmp_path / "t.json").read_text())
    pictured = {row["case"]: row["picture"] for row in table["cases"] if row["picture"]}
    assert sorted(pictured) == ["0", "1", "2", "7", "8", "9"]
    assert (tmp_path / pictured["7"]).read_bytes() == b"png 7"
    assert len(list((tmp_path / "t-pictures").iterdir())) == 6


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"cases": []}', '{"cases": [{"mae": 1}]}', '{"cases": 3}'])
def test_another_file_is_no_table(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ReadError, match=r"t\.json"):
        load_scores(tmp_path / "t.json")


def test_the_text_of_one_case_has_a_column_for_each_baseline():
    lines = to_text([case("a", 50.0)]).splitlines()
    assert lines[0].split() == ["fake", "flat", "water"]
    assert ["mae", "50", "100", "120"] in [line.split() for line in lines]
    assert "water: water (0 HU) everywhere" in lines


def test_the_text_of_several_cases_has_a_line_for_each_baseline():
    lines = [line.split() for line in to_text([case("a", 50.0), case("b", 60.0)]).splitlines()]
    assert [line[:3] for line in lines[1:7]] == [
        ["a", "fake", "50"], ["flat", "100", "10"], ["water", "120", "10"],
        ["b", "fake", "60"], ["flat", "100", "10"], ["water", "120", "10"],
    ]  # fmt: skip
    starts = {line[0]: n for n, line in enumerate(lines) if line}
    for title, value in (("mean", "55"), ("median", "55"), ("lowest", "50"), ("highest", "60")):
        first = starts[title]
        found = [
            line[line.index(name) + 1] for name, line in zip(("fake", "flat", "water"), lines[first:], strict=False)
        ]
        assert found == [value, "100", "120"], title
    assert "mae_air" not in lines[0]


def test_the_text_states_that_a_baseline_is_as_good():
    said = "the MAE of a baseline is lower than that of the fake, or equal"
    assert f"in 1 of 2 cases, {said}" in to_text([case("a", 50.0), case("b", 100.0)])
    assert said not in to_text([case("a", 50.0), case("b", 99.0)])


def test_an_interval_is_printed_from_ten_patients_on():
    few = to_text([case(str(n), 50.0 + n, patient=str(n % 9)) for n in range(18)])
    assert "18 cases of 9 patients" in few
    assert "no intervals: they require 10 patients or more" in few
    assert "95 %" not in few
    many = to_text([case(str(n), 50.0 + n) for n in range(10)])
    limits = [line.split() for line in many.splitlines() if "95 %" in line or line.startswith("to ")]
    low, high = mean_interval(np.arange(50.0, 60.0))
    assert [line[line.index("fake") + 1] for line in limits] == [f"{low:.4g}", f"{high:.4g}"]


def test_a_comparison_of_few_patients_shows_each_difference():
    few = compare_models(*({f"c{n}": {"mae": v + n * n} for n in range(4)} for v in (50, 60)))
    text = to_text([case("a", 50.0), case("b", 60.0)], few)
    assert "mae for each patient: -10, -10, -10, -10" in text
    assert "smallest possible p for 4 patients: 0.125" in text
    many = compare_models(*({f"c{n}": {"mae": v + n * n} for n in range(10)} for v in (50, 60)))
    assert "mae for each patient" not in to_text([case("a", 50.0), case("b", 60.0)], many)


def test_tables_are_merged_with_their_patients_and_baselines(tmp_path):
    write_table(tmp_path / "1.json", [case("a1", 50.0, patient="a"), case("a2", 60.0, patient="a")])
    write_table(tmp_path / "2.json", [case("b", 80.0)], [Refusal("c", "NaN")])
    rows = merge_tables([tmp_path / "1.json", tmp_path / "2.json"], tmp_path / "all.json")
    table = json.loads((tmp_path / "all.json").read_text())
    assert rows == table["cases"]
    assert (table["summary"]["fake"]["mae"]["mean"], table["summary"]["fake"]["mae"]["patients"]) == (67.5, 2)
    assert table["summary"]["baselines"]["water"]["mae"]["mean"] == 120
    assert "3 cases of 2 patients" in rows_to_text(rows)
    assert table["refused"] == [{"case": "c", "reason": "NaN"}]
    with pytest.raises(ReadError, match="in more than one table, such as 'b'"):
        merge_tables([tmp_path / "2.json", tmp_path / "2.json"], tmp_path / "twice.json")
