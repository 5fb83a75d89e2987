"""The memory that this process may still use: what is free on the machine, within the limits of its cgroups."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["FreeMemory", "free_memory"]


@dataclasses.dataclass(frozen=True)
class FreeMemory:
    """``bytes`` that may still be used, and ``place``: a description, for messages, of what limits them."""

    bytes: int
    place: str


@dataclasses.dataclass(frozen=True)
class _Files:
    """Files of a cgroup version that hold limit and usage, and the lines of ``memory.stat`` for file caches."""

    mount: str
    limit: str
    usage: str
    caches: tuple[str, ...]


_V1 = _Files(
    *("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ("total_inactive_file", "total_active_file"),
)
_V2 = _Files("sys/fs/cgroup", "memory.max", "memory.current", ("inactive_file", "active_file"))


def free_memory(root: Path = Path("/")) -> FreeMemory:
    """Return the memory that this process can use before a process is killed; swap space is not counted.

    It is the minimum of the available memory of the machine and of what remains below the limit of each cgroup that
    contains this process (a container, a job of SLURM or systemd). File caches count as free, because the kernel drops
    them first. ``root``: the folder that holds ``proc`` and ``sys``.
    """
    found = [FreeMemory(int(psutil.virtual_memory().available), "this machine")]
    found += [
        FreeMemory(left, "the memory limit of this job or container (cgroup)")
        for folder, files in _groups(root)
        if (left := _left(folder, files)) is not None
    ]
    return min(found, key=lambda free: free.bytes)


def _groups(root: Path) -> Iterator[tuple[Path, _Files]]:
    """Yield the memory cgroups of this process that are visible, from the innermost to the outermost."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, _, names = line.partition(":")
        controllers, _, path = names.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        files = _V1 if controllers else _V2
        mount = root / files.mount
        # In a container the path may be that of the host; the group of the container is then the mount itself.
        parts = [part for part in Path(path).parts if part != "/"]
        inside = [] if ".." in parts else parts
        for count in range(len(inside), -1, -1):
            yield mount.joinpath(*inside[:count]), files


def _left(folder: Path, files: _Files) -> int | None:
    """Return the bytes that remain below the limit of a cgroup, or None without a limit."""
    try:
        limit, usage = ((folder / name).read_text("ascii").strip() for name in (files.limit, files.usage))
        if limit == "max":
            return None
        return max(0, int(limit) - int(usage) + _cached(folder, files))
    except (OSError, ValueError):  # no such group, or no such controller here
        return None


def _cached(folder: Path, files: _Files) -> int:
    """Return the bytes of file caches in a cgroup."""
    total = 0
    with contextlib.suppress(OSError):
        for line in (folder / "memory.stat").read_text("ascii").splitlines():
            name, _, value = line.partition(" ")
            total += int(value) if name in files.caches else 0
    return total
