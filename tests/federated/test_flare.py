"""The job in NVIDIA FLARE's simulator: one server and three sites as processes on the loopback interface."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
import torch
from federated.test_rounds import NAMES, train_all

from medcyclegan.federated.averaging import NETWORKS
from medcyclegan.manifest import load_manifest
from medcyclegan.training.run.checkpoint import load_newest_checkpoint

pytest.importorskip("nvflare", reason="the extra federated is not installed")
pytestmark = pytest.mark.slow


def start(sites: Path, job: Path, workspace: Path) -> subprocess.Popen:
    """Start the simulator; its sites' folders are those of ``sites``."""
    (workspace / "local").mkdir(parents=True, exist_ok=True)
    allowed = {"class_allow_list": ["medcyclegan.federated.flare"]}
    (workspace / "local" / "resources.json").write_text(json.dumps(allowed))
    places = {"MEDCYCLEGAN_SLICES": f"{sites}/{{site}}/slices", "MEDCYCLEGAN_RUNS": f"{sites}/{{site}}/runs"}
    command = [sys.executable, "-m", "nvflare.cli", "simulator", job, "-w", workspace, "-c", ",".join(NAMES), "-t", "3"]
    with (workspace.parent / "simulator.txt").open("wb") as said:
        return subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **places, "OMP_NUM_THREADS": "1", "MEDCYCLEGAN_DEVICE": "cpu"},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(process: subprocess.Popen, said: Path) -> str:
    process.wait(timeout=300)
    return said.read_text("utf-8", errors="replace")


def kill_all(process: subprocess.Popen) -> None:
    """Kill the simulator with all of its processes, as a power failure does."""
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()


def server_weights(sites: Path) -> dict:
    (folder,) = (sites / "server" / "runs").glob("federated-*")
    state = load_newest_checkpoint(folder / "checkpoints")
    assert state is not None
    return state


def wait_for(found, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not found():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_rounds_by_the_simulator_are_those_without_it_and_nothing_of_a_patient_leaves(job, sites, tmp_path) -> None:
    workspace = tmp_path / "workspace"
    log = finish(start(sites, tmp_path / "job", workspace), tmp_path / "simulator.txt")
    state = server_weights(sites)
    assert state["step"] == 6, log[-3000:]
    (tmp_path / "direct").mkdir()
    direct = train_all(job, link_stores(sites, tmp_path / "direct"))
    for name in NETWORKS:
        for key, tensor in direct.weights[name].items():
            assert torch.equal(tensor, state["networks"][name][key]), (name, key)

    sent = [json.loads(line) for line in next((sites / "server").rglob("rounds.jsonl")).read_text().splitlines()]
    weights = sum(t.nbytes for network in direct.weights.values() for t in network.values())
    assert [row["bytes_to_a_site"] for row in sent] == [weights] * 3

    at_server = [*(workspace / "server").rglob("*"), *(sites / "server").rglob("*")]
    for name in NAMES:
        marks = [
            str(sites / name),
            *(hash_ for row in load_manifest(sites / name / "slices") for hash_ in secrets(row)),
        ]
        for path in at_server:
            if path.is_file():
                found = [mark for mark in marks if mark.encode() in unpacked(path)]
                assert not found, f"{path.relative_to(tmp_path)} holds {found}"


def secrets(row) -> list[str]:
    """Return the texts by which a volume of a slice store can be recognized."""
    return [row.case, row.patient, row.input, row.content, row.file]


def unpacked(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def link_stores(sites: Path, target: Path) -> Path:
    for name in NAMES:
        (target / name).mkdir()
        (target / name / "slices").symlink_to(sites / name / "slices")
    return target


def test_a_site_and_the_server_that_were_killed_come_back(job, sites, tmp_path) -> None:
    workspace = tmp_path / "workspace"
    process = start(sites, tmp_path / "job", workspace)
    try:
        wait_for(lambda: list((sites / "server").rglob("step-000002.pt.sha256")), process)
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "simulator_worker" in " ".join(child.cmdline()) and "north" in child.cmdline()
        ]
        assert workers
        workers[0].send_signal(signal.SIGKILL)
    finally:
        kill_all(process)
    finish(start(sites, tmp_path / "job", workspace), tmp_path / "simulator.txt")
    state = server_weights(sites)
    assert state["step"] == 6
    (tmp_path / "direct").mkdir()
    direct = train_all(job, link_stores(sites, tmp_path / "direct"))
    for name in NETWORKS:
        for key, tensor in direct.weights[name].items():
            assert torch.equal(tensor, state["networks"][name][key]), (name, key)


def test_a_site_that_disagrees_ends_the_job_with_the_reason(job, sites, tmp_path) -> None:
    store = sites / "west" / "slices"
    text = (store / "manifest.jsonl").read_text().replace('"pixel_mm":1.0', '"pixel_mm":0.8')
    (store / "manifest.jsonl").write_text(text)
    log = finish(start(sites, tmp_path / "job", tmp_path / "workspace"), tmp_path / "simulator.txt")
    assert "slicing.pixel_mm differs: 1.0 at north, 1.0 at south, 0.8 at west: slice the volumes of all sites" in log
    assert not list((sites / "server").rglob("model.json"))


def test_a_site_that_cannot_read_its_slices_keeps_the_reason_to_itself(job, sites, tmp_path) -> None:
    (sites / "north" / "slices" / "manifest.jsonl").unlink()
    finish(start(sites, tmp_path / "job", tmp_path / "workspace"), tmp_path / "simulator.txt")
    at_server = (tmp_path / "workspace" / "server" / "log.txt").read_text()
    at_site = (tmp_path / "workspace" / "north" / "log.txt").read_text()
    assert "north did not declare, the reason is in the log there: correct it and submit the job again" in at_server
    assert "has no manifest.jsonl" in at_site
    assert "manifest" not in at_server
