"""Training as a process: killed, stopped, refused, resumed from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from medcyclegan.cli import main
from medcyclegan.config import Config, to_yaml
from medcyclegan.errors import UsageError
from medcyclegan.provenance import hash_file
from medcyclegan.report import write_report
from medcyclegan.run_record import load_run_record, run_state
from medcyclegan.training.update.distributed import joined


def weights_of(run: Path) -> dict[str, str]:
    return {name: hash_file(run / "model" / f"{name}.safetensors") for name in ("G_AB", "G_BA")}


@pytest.fixture
def start():
    """Return a function that starts ``medcyclegan train`` in a folder; processes that remain are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start_process(folder: Path, *arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        command = [sys.executable, "-c", "from medcyclegan.cli import main; main()", "train", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=folder, env=environment, **pipes))
        return started[-1]

    yield start_process
    for process in started:
        process.kill()
        process.communicate()


def wait_for_rows(folder: Path, count: int) -> None:
    """Wait until the newest run has logged ``count`` rows."""
    file = folder / "runs" / "latest" / "metrics.jsonl"
    deadline = time.monotonic() + 250
    while time.monotonic() < deadline:
        if file.exists() and len(file.read_bytes().splitlines()) >= count:
            return
        time.sleep(0.005)
    raise AssertionError("the run did not get that far")


def run_cli(folder: Path, *arguments: str):
    """Run ``medcyclegan train`` in this process."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(main, ["train", *arguments])
    finally:
        os.chdir(before)


@pytest.fixture
def long_config(tiny: Config, tmp_path: Path) -> Path:
    """Return the file of a configuration of 60 steps, with a row per step and a checkpoint every 4."""
    training = tiny.training.model_copy(update={"max_steps": 60, "log_every": 1, "checkpoint_steps": 4})
    file = tmp_path / "long.yaml"
    file.write_text(to_yaml(tiny.model_copy(update={"training": training})), "utf-8")
    return file


def test_kill_9_and_sigterm_then_resume_end_in_the_weights_of_an_unbroken_run(
    start, store, tmp_path, long_config
) -> None:
    whole = run_cli(tmp_path, "--config", str(long_config), "--out", "whole", "--device", "cpu")
    assert whole.exit_code == 0, whole.output
    expected = weights_of(tmp_path / whole.stdout.strip())

    killed = start(tmp_path, "--config", str(long_config), "--device", "cpu")
    wait_for_rows(tmp_path, 10)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    run = tmp_path / "runs" / "latest"
    record = json.loads((run / "run.json").read_text("utf-8"))
    assert record["state"] == "running"
    assert 8 <= record["step"] < 60
    assert run_state(run, record) == "interrupted"
    page = write_report(run).read_text("utf-8")
    assert "The run was interrupted without a message (its process was killed" in page
    assert f"Its last checkpoint is at step {record['step']}." in page

    stopped = start(tmp_path, "--resume", "--device", "cpu")
    wait_for_rows(tmp_path, record["step"] + 8)
    assert run_state(run, load_run_record(run)) == "running"
    stopped.send_signal(signal.SIGTERM)
    out, err = stopped.communicate(timeout=250)
    assert stopped.returncode == 1
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("Error: stopped by SIGTERM after step ")
    assert "medcyclegan train --resume runs/" in last
    assert "Traceback" not in err
    assert "Warning: the last session of this run was interrupted without a message" in err
    killed_session, stopped_session = load_run_record(run)["sessions"]
    assert killed_session["interrupted"]
    assert "interrupted" not in stopped_session

    result = run_cli(tmp_path, "--resume", str(run), "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert weights_of(run) == expected
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert sorted(set(steps)) == list(range(1, 61))
    assert len(steps) == 60 + 60 // 8 + 1 + 1  # a row per step, validations every 8 and last, a check last


def test_bare_train_needs_nothing_but_slices(store, tmp_path) -> None:
    result = run_cli(tmp_path, "--config", "smoke", "--device", "cpu")
    assert result.exit_code == 0, result.output
    run = tmp_path / result.stdout.strip()
    assert run.parent == tmp_path / "runs"
    assert (run / "model" / "model.json").exists()
    assert sorted(p.name for p in (run / "panels").iterdir()) == ["step-000002.png", "step-000004.png"]
    assert sorted(p.name for p in (run / "checkpoints").glob("*.pt")) == ["step-000002.pt", "step-000004.pt"]
    assert "4 steps" in result.stderr
    again = run_cli(tmp_path, "--resume")
    assert again.exit_code == 0
    assert "is finished" in again.stderr
    assert again.stdout == result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--slices", "nowhere"), 1, "nowhere: no slice store here"),
        (("--config", "smok"), 1, "did you mean 'smoke'"),
        (("--set", "training.epoch=3"), 2, "did you mean 'epochs'"),
        (("--domains", "t1", "t3"), 1, "holds no domain t3"),
        (("--domains", "t1", "t1"), 2, "two different domains"),
        (("--max-steps", "0"), 2, "max-steps"),
        (("--device", "gpu"), 2, "--device gpu"),
        (("--resume",), 1, "there is no run to continue"),
        (("--resume", "--config", "smoke"), 2, "leave --config and --set out"),
        (("--resume", "runs/one", "--out", "elsewhere"), 2, "leave --out out"),
        (("--resume", "--max-steps", "4"), 2, "leave --config"),
        (("--set", "networks.discriminator.layers=6"), 1, "layers = 6 leaves nothing of slices of 32 pixels"),
        (("--set", "networks.generator.kind=identity"), 2, "kind = 'identity': Input should be 'resnet'"),
        (
            ("--set", "training.precision=fp64"),
            2,
            "precision = 'fp64': Input should be 'auto', 'fp32', 'bf16' or 'fp16'",
        ),
        (("--set", "training.precision=fp16", "--device", "cpu"), 1, "fp16 on cpu"),
    ],
)
def test_refusals_are_one_line(store, tmp_path, arguments, code, message) -> None:
    result = run_cli(tmp_path, *arguments)
    assert result.exit_code == code
    assert message in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("world", ["two", "-1", "", "0", "2.0"])
def test_an_impossible_number_of_processes_is_refused(world, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(UsageError, match=r"WORLD_SIZE is .*torchrun"), joined(torch.device("cpu")):
        pass
