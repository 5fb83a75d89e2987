"""Inputs made to do harm: nothing of them is executed, nothing is written outside the output, nothing hangs.

``python tests/reliability/torture.py hostile``. Every case runs as a process in a separate folder; any
other change around that folder counts as an escape, and a file named EXECUTED as an execution. Every case also proves
that its attack reached what it attacks: by what the refusal says, or by what the outputs hold. And every proof is put
to the test: the same command in a folder without the attack must not give it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from reliability import hostile_dicom, hostile_folders, hostile_images, hostile_models, hostile_onnx, hostile_pages
from reliability.attacks import SLICE, TRANSLATE, Case
from reliability.sandbox import Limits, Outcome, Row, run
from reliability.workspace import make_workspace

#: No refusal may take more than this, nor more memory: the package itself has some 400 MB.
LIMITS = Limits(seconds=90.0)
MOST_MB = 1600.0
#: What is printed of a case whose attack did not reach what it attacks.
MISSED = "the attack did not reach its target"


def cases() -> list[Case]:
    """Return every case."""
    parts = (hostile_models, hostile_folders, hostile_pages, hostile_dicom, hostile_onnx, hostile_images)
    return [case for part in parts for case in part.cases()]


def prepare(root: Path) -> Path:
    """Make what every case begins with a copy of: a workspace with a store, a run, a translation and tables."""
    folder = make_workspace(root / "base")
    for arguments in (
        [*SLICE, "--out", "made"],
        ["train", "--config", "config.yaml", "--slices", "made", "--set", "training.max_steps=8"],
        [*TRANSLATE[:2], "done.nii.gz", *TRANSLATE[3:]],
        ["evaluate", "done.nii.gz", "done.nii.gz", "--out", "table.csv"],
        ["evaluate", "done.nii.gz", "done.nii.gz", "--out", "table.json"],
    ):
        outcome = run(arguments, folder)
        assert outcome.kind == "done", outcome.err
    return folder


def attack(case: Case, base: Path, root: Path, *, control: bool = True) -> tuple[Outcome, list[str]]:
    """Run one case; return what came of it and what was wrong.

    ``control``: also run its command without the attack, which must not prove that the attack reached its target.
    """
    place = _fresh(base, root)
    arguments = case.prepare(place / "inside")
    before = {path for path in _listing(root) if not path.startswith(f"{place}/inside/")}
    outcome = run(arguments, place / "inside", LIMITS)
    wrong = []
    if outcome.kind not in ("done", "refused"):
        wrong.append(f"{case.name}: {outcome.kind}: {outcome.err.strip()[-400:]}")
    elif not case.reached(place / "inside", outcome):
        wrong.append(f"{case.name}: {MISSED}: {outcome.kind}: {outcome.err.strip()[-400:]}")
    if any("/EXECUTED" in path for path in _listing(root)):
        wrong.append(f"{case.name}: executed")
    after = {path for path in _listing(root) if not path.startswith(f"{place}/inside/")}
    if after != before:
        wrong.append(f"{case.name}: written outside: {sorted(after ^ before)[:3]}")
    if outcome.peak_mb > MOST_MB:
        wrong.append(f"{case.name}: {outcome.peak_mb:.0f} MB")
    if any(ord(char) < 32 and char != "\n" for char in outcome.err.replace("\r", "")):
        wrong.append(f"{case.name}: control characters on the terminal")
    pages = [path.read_text("utf-8", "replace") for path in (place / "inside").glob("*.html")]
    if any("<script>alert(" in page or "<img src=x" in page for page in pages):
        wrong.append(f"{case.name}: a script in the page")
    if control and not case.in_arguments:
        place = _fresh(base, root)
        if case.reached(place / "inside", run(arguments, place / "inside", LIMITS)):
            wrong.append(f"{case.name}: its proof holds without the attack too")
    subprocess.run(["rm", "-rf", str(place)], check=True)
    return outcome, wrong


def _fresh(base: Path, root: Path) -> Path:
    """Return a folder with a copy of the base, ``inside``, and one that no command may touch, ``outside``."""
    place = root / "case"
    subprocess.run(["rm", "-rf", str(place)], check=True)  # Python 3.11's own way fails in folders this deep
    (place / "outside" / "deep").mkdir(parents=True)
    shutil.copytree(base, place / "inside", symlinks=True)
    return place


def _listing(root: Path) -> set[str]:
    """Return every path below ``root``; links are not followed."""
    found, folders = set(), [str(root)]
    while folders:
        for entry in os.scandir(folders.pop()):
            found.add(entry.path)
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
    return found


def measure(part: str = "") -> Row:
    """Return the row of the table for all cases, or those with ``part`` in their name."""
    chosen = [case for case in cases() if part in case.name]
    kinds: Counter[str] = Counter()
    wrong: list[str] = []
    slowest, largest = 0.0, 0.0
    with tempfile.TemporaryDirectory() as root:
        base = prepare(Path(root))
        for case in chosen:
            outcome, faults = attack(case, base, Path(root))
            kinds[outcome.kind] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.peak_mb)
            wrong += faults
            print(f"  {case.name:44} {outcome.kind:9} {outcome.seconds:5.1f} s {outcome.peak_mb:5.0f} MB", flush=True)
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    found = f"{len(wrong)} executed, escaped, hung, failed or missed their target"
    figure = f"{len(chosen)} cases: {said}; {found}; slowest {slowest:.0f} s, largest {largest:.0f} MB"
    return Row("hostile", figure, wrong)
