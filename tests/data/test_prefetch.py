"""Batches are yielded in order by a thread that ends; its errors are raised."""

import contextlib
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from medcyclegan.data import BATCHES_AHEAD, prefetched_batches
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
        while len(asked) <= BATCHES_AHEAD and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert asked == list(range(BATCHES_AHEAD + 1)), "the one that was taken, and those ahead of it"
    assert not [t for t in threading.enumerate() if t.name.startswith("medcyclegan-batches")]


def test_a_single_named_thread_reads() -> None:
    """The reader of the stacks must not be called by two threads at once."""
    names, inside, most = set(), [], []

    def read_slowly(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        names.add(threading.current_thread().name.rpartition("_")[0])
        inside.append(step)
        most.append(len(inside))
        time.sleep(0.002)
        inside.remove(step)
        return read_batch(step)

    assert len(list(prefetched_batches(read_slowly, 0, 20))) == 20
    assert max(most) == 1
    assert names == {"medcyclegan-batches"}


@pytest.mark.parametrize(("pin", "kind", "pinned"), [(True, "cpu", True), (True, "cuda", False), (False, "cpu", False)])
def test_batches_on_the_host_are_pinned_on_request(pin: bool, kind: str, pinned: bool) -> None:
    image = SimpleNamespace(device=torch.device(kind), pin_memory=lambda: "pinned")
    (batch,) = prefetched_batches(lambda _step: (image, image), 0, 1, pin=pin)  # type: ignore[arg-type,return-value]
    assert batch == (("pinned", "pinned") if pinned else (image, image))
