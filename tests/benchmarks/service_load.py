"""Send 50 studies to ``medcyclegan serve`` over 4 associations at once; print times, answers, memory and order.

``python tests/benchmarks/service_load.py [--studies 50] [--rounds 3]``. The exit code is 1 if a study is missing, if
the order of a sender was not kept, or if the memory of the service grew by more than 10 % after the first round.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from support.dicom_node_server import running_node
from support.dicom_studies import make_study, send, write_rules
from support.models import tiny_model
from support.orthanc_server import free_port

_SENDERS = 4


def main() -> int:
    """Print a line for each round; return 1 if any fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    failed, memory = 0, []
    with tempfile.TemporaryDirectory() as work, running_node() as node:
        tiny_model().save(Path(work) / "model")
        write_rules(Path(work) / "rules.yaml", waiting={"settle_s": 1.0, "quiet_s": 60.0})
        port = free_port()
        command = [sys.executable, "-m", "medcyclegan", "serve", "--model", f"{work}/model", "--device", "cpu"]
        command += ["--send-to", f"NODE@127.0.0.1:{node.port}", "--port", str(port), "--health-port", "0"]
        log = (Path(work) / "log").open("w")
        process = subprocess.Popen([*command, "--rules", f"{work}/rules.yaml", "--queue", f"{work}/queue"], stderr=log)
        for number in range(options.rounds):
            del node.images[:]
            begun = time.monotonic()
            sent, slowest = _send_all(port, options.studies, number)
            while len(node.images) < sum(map(len, sent.values())) * 6 and time.monotonic() < begun + 300:
                time.sleep(0.1)
            whole = "whole" if len(node.images) == 6 * options.studies else "NOT whole"
            arrived = list(dict.fromkeys(image.StudyInstanceUID for image in node.images))
            kept = all([uid for uid in arrived if uid in uids] == uids for uids in sent.values())
            memory.append(_memory_mb(process.pid))
            seconds = time.monotonic() - begun
            print(
                f"round {number + 1}: {len(arrived)} of {options.studies} studies {whole} in {seconds:.1f} s, "
                f"order {'kept' if kept else 'NOT kept'}, "
                f"slowest answer {slowest:.1f} s, {memory[-1]:.0f} MB"
            )
            failed += len(arrived) != options.studies or not kept or whole != "whole"
        process.send_signal(signal.SIGTERM)
        failed += process.wait(timeout=60) != 0
        log.close()
        lines = Path(log.name).read_text().splitlines()
        print("\n".join(line for line in lines if line.startswith(("Warning", "Error"))))
    return int(bool(failed) or memory[-1] > 1.1 * memory[0])


def _send_all(port: int, studies: int, number: int) -> tuple[dict[str, list[str]], float]:
    """Send the studies from all senders at once.

    Returns the study UIDs of each sender, in its order, and the seconds of the slowest answer to an image.
    """
    sent: dict[str, list[str]] = {f"SENDER{n}": [] for n in range(_SENDERS)}
    moments: dict[str, list[float]] = {title: [] for title in sent}
    made = [make_study(f"{number} {k}", ("CT", "MR")[k % 2], 6, 48) for k in range(studies)]

    def work(title: str, mine: list[list[object]]) -> None:
        images = [image for study in mine for image in study]
        while not (
            statuses := send(port, images, calling=title, before=lambda _: moments[title].append(time.monotonic()))
        ):
            time.sleep(0.5)  # the service is still starting
        moments[title].append(time.monotonic())
        if statuses != [0] * len(images):
            print(f"{title}: {len(statuses)} of {len(images)} images were answered, the last with {statuses[-1]}")
        sent[title] = [study[0].StudyInstanceUID for study in mine]

    threads = [threading.Thread(target=work, args=(title, made[n::_SENDERS])) for n, title in enumerate(sent)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slowest = max(end - begin for each in moments.values() for begin, end in itertools.pairwise(each))
    return sent, slowest


def _memory_mb(pid: int) -> float:
    """Return the memory of the service and its processes."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 1e6


if __name__ == "__main__":
    sys.exit(main())
