"""What ``make torture`` runs: every part of the suite at full length, and its figures as one table.

``python tests/reliability/torture.py [--quick] [--table] [NAME...]`` with the names kills, disk_full, garbage,
odd_volumes, properties, hostile, privacy, concurrency, long_run. ``--quick`` takes a tenth of the counts. Each row is
kept in ``build/torture`` as its part ends; ``--table`` runs nothing and prints the rows that are there.
"""

from __future__ import annotations

import importlib
import json
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
    "kills": (100, 40),
    "disk_full": (),
    "garbage": (5000,),
    "odd_volumes": (2000,),
    "properties": (1000,),
    "hostile": (),
    "privacy": (),
    "concurrency": (10,),
    "long_run": (2000, 300),
}


#: Where each row is kept when its part has ended.
_KEPT = Path(__file__).parents[2] / "build" / "torture"


def main() -> int:
    """Run the parts that were named, or all; print the table; return 1 if any row has something wrong."""
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(PARTS)
    if "--table" not in sys.argv:
        for name in names:
            print(f"== {name}", flush=True)
            _run_part(name, quick="--quick" in sys.argv)
    rows = [json.loads(file.read_text()) for name in names if (file := _KEPT / f"{name}.json").exists()]
    print("\n| what | figure | wrong | minutes | command |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row['name']} | {row['figure']} | {row['wrong']} | {row['minutes']:.1f} | `{row['command']}` |")
    return int(any(row["wrong"] for row in rows))


def _run_part(name: str, *, quick: bool) -> None:
    began = time.monotonic()
    counts = [max(1, count // 10) if quick else count for count in PARTS[name]]
    row = importlib.import_module(f"reliability.{name}").measure(*counts)
    row.show()
    _KEPT.mkdir(parents=True, exist_ok=True)
    kept = {
        "name": row.name,
        "figure": row.figure,
        "wrong": len(row.wrong),
        "minutes": (time.monotonic() - began) / 60,
        "command": f"python tests/reliability/torture.py {name}{' --quick' if quick else ''}",
    }
    (_KEPT / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
