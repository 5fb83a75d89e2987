"""What ``make torture`` runs: every part of the suite at full length, and its figures as one table.

``python tests/reliability/torture.py [--quick] [NAME...]`` with the names kills, disk_full, garbage, hostile, privacy,
concurrency, long_run. ``--quick`` takes a tenth of the counts.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
_TESTS = str(Path(__file__).parents[1])
sys.path.insert(0, _TESTS)
os.environ["PYTHONPATH"] = os.pathsep.join([_TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])

#: Module -> the counts of its full length.
PARTS: dict[str, tuple[int, ...]] = {
    "kills": (100,),
    "disk_full": (),
    "garbage": (5000,),
    "hostile": (),
    "privacy": (),
    "concurrency": (10,),
    "long_run": (2000, 300),
}


def main() -> int:
    """Run the parts that were named, or all; print the table; return 1 if any row has something wrong."""
    quick = "--quick" in sys.argv
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(PARTS)
    rows = []
    for name in names:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        counts = [max(1, count // 10) if quick else count for count in PARTS[name]]
        row = importlib.import_module(f"reliability.{name}").measure(*counts)
        row.show()
        rows.append((row, time.monotonic() - began, f"python tests/reliability/torture.py {name}"))
    print("\n| what | figure | wrong | minutes | command |\n| --- | --- | --- | --- | --- |")
    for row, seconds, command in rows:
        print(f"| {row.name} | {row.figure} | {len(row.wrong)} | {seconds / 60:.1f} | `{command}` |")
    return int(any(row.wrong for row, _, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
