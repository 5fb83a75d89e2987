"""Shards of a list of work, one per process: choose the shard of a call, and select its items."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from medcyclegan.errors import UsageError

__all__ = ["choose_shard", "share_of"]

T = TypeVar("T")


def choose_shard(number: int | None, shard_id: int | None = None) -> tuple[int, int]:
    """Return (shard, number of shards): ``shard_id``, or else the index of the task in a SLURM job array.

    Without ``number`` all work is one shard, also inside a job array. Raises
    :class:`~medcyclegan.errors.UsageError` for a shard outside 0 to ``number`` - 1, and if there are several shards and
    neither of the two is given.
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
    """Return the items of ``shard`` (shard, number of shards): every n-th item, so adjacent items are distributed."""
    return items[shard[0] :: shard[1]]
