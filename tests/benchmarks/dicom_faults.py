"""Print the result of reading each synthetic DICOM folder: right, refused or wrong.

``python tests/benchmarks/dicom_faults.py [-v] [PART OF A NAME]``; the exit code is 1 if any is wrong, or is not what
the case allows.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.dicom_cases import judge
from support.dicom_own_cases import ALL_CASES


def main(arguments: list[str]) -> int:
    logging.disable(logging.CRITICAL)
    verbose = "-v" in arguments
    words = [word for word in arguments if not word.startswith("-")]
    chosen = [each for each in ALL_CASES if all(word in each.name for word in words)]
    counts: Counter[str] = Counter()
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        for number, each in enumerate(chosen):
            plain, detail = judge(each, Path(root, f"{number}"), {})
            counts[plain] += 1
            good = (plain == "right" and each.right) or (plain == "refused" and each.refused)
            line = f"{each.name:58} {plain}"
            if each.options:
                optional, more = judge(each, Path(root, f"{number}-options"), each.options)
                counts[f"{optional} with an option"] += 1
                good = good and optional == "right"
                line += f", {optional} with {' '.join(f'{name}={value}' for name, value in each.options.items())[:60]}"
                detail += f" | {more}"
            failed += not good
            print(line + ("" if good else "   <-- not allowed"))
            if detail and (verbose or not good):
                print("    " + detail.replace(f"{root}/", ""))
    print(f"\n{len(chosen)} folders: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    print(f"wrong: {counts['wrong'] + counts['wrong with an option']}; not allowed: {failed}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
