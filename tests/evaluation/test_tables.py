"""Tables: statistics by hand, the paired test against scipy's, what is written can be read."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from medcyclegan.errors import ReadError, UsageError
from medcyclegan.evaluation import (
    CaseScores,
    Evaluation,
    Refusal,
    compare_models,
    load_scores,
    summarize,
    to_json,
    to_text,
    write_table,
)

FLAT = Evaluation(
    mae=100.0, psnr=10.0, ms_ssim=0.1, mae_2023=100.0, psnr_2023=9.0, ssim_2023=0.05, mean_error=-20.0, ncc=0.0,
    mae_air=None, mae_soft_tissue=90.0, mae_bone=300.0, voxels=1000, unit="HU", normalization="none", scored="flat",
)  # fmt: skip


def case(name, mae, psnr=20.0, picture=None):
    return CaseScores(name, dataclasses.replace(FLAT, mae=mae, psnr=psnr, scored="fake", baseline=FLAT), picture)


def test_statistics_by_hand():
    summary = summarize([{"mae": value, "psnr": math.inf} for value in (1.0, 2.0, 6.0)])
    assert summary["mae"]["mean"] == 3
    assert summary["mae"]["median"] == 2
    assert summary["mae"]["sd"] == pytest.approx(np.sqrt(7))
    assert summary["mae"]["n"] == 3
    assert "psnr" not in summary
    assert summarize([{"psnr": math.inf}, {"psnr": 5.0}])["psnr"]["infinite"] == 1
    assert summarize([{"mae": 4.0}])["mae"] == {"n": 1, "mean": 4, "sd": None, "median": 4, "ci95": None, "infinite": 0}


def test_the_bootstrap_interval_is_scipys():
    values = np.random.default_rng(3).gamma(2.0, 20.0, 30)
    ours = summarize([{"mae": value} for value in values])["mae"]["ci95"]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=0).confidence_interval
    assert ours == pytest.approx([theirs.low, theirs.high], rel=0.02)
    assert ours == summarize([{"mae": value} for value in values])["mae"]["ci95"]


def test_two_models_are_compared_case_by_case():
    generator = np.random.default_rng(0)
    first = {f"c{n}": {"mae": v, "psnr": 20.0, "ms_ssim": 0.5} for n, v in enumerate(generator.normal(60, 5, 12))}
    second = {name: {**row, "mae": row["mae"] + 4 + generator.normal()} for name, row in first.items()}
    second["only here"] = {"mae": 0.0}
    result = compare_models(first, second)
    differences = [first[name]["mae"] - second[name]["mae"] for name in sorted(first)]
    assert result["cases"] == 12
    assert result["metrics"]["mae"]["mean_difference"] == pytest.approx(np.mean(differences))
    assert result["metrics"]["mae"]["p"] == stats.wilcoxon(differences).pvalue
    assert result["metrics"]["mae"]["p_holm"] == pytest.approx(3 * result["metrics"]["mae"]["p"])
    assert result["metrics"]["psnr"]["p"] == 1
    assert result["smallest_possible_p"] == pytest.approx(result["metrics"]["mae"]["p"])
    assert "ssim_2023" not in result["metrics"]


def test_models_without_common_cases_are_refused():
    with pytest.raises(UsageError, match="1 case in common"):
        compare_models({"a": {"mae": 1}}, {"a": {"mae": 1}, "b": {"mae": 2}})


def test_json_says_infinity_in_a_way_that_all_parsers_take():
    text = to_json({"psnr": math.inf, "note": '": Infinity', "list": [{"psnr": math.inf}]})
    read = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert read == {"psnr": math.inf, "note": '": Infinity', "list": [{"psnr": math.inf}]}


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_what_is_written_can_be_read(tmp_path, ending):
    cases = [case("p/a", 50.0), case('b, "quoted"', 60.5, psnr=math.inf)]
    write_table(tmp_path / f"t.{ending}", cases)
    scores = load_scores(tmp_path / f"t.{ending}")
    assert list(scores) == ["p/a", 'b, "quoted"']
    assert scores["p/a"]["mae"] == 50
    assert scores['b, "quoted"']["psnr"] == math.inf
    assert "mae_air" not in scores["p/a"]


def test_the_json_table_holds_cases_summary_and_refusals(tmp_path):
    comparison = compare_models({"a": {"mae": 1.0}, "b": {"mae": 2.0}}, {"a": {"mae": 2.0}, "b": {"mae": 2.5}})
    write_table(tmp_path / "t.json", [case("a", 50.0), case("b", 60.0)], [Refusal("c", "NaN")], comparison)
    table = json.loads((tmp_path / "t.json").read_text())
    assert table["made_by"] == "medcyclegan evaluate"
    assert [row["case"] for row in table["cases"]] == ["a", "b"]
    assert table["cases"][0]["baseline"]["mae"] == 100
    assert table["summary"]["fake"]["mae"]["mean"] == 55
    assert table["summary"]["baseline"]["mae"]["mean"] == 100
    assert table["refused"] == [{"case": "c", "reason": "NaN"}]
    assert table["comparison"]["metrics"]["mae"]["mean_difference"] == -0.75


def test_the_csv_table_holds_a_row_a_case(tmp_path):
    write_table(tmp_path / "t.csv", [case("a", 50.0), case("b", 60.0)])
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [(row["case"], row["mae"], row["baseline_mae"], row["baseline"]) for row in rows] == [
        ("a", "50.0", "100.0", "flat"),
        ("b", "60.0", "100.0", "flat"),
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


def test_text_for_one_and_for_several():
    one = to_text([case("a", 50.0)])
    assert "flat image (no --input)" in one
    assert any(line.split() == ["mae", "50", "100"] for line in one.splitlines())
    several = to_text([case("a", 50.0), case("b", 60.0)])
    rows = {line.split()[0]: line.split() for line in several.splitlines() if line}
    assert rows["b"][1] == "60"
    assert rows["mean"][1] == "55"
    assert rows["median"][1] == "55"
    assert "mae_air" not in several
