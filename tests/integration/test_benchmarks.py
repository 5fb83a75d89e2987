"""`make bench` runs benchmarks that exist and that need no arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import run  # noqa: E402


def test_make_bench_runs_each_benchmark_of_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def note(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        started.append(Path(command[1]))
        return subprocess.CompletedProcess(command, int("dicom_speed" in command[1]))

    monkeypatch.setattr(run.subprocess, "run", note)
    assert run.main([]) == 1  # one failed, and the others ran
    assert {path.stem for path in started} >= set(run.SPEED)
    assert all(path.is_file() for path in started)


@pytest.mark.parametrize("name", run.SPEED + run.ON_CUDA)
def test_a_benchmark_of_speed_needs_no_argument(name: str) -> None:
    # A positional argument without nargs="*" would be required.
    lines = (BENCHMARKS / f"{name}.py").read_text().splitlines()
    positional = [line for line in lines if 'add_argument("' in line and '"--' not in line]
    assert all('nargs="*"' in line for line in positional)


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["speed", "sped"]) == 2
    assert "no benchmark sped" in capsys.readouterr().err
