"""Print the cost of a volume at each stage and whether it grows linearly: CPU seconds and megabytes, as Markdown.

    python tests/benchmarks/scaling.py [N ...] [--step-seconds S]        (default: 10 100; at least 2)

A phantom is a synthetic head of 96 x 120 x 20 voxels (2 x 2 x 8 mm, float32, .nii.gz); N of them are N / 2 patients
with a T1 and a T2 each, copies of five heads under other names. One process, one thread. Times are CPU seconds, so that
other work on the machine does not count; it still slows down the cores that it shares.

Slices have 256 pixels. The networks are those of the configuration ``smoke`` (4 filters), so the table shows the cost
of everything around the networks; tests/benchmarks/training_step.py and translation.py print the cost of full-size
ones. Training is measured as the cost of a store before and after the steps, and as an epoch: the median of 20 steps
for each slice of a domain, as if no slices were held out.

The forecast at the end has one epoch, and all epochs of the configuration ``default``, at full size. A step takes S
seconds, as tests/benchmarks/training_step.py prints them on the device that will train, or else the time that it takes
here in one thread.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import json
import logging
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from support.scaling_forecast import header_seconds, print_forecast

import medcyclegan.data
import medcyclegan.evaluation.cases
import medcyclegan.slicing.case
from medcyclegan.cohort import select_volumes, translate_cohort
from medcyclegan.config import load_config
from medcyclegan.evaluation import EvaluationRequest, evaluate_files
from medcyclegan.inference import TranslationOptions
from medcyclegan.io import write_volume
from medcyclegan.model import ModelBundle
from medcyclegan.phantom import make_head, t1_volume, t2_volume
from medcyclegan.slicing import slice_volumes
from medcyclegan.slicing.store import SliceStore
from medcyclegan.training import train
from medcyclegan.training.update.step import CycleGANStep

T = TypeVar("T")

#: The module; its function of the same name hides it.
_TRANSLATE_FILE = sys.modules["medcyclegan.inference.translate_file"]

#: The number of different heads; more patients are copies of them under other names.
_HEADS = 5
_CONTRASTS = {"t1": t1_volume, "t2": t2_volume}
_STEPS = 20
_PHANTOM = (96, 120, 20)
#: A cost grows linearly if a further volume costs at most a fifth more than each of the previous ones.
_LINEAR = 1.2
#: The parts of each stage and the functions that they consist of; the remaining CPU time is "other".
_PARTS = {
    "slice": {
        "read": (medcyclegan.slicing.case, "read_found_volume"),
        "cut": (medcyclegan.slicing.case, "cut_slices"),
        "write": (SliceStore, "save_case"),
    },
    "train": {"read": (medcyclegan.data.UnpairedSlices, "batch"), "step": (CycleGANStep, "__call__")},
    "translate": {
        "read": (_TRANSLATE_FILE, "read_with_options"),
        "networks": (_TRANSLATE_FILE, "translate"),
        "quality check": (_TRANSLATE_FILE, "_measure"),
        "write": (_TRANSLATE_FILE, "write_output"),
    },
    "evaluate": {
        "read": (medcyclegan.evaluation.cases, "read_found_volume"),
        "align": (medcyclegan.evaluation.cases, "align_volumes"),
        "score": (medcyclegan.evaluation.cases, "score_aligned"),
        "picture": (medcyclegan.evaluation.cases, "_picture"),
    },
}

#: For each stage: its CPU seconds, and the megabytes that it reads and writes.
Costs = dict[str, tuple[float, float, float]]
Shares = collections.defaultdict[str, collections.Counter[str]]


def main() -> int:
    torch.set_num_threads(1)
    logging.getLogger("medcyclegan").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="*", default=[10, 100], metavar="N", help="numbers of phantoms")
    parser.add_argument("--step-seconds", type=float, metavar="S", help="of a training step on the training device")
    arguments = parser.parse_args()
    counts = sorted({max(2, count // 2 * 2) for count in arguments.counts})
    print(f"{machine()}\n")
    print("| phantoms | stage | CPU s | per volume | per further volume | linear | MB read | MB written | peak MB |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    before: dict[str, tuple[int, float, float]] = {}
    steady, megabytes_each = True, {}
    with tempfile.TemporaryDirectory() as folder:
        heads = make_heads(Path(folder) / "heads")
        measure(Path(folder), heads, 4)  # loads modules that are imported late
        header = header_seconds(Path(folder) / "dicom")
        for count in counts:
            costs, shares = measure(Path(folder), heads, count)
            for stage, (seconds, read, written) in costs.items():
                further, linear = compare(before.get(stage), count, seconds)
                before[stage] = (count, seconds, further)
                megabytes_each[stage] = (read / count, written / count)
                steady = steady and linear <= _LINEAR
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(
                    f"| {count} | {stage} | {seconds:.2f} | {seconds / count:.4f} | {further:.4f} | {linear:.2f} "
                    f"| {read:.1f} | {written:.1f} | {peak:.0f} |",
                    flush=True,
                )
    print(
        "\nThe cost of a further volume grows by at most a fifth from one row to the next: "
        f"{'yes' if steady else 'NO'}.\n"
    )
    print_shares(shares, counts[-1])
    each = {name: further for name, (_, _, further) in before.items()}
    print_forecast(each, megabytes_each, header, _PHANTOM[2], arguments.step_seconds)
    return 0 if steady else 1


def compare(before: tuple[int, float, float] | None, count: int, seconds: float) -> tuple[float, float]:
    """Return the cost of each volume that ``before`` does not have, and its ratio to the cost of a volume there.

    Without ``before``, it is the mean cost of a volume. This way, one-time costs of a stage do not hide how it grows.
    """
    if before is None:
        return seconds / count, 1.0
    further = (seconds - before[1]) / (count - before[0])
    return further, further / before[2]


def machine() -> str:
    """Return a description of the machine and of its load."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(": ")[2]
                break
        else:
            name = platform.processor()
    load = os.getloadavg()[0]
    return f"{name}, {os.cpu_count()} cores, one thread used; load at the start {load:.1f}; torch {torch.__version__}"


def make_heads(folder: Path) -> dict[str, list[Path]]:
    """Write the T1 and the T2 image of each head; return their files by contrast."""
    files: dict[str, list[Path]] = {name: [] for name in _CONTRASTS}
    for n in range(_HEADS):
        head = make_head(n, shape=_PHANTOM, spacing_mm=(2.0, 2.0, 8.0))
        for name, image in _CONTRASTS.items():
            files[name].append(folder / f"{name}-{n}.nii.gz")
            write_volume(image(head), files[name][-1])
    return files


def measure(folder: Path, heads: dict[str, list[Path]], count: int) -> tuple[Costs, Shares]:
    """Run every stage on ``count`` phantoms; return the costs of each, and the CPU seconds of its parts."""
    place = folder / "cohort"
    trees = {name: place / name for name in heads}
    for n in range(count // 2):
        for name, files in heads.items():
            path = trees[name] / f"sub-{n:05d}" / "anat" / f"sub-{n:05d}_{name.upper()}w.nii.gz"
            path.parent.mkdir(parents=True)
            shutil.copyfile(files[n % _HEADS], path)
    costs: Costs = {}
    shares: Shares = collections.defaultdict(collections.Counter)
    found = stage(costs, shares, "find", lambda: {name: select_volumes(tree) for name, tree in trees.items()})
    stage(
        costs, shares, "slice", lambda: slice_volumes(found, place / "slices"), list(trees.values()), place / "slices"
    )
    model = train_on(place, costs, shares)

    def translate() -> None:
        for name, other in (("t1", "t2"), ("t2", "t1")):
            translate_cohort(trees[name], found[name], place / "fakes" / other, model, TranslationOptions(to=other))

    stage(costs, shares, "translate", translate, list(trees.values()), place / "fakes")

    def evaluate() -> None:
        for name, tree in trees.items():
            request = EvaluationRequest(
                fake=place / "fakes" / name, reference=tree, out=place / "tables" / f"{name}.json"
            )
            evaluate_files(request)

    stage(costs, shares, "evaluate", evaluate, [*trees.values(), place / "fakes"], place / "tables")
    shutil.rmtree(place)
    return costs, shares


def train_on(place: Path, costs: Costs, shares: Shares) -> ModelBundle:
    """Train for some steps and add two costs: of everything around the steps, and of an epoch of such steps."""
    config = load_config("smoke", ["training.checkpoint_steps=100", "training.panel_every=100"])
    steps: list[float] = []

    def start() -> Path:
        with mock.patch.object(CycleGANStep, "__call__", counted(CycleGANStep.__call__, steps.append)):
            return train(place / "slices", config=config, out=place / "runs", max_steps=_STEPS, device="cpu")

    run = stage(costs, shares, "train", start)
    seconds = costs.pop("train")[0]
    stacks = [place / "slices" / name for name in _CONTRASTS]
    epoch = json.loads((place / "slices" / "run.json").read_text())["slices"] / 2 * statistics.median(steps)
    costs["train: around"] = (seconds - sum(steps), 0.0, megabytes(run))
    costs["train: epoch"] = (epoch, sum(map(megabytes, stacks)), 0.0)
    return ModelBundle.load(run / "model")


def stage(
    costs: Costs,
    shares: Shares,
    name: str,
    action: Callable[[], T],
    inputs: Sequence[Path] = (),
    out: Path | None = None,
) -> T:
    """Run one stage, store its CPU seconds, megabytes and parts, and return its result."""
    read = sum(megabytes(path) for path in inputs)
    started = time.process_time()
    with timed(shares[name], name):
        result = action()
    seconds = time.process_time() - started
    shares[name]["total"] = seconds
    costs[name] = (seconds, read, megabytes(out) if out is not None else 0.0)
    return result


@contextlib.contextmanager
def timed(spent: collections.Counter[str], name: str) -> Iterator[None]:
    """Count the CPU seconds of a stage's parts while it runs, including those of their threads."""
    # Training reads ahead in another thread, so each part is measured by the time of its thread.
    clock = time.thread_time if name == "train" else time.process_time
    with contextlib.ExitStack() as stack:
        for part, (owner, function) in _PARTS.get(name, {}).items():
            add = functools.partial(lambda part, seconds: spent.update({part: seconds}), part)
            stack.enter_context(mock.patch.object(owner, function, counted(getattr(owner, function), add, clock)))
        yield


def counted(
    function: Callable[..., T], add: Callable[[float], None], clock: Callable[[], float] = time.thread_time
) -> Callable[..., T]:
    """Return ``function``, changed to pass the seconds that each call takes by ``clock`` to ``add``."""

    @functools.wraps(function)
    def call(*arguments: object, **options: object) -> T:
        started = clock()
        try:
            return function(*arguments, **options)
        finally:
            add(clock() - started)

    return call


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def print_shares(shares: Shares, count: int) -> None:
    """Print the distribution of the CPU time of each stage."""
    print(f"Distribution of the CPU time with {count} phantoms:\n\n| stage | share |\n| --- | --- |")
    for name, spent in shares.items():
        whole = spent.pop("total")
        if name in _PARTS:
            rest = whole - sum(spent.values())
            parts = [*((part, spent[part]) for part in _PARTS[name]), ("other", rest)]
            print(f"| {name} | {', '.join(f'{part} {seconds / whole:.0%}' for part, seconds in parts)} |")


if __name__ == "__main__":
    sys.exit(main())
