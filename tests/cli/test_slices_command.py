"""The command ``slices``: list, find, and one line for each mistake."""

import json

import pytest
from click.testing import CliRunner
from support.volume_folders import TINY, add_tiny

from medcyclegan.cli.main import main
from medcyclegan.slicing import slice_volumes


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add_tiny(tmp_path / "volumes" / "t1", "a", "b")
    add_tiny(tmp_path / "volumes" / "t2", "c", seed=5)
    (tmp_path / "volumes" / "t2" / "junk.nii").write_bytes(b"junk")
    slice_volumes("volumes", "slices", config=TINY)
    return tmp_path / "slices"


def run(*arguments):
    result = CliRunner().invoke(main, ["slices", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_list(store):
    code, stdout, stderr = run()
    lines = [line.split() for line in stdout.splitlines()]
    assert (code, stderr) == (0, "")
    assert lines[0] == ["No.", "Domain", "Hash", "Patient", "Split", "Slices", "Modality", "Scaling", "Path"]
    assert [line[0] for line in lines[1:5]] == ["1", "2", "3", "4"]
    assert " ".join(lines[5]).startswith("not a NIfTI file"), "the reason of the refusal"
    assert lines[1][-1] == f"{store.parent}/volumes/t1/a.nii"
    assert "MR" in lines[1]
    assert lines[4][3] == "refused"
    rows = json.loads(run("--json")[1])
    assert [row["number"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["split"] == "train"
    assert rows[3]["refused"]
    assert rows[3]["patient"] is None
    assert [row["path"] for row in json.loads(run("--json", "--find", "2")[1])] == [f"{store.parent}/volumes/t1/b.nii"]


def test_find_prints_paths_in_the_given_order(store):
    code, stdout, stderr = run("--find", "3", "--find", "1")
    assert (code, stdout) == (0, f"{store.parent}/volumes/t2/c.nii\n{store.parent}/volumes/t1/a.nii\n")
    assert stderr == "no run near the store used this; copies of models elsewhere are not known\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent"], 1, "absent: no slice store here: name the folder that slice-volumes made"),
        (["volumes"], 1, "volumes: no slice store here: name the folder that slice-volumes made"),
        (["volumes", "--remove", "1"], 1, "volumes: no slice store here: name the folder that slice-volumes made"),
        (["--find", "9"], 1, "slices has no volume 9: medcyclegan slices lists its volumes"),
        (["--remove", "1", "--remove", "9"], 1, "slices has no volume 9: medcyclegan slices lists its volumes"),
        (["--remove-patient", "4"], 1, "slices: volume 4 was refused, so its patient is not known: use --remove"),
        (["--find", "1", "--remove", "1"], 2, "--find and --remove: use one after the other"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(store, arguments, code, message):
    before = {path: path.read_bytes() for path in store.parent.rglob("*") if path.is_file()}
    assert run(*arguments) == (code, "", f"Error: {message}\n")
    assert {path: path.read_bytes() for path in store.parent.rglob("*") if path.is_file()} == before


def test_a_patient_is_removed_with_all_volumes(store):
    numbers = {row["number"]: row["patient"] for row in json.loads(run("--json")[1])}
    code, stdout, stderr = run("--remove-patient", "1")
    expected = [number for number, patient in numbers.items() if patient == numbers[1]]
    assert code == 0, stderr
    assert len(stdout.splitlines()) == len(expected)
    assert [row["number"] for row in json.loads(run("--json")[1])] == [n for n in numbers if n not in expected]


def test_a_narrow_terminal_shows_paths_and_reasons_below_their_volumes(store, monkeypatch):
    monkeypatch.setattr("medcyclegan.terminal._PIPE_COLUMNS", 80)
    lines = run()[1].splitlines()
    assert lines[0].endswith("Scaling")
    assert lines[2] == f"  {store.parent}/volumes/t1/a.nii"
    assert lines[7].split()[3] == "refused"
    assert lines[8] == f"  {store.parent}/volumes/t2/junk.nii"
    assert lines[9].startswith("  not a NIfTI file")
    assert max(map(len, (line for line in lines if str(store.parent) not in line))) <= 80
