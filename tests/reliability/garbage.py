"""Thousands of damaged inputs, counted by kind: right, refused, wrong; tracebacks, hangs, memory beyond the limit.

``python tests/reliability/torture.py garbage``; ``garbage.py COUNT FIRST_SEED`` runs some. Batches run in
processes of their own with an address space that is limited, so that a crash, a hang or a hunger for memory is counted
too. ``unseen`` is what
nothing can notice: a pixel's bytes where the format has no checksum, a header or a setting changed into another legal
one.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability.damage import TARGETS, Damaged, build
from reliability.sandbox import Row

#: For one input; and the memory that its process may take beyond what it has after its imports.
SECONDS, MEMORY_MB = 20, 1024
_BATCH = 2500


class _Hang(BaseException):
    pass


def _alarm(_signal: int, _frame: object) -> None:
    raise _Hang


def judge(target: Damaged, folder: Path, seed: int) -> tuple[str, str]:
    """Damage a copy of a target's files and use them; return the outcome and the kind of damage."""
    from medcyclegan.errors import MedCycleGANError

    kind, noticeable = target.damage(folder, seed)
    signal.alarm(SECONDS)
    try:
        found = target.use(folder)
    except MedCycleGANError as error:
        return ("refused", kind) if "\n" not in str(error) and str(error) else ("unclear", f"{kind}: {error}")
    except MemoryError:
        return "memory", f"{kind}: {traceback.format_exc(limit=-3)}"
    except _Hang:
        return "hang", f"{kind}: {traceback.format_exc(limit=-3)}"
    except Exception:
        return "traceback", f"{kind}: {traceback.format_exc(limit=-3)}"
    finally:
        signal.alarm(0)
    if found == target.truth:
        return "right", kind
    return ("wrong" if noticeable else "unseen"), kind


def work(first: int, count: int) -> None:
    """Judge seeds in this process; one line of JSON each."""
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _alarm)
    with tempfile.TemporaryDirectory() as root:
        targets = build(Path(root, "truth"))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (MEMORY_MB << 20),) * 2)
        for seed in range(first, first + count):
            name = TARGETS[seed % len(TARGETS)]
            outcome, detail = judge(targets[name], Path(root, "work"), seed)
            print(json.dumps([seed, name, outcome, detail]), flush=True)


def measure(count: int = 5000, first: int = 0) -> Row:
    """Return the row of the table for ``count`` damaged inputs."""
    counts: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    seed, last = first, first + count
    while seed < last:
        batch = min(_BATCH, last - seed)
        command = [sys.executable, __file__, "--work", str(seed), str(batch)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
            lines, died = ended.stdout.splitlines(), f"crash ({ended.returncode}): {ended.stderr[-300:]}"
        except subprocess.TimeoutExpired as expired:
            lines, died = (expired.stdout or b"").decode().splitlines(), "hang"
        for line in lines:
            seed, name, outcome, detail = json.loads(line)
            counts[name, outcome] += 1
            if outcome not in ("right", "refused", "unseen"):
                wrong.append(f"seed {seed}, {name}: {outcome}: {detail}")
            seed += 1
        if len(lines) < batch:
            counts[TARGETS[seed % len(TARGETS)], "crash"] += 1
            wrong.append(f"seed {seed}, {TARGETS[seed % len(TARGETS)]}: {died}")
            seed += 1
    totals: Counter[str] = Counter()
    for name in TARGETS:
        own = {outcome: number for (target, outcome), number in sorted(counts.items()) if target == name}
        totals.update(own)
        print(f"  {name:16} " + ", ".join(f"{number} {outcome}" for outcome, number in own.items()), flush=True)
    said = ", ".join(f"{totals[outcome]} {outcome}" for outcome in ("right", "refused", "unseen", "wrong"))
    others = f"{totals['traceback']} tracebacks, {totals['hang']} hangs, {totals['crash']} crashes, "
    over = f"{totals['memory']} over {MEMORY_MB} MB"
    return Row("garbage", f"{count} inputs of {len(TARGETS)} kinds: {said}; {others}{over}", wrong)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(int(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(measure(*map(int, sys.argv[1:])).show())
