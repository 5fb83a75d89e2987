"""Kill ``medcyclegan serve`` with SIGKILL at random moments while studies arrive, and count what arrives.

``python tests/benchmarks/service_kills.py [--kills 100] [--studies 300] [--seed 0]``. Three senders repeat each study
until all of its images were answered with success. Prints how many kills there were in each state of the queue; the
exit code is 1 if an accepted study is lost, arrives incomplete, or arrives with different UIDs. To save the imports of
each start, the service is forked from a process that has done them (:mod:`support.forked_services`).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import forked_services
from support.dicom_node_server import Node, running_node
from support.dicom_studies import make_study, send, write_rules
from support.models import tiny_model
from support.orthanc_server import free_port

_SLICES = 4
_SENDERS = 3
_STATES = ("receiving", "waiting", "sending")
#: Longer than a sender needs after a start, so that no study is complete before its sender has repeated it.
_QUIET_S = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Run the kills and print what became of the studies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work, running_node(answer=_answer_slowly) as node:
        tiny_model().save(Path(work) / "model")
        write_rules(Path(work) / "rules.yaml", waiting={"settle_s": 0.5, "quiet_s": _QUIET_S})
        run = _Run(Path(work), node, options.studies)
        moments = _kill(run, options.kills, random.Random(options.seed))
        run.finish()
        run.forks.close()
        return _judge(run, moments)


def _answer_slowly(_number: int, _event: object) -> int:
    """Take as long as an archive, so that some kills happen while a study is sent."""
    time.sleep(0.1)
    return 0


class _Run:
    """The service, which is started again after each kill, and the senders."""

    def __init__(self, work: Path, node: Node, studies: int) -> None:
        self.work, self.node, self.port = work, node, free_port()
        self.studies = [make_study(f"study {number}", ("CT", "MR")[number % 2], _SLICES) for number in range(studies)]
        self.forks = forked_services.Forks(work)
        self.accepted: list[str] = []
        #: The number of studies that may be accepted before the next kill; others are left for later ones.
        self.allowed = 0.0
        self.tries = 0
        self.slow = threading.Event()
        self.slow.set()
        self.senders = [
            threading.Thread(target=self._send, args=(self.studies[n::_SENDERS], f"SENDER{n}"), daemon=True)
            for n in range(_SENDERS)
        ]

    def start(self) -> int:
        """Start the service; return its process when it listens."""
        command = ["serve", "--model", str(self.work / "model"), "-q", "--device", "cpu"]
        command += ["--send-to", f"NODE@127.0.0.1:{self.node.port}", "--port", str(self.port), "--health-port", "0"]
        command += ["--rules", str(self.work / "rules.yaml"), "--queue", str(self.work / "queue")]
        process = self.forks.start(command)
        while forked_services.is_alive(process) and not _listens(self.port):
            time.sleep(0.05)
        if not forked_services.is_alive(process):
            raise RuntimeError(f"the service ended with exit code {self.forks.exit_code(process)}")
        return process

    def states(self) -> dict[str, int]:
        """Return the number of studies in each state."""
        return {state: len(list((self.work / "queue" / state).iterdir())) for state in _STATES}

    def finish(self) -> None:
        """Run the service without kills until all was sent."""
        self.slow.clear()
        process = self.start()
        for sender in self.senders:
            sender.join()
        deadline = time.monotonic() + 300
        while any(self.states().values()) and time.monotonic() < deadline:
            time.sleep(0.2)
        os.kill(process, signal.SIGTERM)
        forked_services.wait(process)
        if self.forks.exit_code(process) != 0:
            raise RuntimeError("the service did not stop in the regular way")

    def _send(self, studies: list[list[object]], title: str) -> None:
        """Send each study until it is accepted; slowly, so that some are always arriving."""
        pause = random.Random(title)
        for images in studies:
            while True:
                self.tries += 1
                before = (lambda _number: time.sleep(pause.random() * 0.5)) if self.slow.is_set() else (lambda _: None)
                if send(self.port, images, calling=title, before=before) == [0] * _SLICES:
                    self.accepted.append(images[0].StudyInstanceUID)
                    break
                time.sleep(0.5)
            while self.slow.is_set() and len(self.accepted) >= self.allowed:
                time.sleep(0.1)


def _kill(run: _Run, kills: int, draw: random.Random) -> Counter[str]:
    """Kill the service ``kills`` times; return the number of kills with studies in each state."""
    moments: Counter[str] = Counter()
    for number in range(kills):
        process = run.start()
        run.allowed = len(run.studies) * (number + 1) / kills
        if not number:
            for sender in run.senders:
                sender.start()
        # the last choice: studies of an earlier start are complete, and are translated and sent
        time.sleep(draw.choice((draw.random(), 6 * draw.random(), _QUIET_S + 6 * draw.random())))
        held = run.states()
        os.kill(process, signal.SIGKILL)
        forked_services.wait(process)
        moments.update(state for state, count in held.items() if count)
        moments["translating"] += bool(list((run.work / "queue" / "waiting").glob("*/out")))
        moments["none"] += not any(held.values())
        if number % 10 == 9:
            print(f"{number + 1} kills, {len(run.accepted)} studies accepted", file=sys.stderr, flush=True)
    return moments


def _judge(run: _Run, moments: Counter[str]) -> int:
    """Compare what arrived with what was accepted."""
    series = defaultdict(lambda: defaultdict(list))
    for image in run.node.images:
        series[image.StudyInstanceUID][image.SeriesInstanceUID].append(image.SOPInstanceUID)
    expected = [images[0].StudyInstanceUID for images in run.studies]
    lost = [uid for uid in expected if uid not in series]
    different = [uid for uid in series if len(series[uid]) > 1]
    partial = [uid for uid in series if any(len(set(sops)) != _SLICES for sops in series[uid].values())]
    repeated = sum(len(sops) > _SLICES for found in series.values() for sops in found.values())
    print(f"kills with studies in each state: {dict(moments)}")
    print(f"accepted {len(run.accepted)} of {len(expected)} studies in {run.tries} attempts")
    print(f"lost {len(lost)}, with different UIDs {len(different)}, incomplete {len(partial)}")
    print(f"sent again with the same UIDs: {repeated}")
    return int(bool(lost or different or partial or len(run.accepted) != len(expected)))


def _listens(port: int) -> bool:
    from pynetdicom import AE

    entity = AE(ae_title="TEST")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", port, ae_title="MEDCYCLEGAN")
    if association.is_established:
        association.release()
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
