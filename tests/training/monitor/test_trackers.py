"""Boards: a TensorBoard file that names no machine, and MLflow where it is."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ignite.engine import Engine
from PIL import Image

from medcyclegan.errors import TrainingError
from medcyclegan.training.monitor.trackers import mlflow_handlers, open_tensorboard


def test_an_event_file_names_no_machine(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(socket, "gethostname", lambda: "ward7-pc12")
    board = open_tensorboard(tmp_path, 0)
    assert board is not None
    board.add_scalar("generators", 1.0, 1)
    board.add_picture("panel", Image.new("L", (8, 8)), 1)
    board.close()
    (file,) = tmp_path.iterdir()
    assert "medcyclegan" in file.name
    assert b"ward7" not in file.name.encode() + file.read_bytes()


def test_mlflow_is_asked_for_by_its_address_alone(monkeypatch, caplog) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mlflow_handlers("run", lambda step: True, dict) == []
    assert caplog.text == ""


def test_without_mlflow_it_says_so(monkeypatch, caplog) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert mlflow_handlers("run", lambda step: True, dict) == []
    assert "MLflow is not installed" in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_mlflow_holds_the_means(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not among the pins")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (handler,) = mlflow_handlers("20260101-000000", lambda step: step % 2 == 0, lambda: {"generators": 1.5})
    engine = Engine(lambda engine, batch: {})
    handler.attach(engine)
    engine.run([0] * 4)
    (run,) = handler.client.search_runs([handler.experiment.experiment_id])
    assert run.info.run_name == "20260101-000000"
    assert [m.step for m in handler.client.get_metric_history(run.info.run_id, "generators")] == [2, 4]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "folder").as_uri())
    with pytest.raises(TrainingError, match="does not take the run"):
        mlflow_handlers("run", lambda step: True, dict)
