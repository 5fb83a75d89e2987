"""Damage three series of DICOM a few thousand times, one way at a time, and count the results of reading them.

``python tests/benchmarks/dicom_fuzz.py [COUNT] [FIRST SEED]``, 2,000 by default. Each batch runs in a separate
process, so that a decoder that crashes or hangs is counted too. The exit code is 1 for a traceback, a hang, or a wrong
volume from anything but changed pixel bytes.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.dicom_mutations import SERIES, outcome, write_series

#: For a batch, which takes some 10 s on an idle machine.
_MOST_SECONDS = 600


def work(first: int, count: int) -> None:
    """Run seeds in this process; one line of JSON each."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as root:
        truth = write_series(Path(root))
        for seed in range(first, first + count):
            name = SERIES[seed % len(SERIES)]
            try:
                result, detail = outcome(Path(root, name), Path(root, "work"), truth[name], seed)
            except Exception:
                result, detail = "traceback", traceback.format_exc(limit=-3)
            print(json.dumps([seed, name, result, detail]), flush=True)


def main(count: int, first: int) -> int:
    counts: Counter[tuple[str, str, str]] = Counter()
    bad = 0
    seed, last = first, first + count
    while seed < last:
        batch = min(200, last - seed)
        command = [sys.executable, __file__, "--work", str(seed), str(batch)]
        ended = "crash"
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_MOST_SECONDS, check=False).stdout
        except subprocess.TimeoutExpired as expired:
            done, ended = (expired.stdout or b"").decode(), "hang"
        for line in done.splitlines():
            seed, name, result, detail = json.loads(line)
            kind = detail.split(":")[0] if result != "traceback" else ""
            counts[name, kind, result] += 1
            if result == "traceback" or (result == "wrong" and not kind.startswith("pixel")):
                bad += 1
                print(f"seed {seed}, {name}: {result}: {detail}")
            seed += 1
            batch -= 1
        if batch:
            bad += 1
            counts[SERIES[seed % len(SERIES)], "", ended] += 1
            print(f"seed {seed}: {ended}")
            seed += 1
    for (name, kind, result), number in sorted(counts.items()):
        print(f"{name:11} {kind:12} {result:10} {number:5}")
    totals = Counter(dict.fromkeys(("right", "refused", "wrong", "traceback", "hang", "crash"), 0))
    for (_, _, result), number in counts.items():
        totals[result] += number
    print(f"\n{count} mutations: " + ", ".join(f"{number} {result}" for result, number in totals.items()))
    print(f"wrong but for pixel bytes, tracebacks, hangs and crashes: {bad}")
    return int(bad > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(int(sys.argv[2]), int(sys.argv[3]))
    else:
        given = [int(value) for value in sys.argv[1:]]
        sys.exit(main(*(given + [2000, 0][len(given) :])))
