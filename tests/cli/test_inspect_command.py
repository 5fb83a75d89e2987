"""The command ``inspect``: its table fits the terminal, its JSON parses, and a mistake gives one line."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import dicom_phantoms as made
from support import phantoms

from medcyclegan.cli.inspect import command
from medcyclegan.io import ReadOptions, find_volumes, read_found_volume


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
    (ct,) = [line for line in lines if " ct " in line]
    assert "12 x 14 x 10" in ct
    assert "0.9 1.1 2.5" in ct
    assert "Explicit LE" in ct
    assert "   ok   " in ct
    assert "[red]head" in ct
    assert "\x1b" not in result.stdout
    (gap,) = [line for line in lines if " gap " in line and not line.startswith("[")]
    assert "   ok with --allow-gap [1]   " in gap
    assert "2.5 to 5" in gap
    said = "slice spacing varies from 2.5 to 5.0 mm (a slice is missing near z = -1.2 mm)"
    assert re.match(rf"\[1\] …[\d.]{{8}} in gap: {re.escape(said)}", lines[-1])
    assert "Skipped files: no volume" in result.stderr


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


def test_csv_and_json_have_the_whole_uid_and_the_table_its_end(tree):
    rows = json.loads(CliRunner().invoke(command, ["pacs", "--json"]).stdout)
    lines = list(csv.DictReader(io.StringIO(CliRunner().invoke(command, ["pacs", "--csv"]).stdout)))
    assert [line["series_uid"] for line in lines] == [row["series_uid"] or "" for row in rows]
    assert [line["verdict"] for line in lines] == ["ok", "ok with options", "ok"]
    assert len(rows[0]["file_paths"]) == rows[0]["files"] == 10
    table = CliRunner().invoke(command, ["pacs"]).stdout
    for row in rows[:2]:
        assert f"…{row['series_uid'][-8:]}" in table
        assert row["series_uid"] not in table
    result = CliRunner().invoke(command, ["pacs", "--csv", "--json"])
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.fixture
def export(tmp_path, monkeypatch):
    """Two patients, CT and MR, every series spread over two folders, with other files and copies."""
    number = 0
    for patient, modality, description, seed in (
        ("P1", "CT", "Head 1.0 H31s", "a"),
        ("P1", "MR", "t1 tse sag", "b"),
        ("P2", "CT", "Thorax 5.0", "c"),
        ("", "CT", "no name", "d"),
    ):
        volume = phantoms.head_ct((8, 9, 6)) if modality == "CT" else phantoms.head_mr((8, 9, 6))
        for dataset in made.slices_of(volume, seed=seed):
            dataset.PatientID, dataset.SeriesDescription = patient, description
            number += 1
            made.save([dataset], tmp_path / "export" / f"CD{number % 2}", name=lambda _n, i=number: f"IM{i:04}")
    gap = made.slices_of(phantoms.head_ct((8, 9, 6)), seed="gap")
    for dataset in gap:
        dataset.PatientID = "Q3"
    made.save(gap[:3] + gap[4:], tmp_path / "export" / "gap")
    phantoms.write_nifti(phantoms.head_mr((8, 9, 4)), tmp_path / "export" / "mr.nii.gz")
    (tmp_path / "export" / "Thumbs.db").write_bytes(b"junk")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def selected(*arguments):
    result = CliRunner().invoke(command, ["export", "--json", *arguments])
    assert result.exit_code == 0, result.stderr
    return [(row["modality"], row["patient"], row["description"]) for row in json.loads(result.stdout)]


HEAD, T1, THORAX = ("CT", "P1", "Head 1.0 H31s"), ("MR", "P1", "t1 tse sag"), ("CT", "P2", "Thorax 5.0")


def test_selections(export):
    assert set(selected("--modality", "mr")) == {T1}
    assert set(selected("--modality", "CT", "--patient", "P*")) == {HEAD, THORAX}
    assert set(selected("--patient", "P1")) == {HEAD, T1}
    assert set(selected("--patient", "1")) == set()
    assert set(selected("--description", "head")) == {HEAD}
    assert set(selected("--description", "t*", "--modality", "CT")) == {THORAX}
    assert set(selected("--description", "thorax", "--description", "tse")) == {THORAX, T1}
    everything = CliRunner().invoke(command, ["export"])
    none = CliRunner().invoke(command, ["export", "--modality", "PT"])
    assert "No volume matches --modality PT; there are CT (4), MR (1), no modality (1)" in none.stderr
    assert "match" not in everything.stderr


def test_the_beginning_or_the_end_of_a_uid_selects_a_series(export):
    rows = json.loads(CliRunner().invoke(command, ["export", "--json"]).stdout)
    uids = [row["series_uid"] for row in rows if row["series_uid"]]
    for uid in uids:
        for part in (uid, uid[:-1], uid[-8:], f"…{uid[-8:]}"):
            found = json.loads(CliRunner().invoke(command, ["export", "--json", "--series", part]).stdout)
            assert [row["series_uid"] for row in found] == [uid], part


@pytest.mark.parametrize("width", [60, 80, 100, 240])
def test_no_word_is_broken(export, width, monkeypatch):
    rows = json.loads(CliRunner().invoke(command, ["export", "--json"]).stdout)
    monkeypatch.setattr("medcyclegan.terminal._PIPE_COLUMNS", width)
    lines = CliRunner().invoke(command, ["export"]).stdout.splitlines()
    words = " ".join(lines).split()
    for row in rows:
        for text in (row["description"], row["patient"], row["path"], *row["options"]):
            assert set((text or "").split()) <= {word.strip(",:") for word in words}, text
    assert max(map(len, lines)) <= max(width, 140)
    assert width >= 140 or max(map(len, lines)) <= width


def test_a_path_longer_than_the_terminal_is_not_broken(export, monkeypatch):
    name = f"{'long' * 30}.nii.gz"
    phantoms.write_nifti(phantoms.head_mr((8, 9, 4)), Path("export") / name)
    monkeypatch.setattr("medcyclegan.terminal._PIPE_COLUMNS", 80)
    lines = CliRunner().invoke(command, ["export"]).stdout.splitlines()
    assert sum(f"export/{name}" in line for line in lines) == 1


def table_of(tree):
    with Path(f"{tree}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def link(*arguments):
    result = CliRunner().invoke(command, ["export", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_link_into_makes_the_tree_that_slice_volumes_reads(export):
    code, stdout, stderr = link("--modality", "CT", "--link-into", "volumes/ct")
    assert (code, stdout) == (0, "volumes/ct\n")
    folders = sorted(path.relative_to("volumes/ct").as_posix() for path in Path("volumes/ct").glob("*/*"))
    assert len(folders) == 3
    assert len({folder.split("/")[0] for folder in folders}) == 3
    assert not [folder for folder in folders if re.search("P1|P2|Head|Thorax|1\\.2\\.8", folder)]
    links = list(Path("volumes/ct").glob("*/*/*"))
    assert len(links) == 18
    assert all(path.is_symlink() and path.is_file() for path in links)
    found = find_volumes(Path("volumes/ct"), ReadOptions())
    assert sorted((volume.patient or "", len(volume.files)) for volume in found) == [("", 6), ("P1", 6), ("P2", 6)]
    assert all(read_found_volume(volume, ReadOptions()).shape == (8, 9, 6) for volume in found)
    assert "1 series have no PatientID" in stderr


def test_the_table_lists_what_was_left_out_and_why(export):
    _, _, stderr = link("--modality", "CT", "--link-into", "volumes/ct")
    table = Path("volumes/ct.csv")
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    rows = table_of("volumes/ct")
    assert sorted((row["result"], row["patient"]) for row in rows if row["folder"]) == [
        ("linked", ""), ("linked", "P1"), ("linked", "P2"),
    ]  # fmt: skip
    reasons = {row["path"].rpartition("/")[2]: row["reason"] for row in rows if row["result"] == "left out"}
    assert "--allow-gap" in reasons["gap"]
    assert reasons["mr.nii.gz"] == "not selected"
    assert reasons[""] == "no volume (.db)"
    assert "export/gap: slice spacing varies" in stderr
    assert "left out: 2 that the options do not select" in stderr
    code, _, stderr = link("--modality", "CT", "--link-into", "volumes/ct", "--allow-gap-mm", "40")
    assert (code, len(list(Path("volumes/ct").glob("*/*")))) == (0, 4)
    assert "3 of 4 series were there already" in stderr
    assert "pass the same options to slice-volumes: --allow-gap-mm 40" in stderr
    link("--patient", "P2", "--link-into", "volumes/ct")
    assert sum(bool(row["folder"]) for row in table_of("volumes/ct")) == 4


def test_a_tree_has_one_modality(export):
    code, stdout, stderr = link("--link-into", "volumes/all")
    assert (code, stdout) == (1, "")
    assert stderr.endswith("are CT (3) and MR (1), and a domain has one modality: select one with --modality CT\n")
    assert not Path("volumes").exists()


def test_a_tree_inside_the_export_is_refused(export):
    code, _, stderr = link("--modality", "CT", "--link-into", "export/sorted")
    assert code == 2
    assert "is inside export" in stderr
    code, _, stderr = link("--modality", "PT", "--link-into", "volumes/pt")
    assert (code, stderr) == (1, "Error: no series to link into volumes/pt: none was found or selected\n")
    assert link("--copy")[0] == link("--overwrite")[0] == 2


def test_files_are_copied_on_request_and_where_links_fail(export, monkeypatch):
    arguments = ("--modality", "MR", "--link-into", "volumes/mr")
    assert link(*arguments, "--copy")[0] == 0
    copies = sorted(Path("volumes/mr").glob("*/*/*"))
    assert len(copies) == 6
    assert not any(path.is_symlink() for path in copies)
    monkeypatch.setattr("os.symlink", refuse_links)
    code, _, stderr = link("--patient", "P2", "--link-into", "volumes/ct")
    assert code == 0
    assert "the files were copied" in stderr
    assert {row["result"] for row in table_of("volumes/ct") if row["folder"]} == {"copied"}


def refuse_links(*_arguments):
    raise OSError(1, "Operation not permitted")


def test_a_changed_folder_is_replaced_only_on_request(export):
    arguments = ("--patient", "P2", "--link-into", "volumes/ct")
    link(*arguments)
    first = sorted(Path("volumes/ct").glob("*/*/*"))[0]
    first.unlink()
    code, _, stderr = link(*arguments)
    assert code == 1
    assert "holds other files than the series now has (1 such folders): pass --overwrite" in stderr
    assert link(*arguments, "--overwrite")[0] == 0
    assert first.is_file()
    Path("volumes/ct.csv").write_text("a,b\n1,2\n")
    code, _, stderr = link(*arguments)
    assert code == 1
    assert "not a table of an earlier --link-into" in stderr


def test_a_read_only_export_is_linked(export):
    """Links are complete without flushing the files that they point to, which may not be writable."""
    files = [path for path in Path("export").rglob("*") if path.is_file()]
    opened = []
    real = Path.open

    def watch(self, mode="r", *rest, **more):
        opened.append((self.resolve(), mode))
        return real(self, mode, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", watch)
        assert link("--modality", "CT", "--link-into", "volumes/ct")[0] == 0
    assert not [path for path, mode in opened if "+" in mode and path in {file.resolve() for file in files}]


def test_of_copies_of_a_series_the_most_complete_is_linked(export):
    whole = made.slices_of(phantoms.head_ct((8, 9, 6)), seed="twice")
    made.save(whole, Path("copies/whole"))
    made.save(whole[:4], Path("copies/part"))
    result = CliRunner().invoke(command, ["copies", "--link-into", "volumes/ct"])
    assert result.exit_code == 0, result.stderr
    rows = {row["path"].rpartition("/")[2]: row for row in table_of("volumes/ct")}
    assert rows["whole"]["result"] == "linked"
    assert rows["part"]["reason"] == "a copy of the same series in copies/whole is used"


def test_a_damaged_file_of_a_spread_series_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = made.save(
        made.slices_of(made.placed_volume()), Path("export"), name=lambda number: f"CD{number % 3}/IM{number}"
    )
    Path("export/CD2/CUT").write_bytes(paths[0].read_bytes()[:-50])
    (row,) = json.loads(CliRunner().invoke(command, ["export", "--json"]).stdout)
    assert row["reason"].startswith("CD2/CUT is cut short")
