import importlib.metadata
import statistics
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from medcyclegan.cli.main import _COMMANDS, main


def test_help_is_quick():
    """Under 0.5 s: the median of five real processes."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "medcyclegan", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds) < 0.5


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_explains_itself(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    for option in ("--quiet", "--verbose", "--debug"):
        assert option in result.output
    listed = CliRunner().invoke(main, ["--help"]).output
    assert name in listed


def test_the_version_is_printed():
    result = CliRunner().invoke(main, ["--version"])
    assert result.output.strip().endswith(importlib.metadata.version("medcyclegan"))


def test_ctrl_c_is_one_line(tmp_path, monkeypatch):
    def press(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("medcyclegan.io.inspect.inspect_paths", press)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output == "Error: stopped by Ctrl-C: unfinished outputs were removed; run the command again\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["translate"],
        ["slice-volumes", "--fit", "squash"],
        ["slice-volumes", "--size", "many"],
        ["slice-volumes", "--size", "250"],
        ["slice-volumes", "--workers", "0"],
        ["slice-volumes", "--num-shards", "2", "--shard-id", "2"],
        ["slice-volumes", "--num-shards", "2"],
        ["slice-volumes", "--set", "slicing.sise=3"],
        ["slice-volumes", "--nan", "drop"],
        ["translate-volume", "in.nii.gz"],
        ["translate-volume", "in.nii.gz", "out.nii.gz", "--batch-size", "0"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "volumes" / "t1").mkdir(parents=True)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == [tmp_path / "volumes"]


def test_a_misspelled_command_is_recognized():
    result = CliRunner().invoke(main, ["trian"])
    assert result.exit_code == 2
    assert "No such command 'trian'. (Did you mean 'train'?)" in result.output


MISSING = (
    "translate-volume nope.nii.gz o.nii.gz|translate-volume x.nii o.nii.gz --model nope|train --slices nope|"
    "train --init-from nope|train --config nope.yaml|train --resume nope|pretrain nope|synthesize nope|"
    "slice-volumes nope|slice-volumes --split-file nope.csv|evaluate nope nope|report nope|"
    "export --format onnx --model nope|import-weights nope.pth nope.pth --domains a b --out m"
)


def test_a_missing_path_is_refused_before_heavy_imports(tmp_path):
    """In a fresh process, none of these commands imports torch, MONAI or SciPy."""
    (tmp_path / "x.nii").touch()
    (tmp_path / "volumes").mkdir()
    (tmp_path / "slices").mkdir()
    (tmp_path / "slices" / "manifest.jsonl").touch()
    code = (
        "import sys; from click.testing import CliRunner; from medcyclegan.cli.main import main\n"
        f"for line in {MISSING!r}.split('|'):\n"
        "    result = CliRunner().invoke(main, line.split())\n"
        "    assert result.exit_code == 1 and 'nope' in result.stderr, (line, result.output)\n"
        "    heavy = {'torch', 'monai', 'scipy', 'SimpleITK'} & set(sys.modules)\n"
        "    assert not heavy, (line, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
