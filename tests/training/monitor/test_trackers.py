"""Trackers: a TensorBoard file without the host name, and MLflow if it is installed."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from ignite.engine import Engine
from PIL import Image

from medcyclegan.errors import TrainingError
from medcyclegan.training.monitor.trackers import mlflow_handlers, open_trackers


def plan_of(log_every: int) -> SimpleNamespace:
    config = SimpleNamespace(training=SimpleNamespace(log_every=log_every))
    return SimpleNamespace(config=config, is_due=lambda step, every: step % every == 0)


def test_an_event_file_names_no_machine(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(socket, "gethostname", lambda: "ward7-pc12")
    with open_trackers(tmp_path, 0) as (tracker,):
        tracker.add_scalar("generators", 1.0, 1)
        tracker.add_picture("panel", Image.new("L", (8, 8)), 1)
    (file,) = tmp_path.iterdir()
    assert "medcyclegan" in file.name
    assert b"ward7" not in file.name.encode() + file.read_bytes()


def test_mlflow_is_selected_by_its_address_alone(monkeypatch, caplog) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mlflow_handlers("run", plan_of(1), dict) == []
    assert caplog.text == ""


def test_missing_mlflow_is_reported(monkeypatch, caplog) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert mlflow_handlers("run", plan_of(1), dict) == []
    assert "MLflow is not installed" in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_mlflow_holds_the_means(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not among the pins")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (handler,) = mlflow_handlers("20260101-000000", plan_of(2), lambda: {"generators": 1.5})
    engine = Engine(lambda engine, batch: {})
    handler.attach(engine)
    engine.run([0] * 4)
    (run,) = handler.client.search_runs([handler.experiment.experiment_id])
    assert run.info.run_name == "20260101-000000"
    assert [m.step for m in handler.client.get_metric_history(run.info.run_id, "generators")] == [2, 4]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "folder").as_uri())
    with pytest.raises(TrainingError, match="does not accept the run"):
        mlflow_handlers("run", plan_of(1), dict)
