"""The command ``inspect``: its table fits the terminal, its JSON parses, and a mistake gives one line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from support import dicom_phantoms as made
from support import phantoms

from medcyclegan.cli.inspect import command


@pytest.fixture
def tree(tmp_path, monkeypatch):
    slices = made.slices_of(made.placed_volume())
    for dataset in slices:
        dataset.SeriesDescription = "[red]head\x1b[31m[/red]"
    made.save(slices, tmp_path / "pacs" / "ct")
    gap = made.slices_of(made.placed_volume(), seed="gap")
    made.save(gap[:4] + gap[5:], tmp_path / "pacs" / "gap")
    phantoms.write_nifti(phantoms.head_mr((8, 9, 4)), tmp_path / "pacs" / "mr.nii.gz")
    (tmp_path / "pacs" / "DICOMDIR").write_bytes(b"junk")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table(tree):
    result = CliRunner().invoke(command, ["pacs"])
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0] == "In pacs"
    (ct,) = [line for line in lines if line.lstrip().startswith("ct ")]
    assert "12 x 14 x 10" in ct
    assert "0.9 1.1 2.5" in ct
    assert "Explicit LE" in ct
    assert ct.endswith("ok")
    assert "[red]head" in ct
    assert "\x1b" not in result.stdout
    (gap,) = [line for line in lines if line.lstrip().startswith("gap ")]
    assert gap.endswith("ok with --allow-gap [1]")
    assert "2.5 to 5" in gap
    assert lines[-1].startswith(" [1] slice spacing varies from 2.5 to 5.0 mm (a slice is missing near z = -1.2 mm)")
    assert "Skipped: 1 no volume" in result.stderr


def test_json(tree):
    result = CliRunner().invoke(command, ["pacs", "--json"])
    rows = json.loads(result.stdout)
    assert [(row["path"], row["verdict"], row["options"]) for row in rows] == [
        ("pacs/ct", "ok", []),
        ("pacs/gap", "ok with options", ["--allow-gap"]),
        ("pacs/mr.nii.gz", "ok", []),
    ]
    assert rows[0]["slices"] == 10
    assert rows[1]["remedy"] == "export the complete series, or pass --allow-gap"


def test_the_reading_options_apply(tree):
    rows = json.loads(CliRunner().invoke(command, ["pacs/gap", "--json", "--allow-gap"]).stdout)
    assert [row["verdict"] for row in rows] == ["ok"]
    assert "resampled" not in rows[0]["reason"]


def test_a_missing_path_is_one_line(tree):
    result = CliRunner().invoke(command, ["absent"])
    assert result.exit_code == 1
    assert result.stderr == "Error: absent: no such file or folder: check the name\n"
    assert result.stdout == ""


def test_nothing_there(tree):
    (tree / "empty").mkdir()
    result = CliRunner().invoke(command, ["empty"])
    assert result.exit_code == 0
    assert "No volumes found" in result.stderr
