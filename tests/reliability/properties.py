"""What holds of the pure parts for any input (the suite's ``test_*_properties.py``), with other and more examples.

``python tests/reliability/torture.py properties``: a thousand new ones for each.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from reliability.sandbox import Row

_TESTS = Path(__file__).parents[1]
_EXAMPLES = re.compile(r"during generate phase.*?(\d+) passing\b", re.DOTALL)


def measure(examples: int = 1000) -> Row:
    """Return the row of the table for ``examples`` examples of each property."""
    files = sorted(str(path) for path in _TESTS.rglob("test_*_properties.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=torture",
               "--hypothesis-show-statistics", "--timeout=3600", *files]  # fmt: skip
    environment = os.environ | {"PROPERTY_EXAMPLES": str(examples)}
    ended = subprocess.run(command, cwd=_TESTS.parent, env=environment, capture_output=True, text=True, check=False)
    wrong = [line[:300] for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    passed = re.search(r"(\d+) passed", ended.stdout)
    if ended.returncode and not wrong:
        wrong = [f"pytest: exit {ended.returncode}: {(ended.stdout + ended.stderr)[-300:]}"]
    for start in [found.start() for found in re.finditer("Falsifying example|Failing test case", ended.stdout)]:
        print("  " + ended.stdout[start : start + 400].replace("\n", "\n  "))
    count = sum(int(found) for found in _EXAMPLES.findall(ended.stdout))
    held = passed[1] if passed else "0"
    return Row(
        "properties", f"{count} examples of {len(files)} modules: {held} properties held, {len(wrong)} did not", wrong
    )
