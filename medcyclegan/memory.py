"""The memory that this process may still take: what the machine has free, within the limits of its cgroups."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["FreeMemory", "free_memory"]


@dataclasses.dataclass(frozen=True)
class FreeMemory:
    """``bytes`` that may still be taken, and ``place``: what limits them, in words for a message."""

    bytes: int
    place: str


@dataclasses.dataclass(frozen=True)
class _Files:
    """Where one version of cgroups keeps its numbers, and which lines of ``memory.stat`` count file caches."""

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
    """Return the memory that this process can take before something is killed; swap space is not counted.

    The least of what the machine has available and of what each cgroup around this process (a container, a job of
    SLURM or systemd) leaves below its limit. File caches count as free, for the kernel gives them up first. ``root``:
    where ``proc`` and ``sys`` are.
    """
    found = [FreeMemory(int(psutil.virtual_memory().available), "this machine")]
    found += [
        FreeMemory(left, "the memory limit of this job or container (cgroup)")
        for folder, files in _groups(root)
        if (left := _left(folder, files)) is not None
    ]
    return min(found, key=lambda free: free.bytes)


def _groups(root: Path) -> Iterator[tuple[Path, _Files]]:
    """Yield this process's memory cgroups, from the innermost to the outermost, as far as they can be seen."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:  # another system than Linux
        return
    for line in lines:
        _, _, names = line.partition(":")
        controllers, _, path = names.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        files = _V1 if controllers else _V2
        mount = root / files.mount
        # In a container the path may be the host's: the container's own group is then the mount itself.
        parts = [part for part in Path(path).parts if part != "/"]
        inside = [] if ".." in parts else parts
        for count in range(len(inside), -1, -1):
            yield mount.joinpath(*inside[:count]), files


def _left(folder: Path, files: _Files) -> int | None:
    """Return what a cgroup leaves below its limit, or None where it has none."""
    try:
        limit, usage = ((folder / name).read_text("ascii").strip() for name in (files.limit, files.usage))
        if limit == "max":
            return None
        return max(0, int(limit) - int(usage) + _cached(folder, files))
    except (OSError, ValueError):  # no such group, or no such controller here
        return None


def _cached(folder: Path, files: _Files) -> int:
    """Return the bytes of a cgroup's file caches."""
    total = 0
    with contextlib.suppress(OSError):
        for line in (folder / "memory.stat").read_text("ascii").splitlines():
            name, _, value = line.partition(" ")
            total += int(value) if name in files.caches else 0
    return total
