"""Run a synthetic cohort through the pipelines, in one go and as jobs of which some are killed; compare the results.

    python tests/benchmarks/cohort.py [PATIENTS]

Two volumes per patient (default: 30 patients), three of them broken. Jobs run by submitit on this machine; in each
stage one is killed (SIGKILL) in the middle, and the command is run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support.cohorts import make_cohort  # noqa: E402

STEPS = [
    word
    for value in ("max_steps=16", "checkpoint_steps=2", "panel_every=16")
    for word in ("--set", f"training.{value}")
]


def main() -> int:
    patients = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        broken = make_cohort(Path("bids"), patients)
        print(f"{2 * patients} volumes, {len(broken)} broken", flush=True)
        return 0 if all(compare(patients, broken)) else 1


def compare(patients: int, broken: dict[str, str]):
    """Run each stage both ways; yield whether they agree."""
    domains = ["--domain", "t1", "bids", "suffix=T1w", "--domain", "t2", "bids", "suffix=T2w", "--config", "smoke"]
    whole(1, "prepare_cohort.py", "one", *domains)
    killed(1, "two/slices/t*/*.npy", "prepare_cohort.py", "two", *domains)
    yield same("slices", stacks("one"), stacks("two"), 2 * patients - 3)
    yield ledger("one", broken) & ledger("two", broken)

    shutil.copytree("one", "three")
    train = ["--config", "smoke", *STEPS]
    whole(0, "train_and_report.py", "one", *train)
    killed(0, "three/results/smoke/runs/*/*/checkpoints/*", "train_and_report.py", "three", *train, shards=1)
    yield same("weights", weights("one"), weights("three"), 2)
    yield same("scores", scores("one"), scores("three"), None)

    model = next(Path("one/results/smoke/runs").glob("*/latest")) / "model"
    translate = ["--select", "suffix=T1w", "--to", "t2", "--model", str(model)]
    whole(1, "translate_cohort.py", "bids", "whole", *translate)
    killed(1, "shared/sub-*/anat/*.nii.gz", "translate_cohort.py", "bids", "shared", *translate)
    yield same("translations", hashes("whole"), hashes("shared"), patients - 2)
    yield ledger("whole", broken) & ledger("shared", broken)


def whole(code: int, script: str, *words: str) -> None:
    """Run a script; it must exit with ``code``."""
    started = time.monotonic()
    run = subprocess.run([sys.executable, ROOT / "pipelines" / script, *words], capture_output=True, text=True)
    assert run.returncode == code, run.stderr
    print(
        f"{script}, in one go: exit code {code} after {time.monotonic() - started:.0f} s: {last(run.stdout)}",
        flush=True,
    )


def killed(code: int, output: str, script: str, *words: str, shards: int = 2) -> None:
    """Run a script as jobs, kill one when it has written a part of its ``output``, and run it again."""
    command = [sys.executable, ROOT / "pipelines" / script, *words, "--cluster", "local", "--num-shards", str(shards)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(list(Path().glob(output))) < 3:
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.05)
    victim = next(p for p in psutil.Process(first.pid).children(recursive=True) if is_shard(p, script, shards - 1))
    victim.send_signal(signal.SIGKILL)
    said = first.communicate()[1]
    assert first.returncode == 1, said
    made = len(list(Path().glob(output)))
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == code, again.stderr
    print(f"{script}, {shards} jobs, one killed with {made} outputs there, then again: exit code {code}", flush=True)
    told = [line for line in said.splitlines() if line.startswith(f"shard {shards - 1} ")]
    print("    said of the killed one:", told[0].partition("; its log")[0])
    assert "was killed by signal 9" in told[0]


def is_shard(process: psutil.Process, script: str, shard: int) -> bool:
    words = process.cmdline()
    return any(word.endswith(script) for word in words) and words[-2:] == ["--shard-id", str(shard)]


def same(what: str, one: object, other: object, count: int | None) -> bool:
    agree = one == other and (count is None or len(one) == count)
    print(f"{what}: {'identical' if agree else f'DIFFERENT: {one} {other}'}{f', {count} of them' if count else ''}")
    return agree


def ledger(folder: str, broken: dict[str, str]) -> bool:
    """Whether the ledger of a folder holds the broken volumes that were its to read, with their reasons."""
    rows = [json.loads(line) for line in Path(folder, "ledger.jsonl").read_text().splitlines()]
    found = {case: row["reason"] for row in rows for case in broken if row["case"].endswith(case)}
    expected = {case for case in broken if "slices" in os.listdir(folder) or case.endswith("T1w")}
    right = found.keys() == expected and len(rows) == len(expected) and all(broken[c] in found[c] for c in found)
    print(f"ledger of {folder}: {len(rows)} cases, {'as broken' if right else f'NOT as broken: {rows}'}")
    for row in rows:
        print(f"    {row['stage']} {row['case']}: {row['reason']}")
    return right


def stacks(study: str) -> list[str]:
    """The stacks' bytes: their names are keyed hashes and differ between stores."""
    return sorted(digest(path) for path in Path(study, "slices").glob("*/[!.]*.npy"))


def weights(study: str) -> list[str]:
    (model,) = {path.parent.resolve() for path in Path(study).glob("results/smoke/runs/*/latest/model/model.json")}
    return [digest(model / f"G_{way}.safetensors") for way in ("AB", "BA")]


def scores(study: str) -> list[dict]:
    return json.loads(Path(study, "results/smoke/evaluation.json").read_text())["cases"]


def hashes(folder: str) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest(path) for path in Path(folder).glob("sub-*/anat/[!.]*.nii.gz")}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def last(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""


if __name__ == "__main__":
    sys.exit(main())
