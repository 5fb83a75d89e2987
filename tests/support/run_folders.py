"""Read a training run's folder in tests, and end a run."""

from __future__ import annotations

import json
from pathlib import Path

from medcyclegan.config import Config, parse_config
from medcyclegan.provenance import hash_file

TIMINGS = ("seconds_per_step", "images_per_second", "data_wait")


def with_training(config: Config, **training) -> Config:
    """Return ``config`` with other values in its section ``training``."""
    values = config.model_dump(mode="json")
    values["training"].update(training)
    return parse_config(values, "test")


def rows_of(run: Path) -> list[dict]:
    """Return the rows of metrics.jsonl without the values that depend on the clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]


def weights_of(run: Path) -> dict[str, str]:
    """Return the hashes of a model's weights."""
    return {name: hash_file(run / "model" / f"{name}.safetensors") for name in ("G_AB", "G_BA")}


def record_of(run: Path) -> dict:
    """Return run.json."""
    return json.loads((run / "run.json").read_text("utf-8"))


class PowerCutError(Exception):
    """Simulates an event that ends a run without a message."""


def cut_power() -> None:
    raise PowerCutError
