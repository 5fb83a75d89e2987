"""The estimated remaining time and its text."""

from types import SimpleNamespace

import pytest
import torch

from medcyclegan.config import load_config
from medcyclegan.training.monitor import time_left
from medcyclegan.training.monitor.time_left import TimeLeft, format_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (89, "89 s"),
        (120, "2 min"),
        (80 * 60, "80 min"),
        (3 * 3600 + 1200, "3 h 20 min"),
        (50 * 3600, "2 days 2 h"),
    ],
)
def test_durations_as_text(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def steps_logged(monkeypatch, caplog, seconds, steps, *, config="default", device="cpu", first=1, command="train"):
    """Run the steps from ``first`` on a clock on which a step takes ``seconds``; return the steps that are logged."""
    now = [0.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    caplog.set_level("INFO")
    plan = SimpleNamespace(steps=steps, command=command, config=load_config(config))
    handler = TimeLeft(plan, torch.device(device))  # type: ignore[arg-type]
    for step in range(first, steps + 1):
        now[0] += seconds
        handler._log_time_left(SimpleNamespace(state=SimpleNamespace(iteration=step)))
    return [record.args[0] for record in caplog.records if record.args]


def test_fast_steps_are_timed_after_20_and_at_each_tenth(monkeypatch, caplog) -> None:
    assert steps_logged(monkeypatch, caplog, 0.05, 200, first=31) == [50, 60, 80, 100, 120, 140, 160, 180]
    assert "step 50 of 200: 0.05 s a step, about 8 s left" in caplog.text


def test_slow_steps_are_timed_from_the_second_on(monkeypatch, caplog) -> None:
    assert steps_logged(monkeypatch, caplog, 7.0, 30) == [2, 20, 21, 24, 27]
    assert "step 2 of 30: 7 s a step, about 3 min left" in caplog.text
    assert "--config demo" not in caplog.text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, True),
        ({"config": "demo"}, False),
        ({"device": "cuda"}, False),
        ({"first": 500}, False),
        ({"command": "pretrain"}, False),
    ],
)
def test_smaller_configurations_are_named_where_they_help(monkeypatch, caplog, changes, named) -> None:
    steps_logged(monkeypatch, caplog, 7.0, 2000, **changes)
    assert caplog.text.count("a CPU is slow at this: --config demo") == named
