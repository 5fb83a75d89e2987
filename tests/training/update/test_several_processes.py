"""Several processes, started by torchrun as on a cluster: gloo between CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medcyclegan.config import Config, parse_config, to_yaml
from medcyclegan.training import train
from medcyclegan.training.update.distributed import Ranks

#: A generator without dropout, and everything that has state: pools, averages, flips, a falling rate.
VALUES = {
    "networks": {"generator": {"filters": 4, "blocks": 1}, "discriminator": {"filters": 2, "layers": 2}},
    "training": {
        "max_steps": 20,
        "batch_size": 2,
        "learning_rate": 2e-4,
        "pool_size": 4,
        "ema_decay": 0.9,
        "panel_every": 10,
        "log_every": 4,
        "checkpoint_steps": 10,
    },
    "validation": {"every_epochs": 2, "slices": 2},
}


def config_of(**training) -> Config:
    return parse_config({**VALUES, "training": {**VALUES["training"], **training}}, "test")


@pytest.fixture(autouse=True)
def fp64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in float64, in which rounding errors do not grow; a configuration cannot choose it."""
    monkeypatch.setattr("medcyclegan.training.run.build.choose_precision", lambda wish, device: "fp64")


PROGRAM = """
import sys
from medcyclegan.cli import main
from medcyclegan.training.run import build
build.choose_precision = lambda wish, device: "fp64"
{code}
main(["train", *sys.argv[1:]])
"""


def torchrun(folder: Path, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``train`` in two processes in float64, after ``code``."""
    program = folder / "program.py"
    program.write_text(PROGRAM.format(code=code))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(
        [*launch, *arguments, "--device", "cpu"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
    )


def state_of(run: Path, step: int = 20) -> dict:
    state: dict = torch.load(run / "checkpoints" / f"step-{step:06d}.pt", weights_only=True)
    return state


@pytest.mark.timeout(600)
def test_two_processes_give_the_weights_of_one_and_the_first_alone_writes(store: Path, tmp_path: Path) -> None:
    whole = train(store, config=config_of(), out=tmp_path / "whole", device="cpu")
    (tmp_path / "shared.yaml").write_text(to_yaml(config_of()), "utf-8")
    result = torchrun(tmp_path, "--config", "shared.yaml")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == 1
    assert result.stderr.count("finished after 20 steps") == 1
    assert "2 processes divide each batch: 1 slices each" in result.stderr
    shared = tmp_path / "runs" / "latest"
    assert [path.name for path in (tmp_path / "runs").iterdir() if not path.is_symlink()] == [os.readlink(shared)]
    one, two = state_of(whole), state_of(shared)
    assert {weights.dtype for weights in two["networks"].values()} == {torch.float64}
    for name, weights in one["networks"].items():
        torch.testing.assert_close(two["networks"][name], weights, rtol=0, atol=1e-9)
    for name, weights in one["averages"]["G_AB"].items():
        torch.testing.assert_close(two["averages"]["G_AB"][name], weights, rtol=0, atol=1e-9)
    for pool in ("pool_A", "pool_B"):
        torch.testing.assert_close(two[pool]["images"], one[pool]["images"], rtol=0, atol=1e-9)
    assert len(two["random"]) == 2
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (whole, shared)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if "second" not in k and k != "data_wait"} == pytest.approx(
            {k: v for k, v in b.items() if "second" not in k and k != "data_wait"}, abs=1e-6
        )
    record = json.loads((shared / "run.json").read_text("utf-8"))
    assert record["state"] == "finished"
    assert record["sessions"][0]["processes"] == 2

    # One process resumes the run of two and ends with the weights of an uninterrupted run.
    for path in (shared / "checkpoints").glob("step-000020*"):
        path.unlink()
    (shared / "run.json").write_text(json.dumps({**record, "state": "running", "step": 10}), "utf-8")
    resumed = train(store, resume=shared, device="cpu")
    for name, weights in one["networks"].items():
        torch.testing.assert_close(state_of(resumed)["networks"][name], weights, rtol=0, atol=1e-9)


DYING = """
import os, sys
from medcyclegan.errors import WriteError
from medcyclegan.training.update.step import CycleGANStep
original = CycleGANStep.__call__
def step(self, engine, batch):
    if engine.state.iteration == 6 and os.environ["RANK"] == "1":
        raise WriteError("the moon is in the way")
    return original(self, engine, batch)
CycleGANStep.__call__ = step
"""


@pytest.mark.timeout(600)
def test_a_process_that_dies_ends_the_job_with_its_reason(store: Path, tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text(to_yaml(config_of()), "utf-8")
    result = torchrun(tmp_path, "--config", "shared.yaml", code=DYING)
    assert result.returncode == 1
    assert "Error: the moon is in the way" in result.stderr
    record = json.loads((tmp_path / "runs" / "latest" / "run.json").read_text("utf-8"))
    assert record["state"] == "failed"
    assert "process 1 of 2 failed: the moon is in the way" in record["reason"]


SIGNALLED = """
import atexit, os, signal, sys, time
from pathlib import Path
from medcyclegan.training.run import saving
from medcyclegan.training.update.step import CycleGANStep
original, write = CycleGANStep.__call__, saving.save_checkpoint
def step(self, engine, batch):
    if engine.state.iteration == 6 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return original(self, engine, batch)
def write_slowly(*arguments, **options):
    time.sleep(1)
    return write(*arguments, **options)
def look():
    Path("seen").write_text(" ".join(path.name for path in Path("runs/latest/checkpoints").glob("*.pt")))
CycleGANStep.__call__, saving.save_checkpoint = step, write_slowly
if os.environ["RANK"] == "1":
    atexit.register(look)
"""


@pytest.mark.timeout(600)
def test_a_signal_to_one_process_saves_in_the_first_and_ends_both(store: Path, tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text(to_yaml(config_of()), "utf-8")
    result = torchrun(tmp_path, "--config", "shared.yaml", code=SIGNALLED)
    assert result.returncode == 1
    for reason in ("SIGTERM", "a signal to another process"):
        assert f"Error: stopped by {reason} after step 6 of 20; everything is saved: continue with" in result.stderr
    shared = tmp_path / "runs" / "latest"
    record = json.loads((shared / "run.json").read_text("utf-8"))
    assert (record["state"], record["step"]) == ("stopped", 6)
    assert (tmp_path / "seen").read_text() == "step-000006.pt", "the other process ended after the first had saved"
    whole = train(store, config=config_of(), out=tmp_path / "whole", device="cpu")
    resumed = train(store, resume=shared, device="cpu")
    for name, weights in state_of(whole)["networks"].items():
        torch.testing.assert_close(state_of(resumed)["networks"][name], weights, rtol=0, atol=1e-9)


def test_a_single_process_needs_no_others() -> None:
    alone = Ranks()
    tensor = torch.ones(3)
    alone.average([tensor])
    assert torch.equal(tensor, torch.ones(3))
    assert alone.any(True)
    assert not alone.any(False)
    assert alone.gather(tensor) == [tensor]
    assert alone.from_first("here") == "here"


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices, for NCCL between them")
def test_two_cuda_devices_train_together(store: Path, tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text(to_yaml(config_of(precision="fp32")), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "medcyclegan", "train", "--config", "shared.yaml"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=550)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "runs" / "latest" / "run.json").read_text("utf-8"))
    assert record["sessions"][0]["processes"] == 2
    assert record["state"] == "finished"
