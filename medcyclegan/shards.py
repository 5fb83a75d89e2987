"""Shares of a list of work, one a process: which one a call is, and what belongs to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from medcyclegan.errors import UsageError

__all__ = ["choose_shard", "share_of"]

T = TypeVar("T")


def choose_shard(number: int | None, shard_id: int | None = None) -> tuple[int, int]:
    """Return (this one, of how many): ``shard_id``, or else the task's place in a SLURM job array.

    Without ``number`` all work is one shard, also inside a job array. Raises
    :class:`~medcyclegan.errors.UsageError` for a shard that is none of ``number``, and where nothing says which of
    several it is.
    """
    count = 1 if number is None else number
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    if shard_id is not None:
        chosen = shard_id
    elif count <= 1:
        chosen = 0
    elif task is None:
        raise UsageError(
            f"--num-shards {count} without --shard-id, outside a SLURM job array: only one of the {count} shares would "
            f"be done; pass --shard-id 0 to {count - 1} in {count} calls"
        )
    elif task.isdecimal():
        chosen = int(task)
    else:
        raise UsageError(f"SLURM_ARRAY_TASK_ID is {task!r}, not a number: pass --shard-id")
    if not 0 <= chosen < count:
        raise UsageError(f"shard {chosen} of {count}: shards count from 0 to one less than their number")
    return chosen, count


def share_of(items: Sequence[T], shard: tuple[int, int]) -> Sequence[T]:
    """Return the items of a shard (this one, of how many): every n-th, so that neighbours are shared out."""
    return items[shard[0] :: shard[1]]
