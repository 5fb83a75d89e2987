"""A disk that fills up: one line, exit code 1, nothing partial, what was there before untouched.

``python tests/reliability/torture.py disk_full``. As root each command writes to small tmpfs file systems of many
sizes; else (and in the suite) the size of a file is limited, which fails a write in the same way (EFBIG).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from reliability import wholeness
from reliability.sandbox import Limits, Row, run
from reliability.workspace import make_workspace

_MODEL = ("--model", "{0}/model", "--to", "mr", "-q")
#: Commands with their output below ``full/``; ``{0}`` is the workspace.
COMMANDS: dict[str, tuple[str, ...]] = {
    "slice-volumes": ("slice-volumes", "{0}/volumes", "--config", "{0}/config.yaml", "--out", "full/slices", "-q"),
    "train": ("train", "--config", "{0}/config.yaml", "--slices", "{0}/slices", "--out", "full/runs", "-q"),
    "translate to NIfTI": ("translate-volume", "{0}/in.nii.gz", "full/out.nii.gz", *_MODEL),
    "translate to .nii": ("translate-volume", "{0}/in.nii.gz", "full/out.nii", *_MODEL),
    "translate to DICOM": ("translate-volume", "{0}/in", "full/mr", *_MODEL),
    "export bundle": ("export", "--format", "monai-bundle", "--model", "{0}/model", "--out", "full/bundle"),
    "export ONNX": ("export", "--format", "onnx", "--model", "{0}/model", "--out", "full/onnx"),
    "report": ("report", "{0}/in.nii.gz", "--out", "full/page.html"),
}
EARLIER = b"an earlier output\n"


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[bool]:
    """Mount a tmpfs of this size on ``folder``, where that is allowed; yields whether it was."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    mounted = (
        os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        else:
            shutil.rmtree(folder)


def attempt(name: str, work: Path, place: Path, kilobytes: int, *, mount: bool) -> tuple[str, list[str]]:
    """Run a command with its output on a disk (or in files) of ``kilobytes``; return its kind and what was wrong."""
    arguments = [part.format(work) for part in COMMANDS[name]]
    full = place / "full"
    with small_disk(full, kilobytes) if mount else contextlib.nullcontext(False) as mounted:
        full.mkdir(exist_ok=True)
        (full / "earlier.txt").write_bytes(EARLIER)
        outcome = run(arguments, place, Limits(file_bytes=None if mounted else kilobytes << 10))
        label = f"{name}, {kilobytes} kB {'disk' if mounted else 'files'}"
        wrong = [f"{label}: {fault}" for fault in wholeness.faults(full)]
        if outcome.kind not in ("done", "refused"):
            wrong.append(f"{label}: {outcome.kind}: {outcome.err.strip()[-400:]}")
        if outcome.kind == "refused" and (len(outcome.err.strip().splitlines()) > 3 or outcome.code != 1):
            wrong.append(f"{label}: exit {outcome.code}, {outcome.err.strip()[-400:]}")
        if (full / "earlier.txt").read_bytes() != EARLIER:
            wrong.append(f"{label}: the earlier output changed")
        if wholeness.leftovers(full):
            wrong.append(f"{label}: left behind {wholeness.leftovers(full)[0].name}")
        finals = [p.name for p in full.iterdir() if p.name not in ("earlier.txt", "runs", "slices")]
        if outcome.kind == "refused" and [n for n in finals if not n.endswith(".json")]:
            wrong.append(f"{label}: refused, but wrote {finals}")
    shutil.rmtree(full, ignore_errors=True)
    return outcome.kind, wrong


def prepare(root: Path) -> Path:
    """Make the workspace, with a sliced store."""
    work = make_workspace(root / "work")
    outcome = run(["slice-volumes", "--config", "config.yaml", "-q"], work)
    assert outcome.kind == "done", outcome.err
    return work


def measure() -> Row:
    """Return the row of the table: every command on disks and with files of many sizes, and a full standard output."""
    kinds: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        work, place = prepare(Path(root)), Path(root, "place")
        place.mkdir()
        for name in COMMANDS:
            for mount in (True, False):
                sizes = (8, 24, 64, 128, 400) if mount else (1, 16, 60)
                for kilobytes in sizes[1::2] if name == "export ONNX" else sizes:
                    kind, faults = attempt(name, work, place, kilobytes, mount=mount)
                    kinds[kind] += 1
                    wrong += faults
            print(f"  {name:20} {dict(kinds)}", flush=True)
        command = [sys.executable, "-m", "medcyclegan", "inspect", str(work / "in.nii.gz")]
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        if ended.returncode != 1 or "Traceback" in ended.stderr or "Exception" in ended.stderr:
            wrong.append(f"standard output full: exit {ended.returncode}, {ended.stderr.strip()[-300:]}")
        kinds["refused"] += ended.returncode == 1
    figure = f"{sum(kinds.values())} runs, {kinds['refused']} refused in a line, {kinds['done']} had room: "
    return Row("disk full", f"{figure}{len(wrong)} partial, changed or unclear", wrong)
