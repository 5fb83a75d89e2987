"""Kill -9 at random moments: is every file under a final name whole, and does a rerun end as if nothing had been?

``python tests/reliability/torture.py kills``: 100 kills at random moments, shared out over six commands, and kills just
before a command changes the disk, which are the moments between two states of its files.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pydicom
from reliability import wholeness
from reliability.sandbox import Limits, Outcome, Row, run
from reliability.workspace import make_workspace

_TIMES = re.compile(r'("(created|ended|started|seconds|read|translate|assess|write|last_step|first_step)": )[^,\n]*')


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, the one that continues after a kill, where its result is, and which part of it must be equal."""

    name: str
    arguments: tuple[str, ...]
    again: tuple[str, ...]
    result: Callable[[Path], object]
    #: Its part of a hundred kills.
    share: int


def _bytes_of(*patterns: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        found = {}
        for pattern in patterns:
            for path in sorted(folder.glob(pattern)):
                data = path.read_bytes()
                if path.suffix in (".json", ".html", ".md"):
                    text = json.dumps(_timeless(json.loads(data))) if path.suffix == ".json" else data.decode()
                    data = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00)?|\d+(\.\d+)? s\b", "", text).encode()
                found[re.sub(r"\d{8}-\d{6}(-\d+)?", "RUN", str(path.relative_to(folder)))] = data
        return found or None

    return read


def _timeless(value: object) -> object:
    """Return a JSON value without what tells of times and of sessions."""
    if isinstance(value, dict):
        kept = {key: _timeless(inner) for key, inner in value.items()}
        return {k: v for k, v in kept.items() if k not in ("created", "ended", "started", "seconds", "record_sha256")}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _dicom(folder: Path) -> object:
    found = []
    for path in sorted(folder.glob("mr/*.dcm")):
        image = pydicom.dcmread(path)
        for keyword in ("InstanceCreation", "Series", "Content"):
            delattr(image, f"{keyword}Date")
            delattr(image, f"{keyword}Time")
        found.append(str(image) + image.PixelData.hex())
    return found or None


_TRANSLATE = ("--model", "model", "--to", "mr", "-q")
COMMANDS = (
    Command("slice-volumes", ("slice-volumes", "--config", "config.yaml", "-q"),
            ("slice-volumes", "--config", "config.yaml", "-q"),
            _bytes_of("slices/manifest.jsonl", "slices/*/*.npy"), 25),
    Command("train", ("train", "--config", "config.yaml", "--slices", "made", "-q"), ("train", "--resume", "-q"),
            _bytes_of("runs/latest/model/*.safetensors"), 10),
    Command("translate-volume (NIfTI)", ("translate-volume", "in.nii.gz", "out.nii.gz", *_TRANSLATE),
            ("translate-volume", "in.nii.gz", "out.nii.gz", *_TRANSLATE), _bytes_of("out.nii.gz"), 25),
    Command("translate-volume (DICOM)", ("translate-volume", "in", "mr", *_TRANSLATE),
            ("translate-volume", "in", "mr", *_TRANSLATE), _dicom, 20),
    Command("export", ("export", "--format", "monai-bundle", "--model", "model", "--out", "bundle"),
            ("export", "--format", "monai-bundle", "--model", "model", "--out", "bundle", "--overwrite"),
            _bytes_of("bundle/models/*", "bundle/configs/inference.json"), 10),
    Command("report", ("report", "run", "--overwrite"), ("report", "run", "--overwrite"),
            _bytes_of("run/report.html"), 10),
)  # fmt: skip
_OUTPUTS = ("slices", "runs", "out.nii.gz", "out.json", "mr", "mr.json", "bundle")


def prepare(root: Path) -> Path:
    """Make a workspace with a sliced store (``made``), a finished run (``run``) and the key that names cases."""
    folder = make_workspace(root / "work")
    for arguments in (
        ("slice-volumes", "--config", "config.yaml", "--out", "made", "-q"),
        ("train", "--config", "config.yaml", "--slices", "made", "--out", "old", "-q"),
    ):
        outcome = run(arguments, folder)
        assert outcome.kind == "done", outcome.err
    (folder / "old" / "latest").resolve().rename(folder / "run")
    shutil.rmtree(folder / "old")
    return folder


def _reset(folder: Path) -> None:
    for name in _OUTPUTS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in wholeness.leftovers(folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / "slices").mkdir()
    shutil.copy(folder / "made" / ".key", folder / "slices" / ".key")


def torment(command: Command, folder: Path, count: int, seed: int) -> tuple[int, list[str]]:
    """Kill ``command`` at ``count`` random moments; return how many kills struck, and what was wrong.

    A run that ended before its kill is given other moments.
    """
    whole, expected = _undisturbed(command, folder)
    rng, seconds, struck, wrong = random.Random(seed), whole.seconds, 0, []
    for number in range(count):
        for _ in range(4):
            moment = rng.uniform(0.0, seconds)
            hit, faults = _kill(command, folder, Limits(kill_after=moment), expected)
            wrong += [f"{command.name}, kill {number} at {moment:.3f} s: {fault}" for fault in faults]
            if hit:
                break
            seconds *= 0.95
        struck += hit
    return struck, wrong


def sweep(command: Command, folder: Path, most: int) -> tuple[int, int, list[str]]:
    """Kill ``command`` just before its changes to the disk: each, or ``most`` evenly spaced ones.

    Return the kills, the changes that an undisturbed run makes, and what was wrong.
    """
    whole, expected = _undisturbed(command, folder)
    chosen = range(1, whole.changes + 1)
    chosen = chosen if len(chosen) <= most else sorted({round((n + 0.5) * len(chosen) / most) for n in range(most)})
    struck, wrong = 0, []
    for change in chosen:
        hit, faults = _kill(command, folder, Limits(change=change), expected)
        struck += hit
        wrong += [f"{command.name}, killed before change {change}: {fault}" for fault in faults]
    return struck, whole.changes, wrong


def _undisturbed(command: Command, folder: Path) -> tuple[Outcome, object]:
    _reset(folder)
    whole = run(command.arguments, folder, Limits(change=0))
    expected = command.result(folder)
    assert whole.kind == "done", whole.err
    assert expected is not None
    return whole, expected


def _kill(command: Command, folder: Path, limits: Limits, expected: object) -> tuple[bool, list[str]]:
    """Kill a run, look at what it left, run it again; return whether the kill struck, and what was wrong."""
    _reset(folder)
    killed = run(command.arguments, folder, limits)
    wrong = wholeness.faults(folder)
    started = command.name != "train" or (folder / "runs" / "latest").exists()
    again = run(command.again if started else command.arguments, folder)
    if command.result(folder) == expected and "exists: outputs are not replaced" in again.err:
        pass  # it was killed after its output had got its name
    elif again.kind != "done":
        wrong.append(f"the rerun: {again.kind}: {again.err.strip()[-300:]}")
    elif command.result(folder) != expected:
        wrong.append("the rerun's result differs")
    wrong += [f"left behind: {path.name}" for path in wholeness.leftovers(folder)
              if (any(path.iterdir()) if path.is_dir() else path.stat().st_size)]  # fmt: skip
    return killed.code == -signal.SIGKILL, wrong


def measure(count: int = 100, most: int = 40, names: tuple[str, ...] = ()) -> Row:
    """Return the row of the table for ``count`` kills at random moments, and ``most`` a command before changes."""
    chosen = [command for command in COMMANDS if not names or command.name in names]
    struck, before, wrong = 0, 0, []
    with tempfile.TemporaryDirectory() as root:
        folder = prepare(Path(root))
        for seed, command in enumerate(chosen):
            share = max(1, round(count * command.share / sum(each.share for each in chosen)))
            hits, faults = torment(command, folder, share, seed)
            swept, changes, more = sweep(command, folder, max(1, most // 4 if command.name == "train" else most))
            struck, before = struck + hits, before + swept
            wrong += faults + more
            print(f"  {command.name:26} {hits} of {share} kills at random moments, {swept} before one of its {changes} "
                  f"changes to the disk, {len(faults + more)} faults", flush=True)  # fmt: skip
    figure = f"{struck} kills -9 at random moments, {before} just before a file was made, renamed or removed: "
    return Row("kills", f"{figure}{len(wrong)} broken or differing", wrong)
