"""The job in NVIDIA FLARE's simulator: one server and three sites as processes on the loopback interface."""

import json
import signal
import subprocess
import time
import zipfile
from pathlib import Path
from unittest import mock

import psutil
import pytest
import torch
from federated.test_rounds import NAMES, train_all
from support.flare_simulator import finish, kill_all, start_simulator

from medcyclegan.federated import Declaration
from medcyclegan.federated.averaging import NETWORKS
from medcyclegan.manifest import load_manifest
from medcyclegan.training.run.checkpoint import load_newest_checkpoint

pytest.importorskip("nvflare", reason="the extra federated is not installed")


def run(job_folder: Path, sites: Path) -> str:
    workspace = job_folder.parent / "workspace"
    return finish(start_simulator(job_folder, workspace, sites, NAMES), workspace)


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


@pytest.mark.slow
def test_rounds_by_the_simulator_are_those_without_it_and_nothing_of_a_patient_leaves(job, sites, tmp_path) -> None:
    workspace = tmp_path / "workspace"
    log = finish(start_simulator(tmp_path / "job", workspace, sites, NAMES), workspace)
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


@pytest.mark.slow
def test_a_site_and_the_server_that_were_killed_come_back(job, sites, tmp_path) -> None:
    workspace = tmp_path / "workspace"
    process = start_simulator(tmp_path / "job", workspace, sites, NAMES)
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
    finish(start_simulator(tmp_path / "job", workspace, sites, NAMES), workspace)
    state = server_weights(sites)
    assert state["step"] == 6
    (tmp_path / "direct").mkdir()
    direct = train_all(job, link_stores(sites, tmp_path / "direct"))
    for name in NETWORKS:
        for key, tensor in direct.weights[name].items():
            assert torch.equal(tensor, state["networks"][name][key]), (name, key)


@pytest.mark.slow
def test_a_site_that_disagrees_ends_the_job_with_the_reason(job, sites, tmp_path) -> None:
    store = sites / "west" / "slices"
    text = (store / "manifest.jsonl").read_text().replace('"pixel_mm":1.0', '"pixel_mm":0.8')
    (store / "manifest.jsonl").write_text(text)
    log = run(job_folder=tmp_path / "job", sites=sites)
    assert "slicing.pixel_mm differs: 1.0 at north, 1.0 at south, 0.8 at west: slice the volumes of all sites" in log
    assert not list((sites / "server").rglob("model.json"))


@pytest.mark.slow
def test_a_site_that_cannot_read_its_slices_keeps_the_reason_to_itself(job, sites, tmp_path) -> None:
    (sites / "north" / "slices" / "manifest.jsonl").unlink()
    run(job_folder=tmp_path / "job", sites=sites)
    at_server = (tmp_path / "workspace" / "server" / "log.txt").read_text()
    at_site = (tmp_path / "workspace" / "north" / "log.txt").read_text()
    assert (
        "2 of at least 3 sites did declare; the others (north) are not connected, or the reason is in the log"
        in at_server
    )
    assert "has no manifest.jsonl" in at_site
    assert "manifest" not in at_server


@pytest.mark.slow
def test_a_site_that_fails_does_not_end_the_wait_for_others(job, sites, tmp_path) -> None:
    place = tmp_path / "job" / "app" / "config" / "medcyclegan.json"
    place.write_text(job.model_copy(update={"min_sites": 2, "wait": 0}).model_dump_json())
    (sites / "north" / "slices" / "manifest.jsonl").unlink()
    log = run(job_folder=tmp_path / "job", sites=sites)
    assert server_weights(sites)["step"] == 6, log[-3000:]
    rows = [json.loads(line) for line in next((sites / "server").rglob("rounds.jsonl")).read_text().splitlines()]
    assert [row["sites"] for row in rows] == [["south", "west"]] * 3


def test_an_answer_after_the_end_of_the_wait_is_not_used(job, tmp_path) -> None:
    from nvflare.apis.shareable import Shareable

    from medcyclegan.federated.flare import FederatedTraining

    training, context = FederatedTraining(), context_of(tmp_path)
    clients = {name: mock.Mock() for name in ("north", "south")}
    for name, client in clients.items():
        client.name = name
    context.get_engine().get_clients.return_value = list(clients.values())
    tasks = []

    def reply(name: str) -> None:
        tasks[0].result_received_cb(mock.Mock(client=clients[name], result=Shareable()), fl_ctx=context)

    def broadcast(task, **_) -> None:
        tasks.append(task)
        reply("north")

    quick = job.model_copy(update={"min_sites": 1, "wait": 0})
    with mock.patch.multiple(training, broadcast=broadcast, cancel_task=mock.Mock()):
        answers = training._ask("train", Shareable(), list(clients), quick, (mock.Mock(triggered=False), context))
        training.cancel_task.assert_called_once()
    reply("south")
    assert set(answers) == {"north"}


def context_of(tmp_path: Path, **resources) -> mock.Mock:
    """Return FLARE's context of the site north, with ``resources`` in its ``local/resources.json``."""
    local = tmp_path / "workspace" / "local"
    for folder in (local, local.parent / "startup"):
        folder.mkdir(parents=True, exist_ok=True)
    (local / "resources.json").write_text(json.dumps(resources))
    context = mock.Mock()
    context.get_identity_name.return_value = "north"
    context.get_prop.return_value = str(local.parent)
    context.get_engine().get_workspace().get_app_config_dir.return_value = str(tmp_path / "job" / "app" / "config")
    return context


def name_folders(monkeypatch, sites: Path) -> None:
    monkeypatch.setenv("MEDCYCLEGAN_SLICES", f"{sites}/{{site}}/slices")
    monkeypatch.setenv("MEDCYCLEGAN_RUNS", f"{sites}/{{site}}/runs")
    monkeypatch.setenv("MEDCYCLEGAN_DEVICE", "cpu")


def test_a_site_whose_log_would_be_sent_to_the_server_does_not_train(sites, tmp_path, monkeypatch, job, caplog) -> None:
    from medcyclegan.federated.flare import SiteExecutor

    name_folders(monkeypatch, sites)
    reply = SiteExecutor().execute("declare", {}, context_of(tmp_path, allow_log_streaming=False), None)
    assert "north" not in str(dict(reply))
    assert Declaration.model_validate_json(reply["declaration"]).size == 32

    for resources in ({}, {"allow_log_streaming": True}):  # FLARE's default is to send it
        caplog.clear()
        reply = SiteExecutor().execute("declare", {}, context_of(tmp_path, **resources), None)
        assert reply.get_return_code() == "EXECUTION_EXCEPTION"
        assert "declaration" not in reply
        assert "FLARE would send the log of north to the server: set allow_log_streaming to false" in caplog.text


@pytest.mark.parametrize("data", [{"round": 0}, {"round": 0, "weights": {"G_AB": {"w": ["x"]}}}])
def test_weights_of_another_version_are_refused(sites, tmp_path, monkeypatch, job, caplog, data) -> None:
    from medcyclegan.federated.flare import SiteExecutor

    name_folders(monkeypatch, sites)
    reply = SiteExecutor().execute("train", data, context_of(tmp_path, allow_log_streaming=False), None)
    assert reply.get_return_code() == "EXECUTION_EXCEPTION"
    assert "the server did not send weights as this version does" in caplog.text


def test_a_folder_that_the_server_cannot_write_ends_the_job_with_a_reason(tmp_path, monkeypatch, job) -> None:
    from medcyclegan.federated.flare import FederatedTraining

    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MEDCYCLEGAN_RUNS", str(tmp_path / "file"))
    training = FederatedTraining()
    with mock.patch.object(training, "system_panic") as panic:
        training.control_flow(mock.Mock(triggered=False), context_of(tmp_path))
    assert panic.call_args.args[0].endswith(": Not a directory")


def test_folders_that_are_not_named_are_refused(sites, tmp_path, monkeypatch, job, caplog) -> None:
    from medcyclegan.federated.flare import SiteExecutor

    monkeypatch.delenv("MEDCYCLEGAN_SLICES", raising=False)
    reply = SiteExecutor().execute("declare", {}, context_of(tmp_path, allow_log_streaming=False), None)
    assert reply.get_return_code() == "EXECUTION_EXCEPTION"
    assert "MEDCYCLEGAN_SLICES = '': set it to the absolute path of the slice store of north" in caplog.text
