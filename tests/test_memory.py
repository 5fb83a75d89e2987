"""Free memory: that of the machine, within the limits of the cgroups of this process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from medcyclegan.memory import free_memory

GIB = 2**30
UNLIMITED_V1 = 9223372036854771712


@pytest.fixture(autouse=True)
def machine(monkeypatch) -> None:
    """Simulate a machine with 16 GiB of free memory."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GIB))


def write(root: Path, name: str, text: object) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(f"{text}\n")


def group_v2(root: Path, path: str, limit: object, usage: int, stat: str = "") -> None:
    for name, value in (("memory.max", limit), ("memory.current", usage), ("memory.stat", stat)):
        write(root, f"sys/fs/cgroup/{path}{name}", value)


def group_v1(root: Path, path: str, limit: int, usage: int, stat: str = "") -> None:
    for name, value in (("limit_in_bytes", limit), ("usage_in_bytes", usage), ("stat", stat)):
        write(root, f"sys/fs/cgroup/memory/{path}memory.{name}", value)


def test_without_cgroups_it_is_the_machines(tmp_path: Path) -> None:
    free = free_memory(tmp_path)
    assert (free.bytes, free.place) == (16 * GIB, "this machine")
    write(tmp_path, "proc/self/cgroup", "0::/user.slice")
    assert free_memory(tmp_path).bytes == 16 * GIB, "the controller is not there"


def test_the_tightest_group_counts_and_file_caches_are_free(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/slurm/job_1/step_0")
    group_v2(tmp_path, "slurm/job_1/step_0/", "max", 3 * GIB)
    group_v2(tmp_path, "slurm/job_1/", 8 * GIB, 5 * GIB, f"anon 7\ninactive_file {GIB}\nactive_file {2 * GIB}\nshmem 9")
    group_v2(tmp_path, "slurm/", 12 * GIB, 5 * GIB)
    free = free_memory(tmp_path)
    assert free.bytes == 6 * GIB
    assert free.place == "the memory limit of this job or container (cgroup)"
    group_v2(tmp_path, "slurm/", 9 * GIB, 8 * GIB)
    assert free_memory(tmp_path).bytes == GIB, "an outer group is the tighter one"
    group_v2(tmp_path, "slurm/", GIB, 2 * GIB)
    assert free_memory(tmp_path).bytes == 0


def test_a_limit_beyond_the_machine_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/")
    group_v2(tmp_path, "", 64 * GIB, GIB)
    assert free_memory(tmp_path).place == "this machine"


def test_version_1_has_other_files(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/job\n1:cpuset:/job\n0::/")
    group_v1(tmp_path, "job/", 4 * GIB, 3 * GIB, f"inactive_file 5\ntotal_inactive_file {GIB // 2}\n")
    group_v1(tmp_path, "", UNLIMITED_V1, 15 * GIB)
    assert free_memory(tmp_path).bytes == 3 * GIB // 2


@pytest.mark.parametrize("path", ["/docker/0123", "/../../docker/0123"])
def test_in_a_container_whose_path_is_the_hosts_the_mount_is_its_group(tmp_path: Path, path: str) -> None:
    write(tmp_path, "proc/self/cgroup", f"4:memory:{path}")
    group_v1(tmp_path, "", 2 * GIB, GIB)
    assert free_memory(tmp_path).bytes == GIB


def test_this_machine_has_some() -> None:
    assert 0 < free_memory().bytes <= 16 * GIB
