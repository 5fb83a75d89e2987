"""A small slice store and a configuration that trains on it in a second or two."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.run_folders import PowerCutError, cut_power
from support.stores import blobs, make_store

from medcyclegan.config import Config, parse_config
from medcyclegan.training import train
from medcyclegan.training.update.step import CycleGANStep


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a read-only store: t1 with 7 training slices and a held-out volume, t2 with 5, 32 pixels."""
    folder = tmp_path_factory.mktemp("store") / "slices"
    stacks = {
        "t1": [blobs(3, 32, 0), blobs(4, 32, 1), blobs(3, 32, 2)],
        "t2": [blobs(5, 32, 3, inverted=True), blobs(2, 32, 4, inverted=True)],
    }
    make_store(folder, stacks, {"t1": ["train", "train", "validation"], "t2": ["train", "validation"]})
    return folder


@pytest.fixture
def store(shared_store: Path, tmp_path: Path) -> Path:
    """Return a copy of the store, in ``tmp_path/slices``."""
    return Path(shutil.copytree(shared_store, tmp_path / "slices"))


@pytest.fixture(scope="session")
def tiny() -> Config:
    """Return a configuration with everything that has state: dropout, pools, averages, a schedule, several epochs."""
    values = {
        "networks": {
            "generator": {"kind": "unet", "filters": 2},
            "discriminator": {"filters": 2, "layers": 2, "augmentation": 0.5},
        },
        "training": {
            "max_steps": 17,
            "batch_size": 2,
            "learning_rate": 1e-3,
            "pool_size": 5,
            "ema_decay": 0.9,
            "precision": "fp32",
            "panel_every": 100,
            "log_every": 4,
            "checkpoint_steps": 5,
        },
        "validation": {"every_epochs": 2, "slices": 2},
    }
    return parse_config(values, "test")


@pytest.fixture(scope="session")
def whole_run(shared_store: Path, tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a complete run of ``tiny``, which is read-only."""
    return train(shared_store, config=tiny, out=tmp_path_factory.mktemp("whole") / "runs", device="cpu")


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function that makes the step after ``count`` further steps call another function first."""

    def set_up(count: int, action) -> None:
        original = CycleGANStep.__call__
        calls = []

        def step(self, engine, batch):
            calls.append(1)
            if len(calls) == count + 1:
                action()
            return original(self, engine, batch)

        monkeypatch.setattr(CycleGANStep, "__call__", step)

    yield set_up
    monkeypatch.undo()


@pytest.fixture
def cut_short(store, tiny, tmp_path, interrupt, monkeypatch):
    """Return a function that trains until a power failure after ``count`` steps, and returns the run's folder."""

    def train_and_cut(count: int, slices: Path = store, out: Path = tmp_path / "runs") -> Path:
        interrupt(count, cut_power)
        with pytest.raises(PowerCutError):
            train(slices, config=tiny, out=out, device="cpu")
        monkeypatch.undo()
        return out / "latest"

    return train_and_cut
