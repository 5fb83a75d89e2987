"""The estimated remaining time and its text."""

from types import SimpleNamespace

import pytest

from medcyclegan.training.monitor import time_left
from medcyclegan.training.monitor.time_left import TimeLeft, in_words


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
def test_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_it_logs_after_20_steps_and_at_each_tenth(monkeypatch, caplog) -> None:
    clock = iter(range(0, 100000, 2))
    monkeypatch.setattr(time_left.time, "monotonic", lambda: float(next(clock)))
    caplog.set_level("INFO")
    handler = TimeLeft(SimpleNamespace(steps=200))  # type: ignore[arg-type]
    for step in range(31, 201):  # a resumed session
        handler._log_time_left(SimpleNamespace(state=SimpleNamespace(iteration=step)))
    said = [record.args[0] for record in caplog.records]
    assert said == [50, 60, 80, 100, 120, 140, 160, 180]
    assert "step 50 of 200: 0.118 s a step, about 18 s left" in caplog.text
