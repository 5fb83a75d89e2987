"""Attack ``medcyclegan serve`` with many associations and a full disk, and check that it still works.

``python tests/benchmarks/service_hostile.py [--connections 10000]``. Prints a line for each attack: what was answered,
and the memory and threads of the service. The full disk needs the right to mount a tmpfs. The exit code is 1 if an
attack is not refused, or if the service does not translate a study after it.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from support import hostile_associations as hostile
from support.dicom_node_server import Node, running_node
from support.dicom_studies import make_study, send, write_rules
from support.models import tiny_model
from support.orthanc_server import free_port

_NAMES = {None: "closed", hostile.ACCEPT: "accepted", hostile.REJECT: "rejected", hostile.ABORT: "aborted"}
_DISK_MB = 24


def main() -> int:
    """Run each attack and print its line; return 1 if any succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    count = parser.parse_args().connections
    with tempfile.TemporaryDirectory() as work, running_node() as node, _small_disk(Path(work) / "disk") as is_small:
        target = _Target(Path(work), node)
        attacks: dict[str, Callable[[], tuple[str, bool]]] = {
            "wrong called title": lambda: _associations(target, count, called="OTHER"),
            "wrong calling title": lambda: _associations(target, count, calling="OTHER"),
            "idle connections": lambda: _idle(target, count),
            "associations kept open": lambda: _kept(target, count // 10),
        }
        if is_small:
            attacks["full disk"] = lambda: _full(target)
        else:
            print("full disk: skipped, a tmpfs cannot be mounted here")
        failed = 0
        for name, attack in attacks.items():
            begun = time.monotonic()
            answers, refused = attack()
            alive = target.works(name)
            process = psutil.Process(target.process.pid)
            print(
                f"{name:24} {answers}; {time.monotonic() - begun:.0f} s, {process.memory_info().rss / 1e6:.0f} MB, "
                f"{process.num_threads()} threads, {'works' if alive else 'does NOT work'} afterwards"
            )
            failed += not (refused and alive)
        failed += target.stop() != 0
    return int(bool(failed))


class _Target:
    """The attacked service."""

    def __init__(self, work: Path, node: Node) -> None:
        self.node, self.port = node, free_port()
        tiny_model().save(work / "model")
        limits = {"keep_free_mb": 4, "timeout_s": 10}
        write_rules(work / "rules.yaml", waiting={"settle_s": 0.3, "quiet_s": 5}, limits=limits)
        command = [sys.executable, "-m", "medcyclegan", "serve", "--model", str(work / "model"), "-q"]
        command += ["--send-to", f"NODE@127.0.0.1:{node.port}", "--port", str(self.port), "--health-port", "0"]
        command += ["--rules", str(work / "rules.yaml"), "--queue", str(work / "disk" / "queue"), "--device", "cpu"]
        self.process = subprocess.Popen([*command, "--accept-from", "SCANNER"], stderr=subprocess.DEVNULL)
        while not send(self.port, make_study("start")):
            time.sleep(0.5)

    def works(self, name: str) -> bool:
        """Whether a study is translated and sent, within a minute."""
        images, end = make_study(f"after {name}"), time.monotonic() + 60
        while send(self.port, images) != [0] * len(images):
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        while time.monotonic() < end:
            if sum(image.StudyInstanceUID == images[0].StudyInstanceUID for image in self.node.images) == len(images):
                return True
            time.sleep(0.1)
        return False

    def stop(self) -> int:
        """Stop the service; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def _associations(target: _Target, count: int, **titles: str) -> tuple[str, bool]:
    request = hostile.association_request(target.port, **titles)
    answers: Counter[str] = Counter()
    for _ in range(count):
        with contextlib.suppress(OSError), hostile.connect(target.port, request) as connection:
            answers[_NAMES[hostile.first_byte(connection)]] += 1
    return _listed(answers), not answers["accepted"]


def _idle(target: _Target, count: int) -> tuple[str, bool]:
    """Connect and send nothing; at most some dozen connections may be open at once."""
    held = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            held.append(hostile.connect(target.port))
        if len(held) == 500:
            closed = sum(hostile.is_closed(connection, 0.001) for connection in held[:400])
            for connection in held:
                connection.close()
            held.clear()
            if closed < 300:
                return f"only {closed} of 400 were closed", False
    for connection in held:
        connection.close()
    return "closed beyond the limit", True


def _kept(target: _Target, count: int) -> tuple[str, bool]:
    """Open associations with the right titles and keep them."""
    request = hostile.association_request(target.port)
    answers: Counter[str] = Counter()
    held = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            held.append(hostile.connect(target.port, request))
            answers[_NAMES[hostile.first_byte(held[-1])]] += 1
    for connection in held:
        connection.close()
    return _listed(answers), 0 < answers["accepted"] <= 16 * (1 + count // 100)


def _full(target: _Target) -> tuple[str, bool]:
    """Send until the disk is full."""
    answers: Counter[str] = Counter()
    for number in range(3):
        for status in send(target.port, make_study(f"full {number}", slices=24, side=512)):
            answers["no answer" if status is None else f"{status:04X}H"] += 1
    return _listed(answers), answers["A700H"] > 0 and set(answers) <= {"0000H", "A700H"}


def _listed(answers: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in answers.most_common())


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small file system at ``folder``; yield whether that was possible."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


if __name__ == "__main__":
    sys.exit(main())
