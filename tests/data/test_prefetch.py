"""Batches come in order, from a thread that ends, and its errors come too."""

import contextlib
import threading
import time

import pytest
import torch

from medcyclegan.data import prefetched_batches
from medcyclegan.errors import StoreError


def read_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([step]), torch.tensor([-step])


@pytest.mark.parametrize(("first", "end"), [(0, 20), (7, 20), (0, 2), (5, 5)])
def test_every_step_comes_once_in_order(first: int, end: int) -> None:
    batches = list(prefetched_batches(read_batch, first, end))
    assert [int(a) for a, _ in batches] == list(range(first, end))
    assert [int(b) for _, b in batches] == [-step for step in range(first, end)]


def test_an_error_is_raised_where_its_batch_would_have_come() -> None:
    def read_badly(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step == 3:
            raise StoreError("stack 3 is damaged")
        return read_batch(step)

    seen: list[int] = []
    with pytest.raises(StoreError, match="stack 3"):
        seen.extend(int(real_A) for real_A, _ in prefetched_batches(read_badly, 0, 10))
    assert seen == [0, 1, 2]


def test_batches_are_read_ahead_but_not_without_bound() -> None:
    asked = []

    def read_and_note(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(step)
        return read_batch(step)

    with contextlib.closing(prefetched_batches(read_and_note, 0, 1000)) as batches:
        next(batches)
        deadline = time.monotonic() + 5
        while len(asked) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert 4 <= len(asked) <= 6
    assert not [t for t in threading.enumerate() if t.name.startswith("medcyclegan-batches")]
