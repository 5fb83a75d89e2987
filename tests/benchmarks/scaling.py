"""What a volume costs at each stage, and whether n of them cost n times that: CPU seconds and megabytes, as Markdown.

    python tests/benchmarks/scaling.py [N ...] [--step-seconds S]        (default: 10 100; at least 2)

A phantom is a made head of 96 x 120 x 20 voxels (2 x 2 x 8 mm, float32, .nii.gz); N of them are N / 2 patients with a
T1 and a T2 each, copies of five heads under other names. One process, one thread. CPU seconds, so that a busy machine
does not count; a core that others use at the same time is still slower than an idle one.

Slices have 256 pixels. The networks are those of the configuration ``smoke`` (4 filters): what is measured is all that
surrounds them; tests/benchmarks/training_step.py and translation.py print what real ones cost. Training is measured as
what a store costs before and after its steps, and as an epoch: a step (the median of 20) for each slice of a domain, as
if none were held out.

The forecast at its end holds one epoch, and all epochs of the configuration ``default``, at full size. A step takes S
seconds, as tests/benchmarks/training_step.py prints them on the device that is to train, or else what it takes here in
one thread.
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
from types import SimpleNamespace
from typing import TypeVar
from unittest import mock

import torch

import medcyclegan.data
import medcyclegan.evaluation.cases
import medcyclegan.slicing.case
from medcyclegan.cohort import select_volumes, translate_cohort
from medcyclegan.config import load_config
from medcyclegan.evaluation import EvaluationRequest, evaluate_files
from medcyclegan.inference import TranslationOptions, translate_volume
from medcyclegan.intensity import IntensityScaling
from medcyclegan.io import write_volume
from medcyclegan.io.dicom.write.synthetic import write_made_series
from medcyclegan.model import DomainModel, ModelBundle
from medcyclegan.networks import build_cyclegan, build_generator
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.plane import Preparation
from medcyclegan.slicing import slice_volumes
from medcyclegan.slicing.store import SliceStore
from medcyclegan.training import train
from medcyclegan.training.update.precision import choose_precision
from medcyclegan.training.update.step import CycleGANStep, build_step

T = TypeVar("T")

#: The module; its function of the same name hides it.
_TRANSLATE_FILE = sys.modules["medcyclegan.inference.translate_file"]

#: Heads that are made; more patients are copies of them under other names.
_HEADS = 5
_CONTRASTS = {"t1": t1_volume, "t2": t2_volume}
_STEPS = 20
#: A cost grows linearly while a further volume costs within a fifth of what the ones before it did.
_LINEAR = 1.2
#: Where a stage's CPU time goes: the functions whose time is its parts'; the rest is "other".
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
        "judge": (_TRANSLATE_FILE, "_measure"),
        "write": (_TRANSLATE_FILE, "write_volume"),
    },
    "evaluate": {
        "read": (medcyclegan.evaluation.cases, "read_found_volume"),
        "align": (medcyclegan.evaluation.cases, "align_volumes"),
        "score": (medcyclegan.evaluation.cases, "score_aligned"),
        "picture": (medcyclegan.evaluation.cases, "_picture"),
    },
}

#: The forecast: its volumes, half of each domain, their slices, the share of them that is trained on, and its cores.
_VOLUMES, _SLICES, _TRAINED, _CORES = 100_000, 150, 0.8, 50 * 32
_PHANTOM = (96, 120, 20)

#: A stage's CPU seconds in all, and megabytes read and written.
Costs = dict[str, tuple[float, float, float]]
Shares = collections.defaultdict[str, collections.Counter[str]]


def main() -> int:
    torch.set_num_threads(1)
    logging.getLogger("medcyclegan").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="*", default=[10, 100], metavar="N", help="phantoms of a cohort")
    parser.add_argument("--step-seconds", type=float, metavar="S", help="of a training step on the device that trains")
    arguments = parser.parse_args()
    counts = sorted({max(2, count // 2 * 2) for count in arguments.counts})
    print(f"{machine()}\n")
    print("| phantoms | stage | CPU s | a volume | a further one | linear | MB read | MB written | peak MB |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    before: dict[str, tuple[int, float, float]] = {}
    steady, megabytes_each = True, {}
    with tempfile.TemporaryDirectory() as folder:
        heads = make_heads(Path(folder) / "heads")
        measure(Path(folder), heads, 4)  # what is loaded late is paid for here
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
    print(f"\nno dearer by more than a fifth: {'yes' if steady else 'NO'}\n")
    print_shares(shares, counts[-1])
    print(
        f"\nTo find DICOM: {1000 * header:.2f} CPU ms a file, {header * _VOLUMES * _SLICES / 3600:.1f} h for all below."
    )
    step, there = step_seconds(), arguments.step_seconds
    print(
        f"\nA step of `default`: {step:.2f} CPU s{'' if there is None else f', on the device that trains {there:g} s'}."
    )
    epochs = epoch_rows(step, there)
    each = {name: further for name, (_, _, further) in before.items()}
    print_forecast(each, megabytes_each, network_seconds(), epochs)
    return 0 if steady else 1


def compare(before: tuple[int, float, float] | None, count: int, seconds: float) -> tuple[float, float]:
    """Return what a volume more than ``before`` costs, and that beside what one cost there.

    Without anything before, a volume's share in all. So what a stage costs once does not hide how it grows.
    """
    if before is None:
        return seconds / count, 1.0
    further = (seconds - before[1]) / (count - before[0])
    return further, further / before[2]


def machine() -> str:
    """Return the machine, and what it did beside this, in words."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(": ")[2]
                break
        else:
            name = platform.processor()
    load = os.getloadavg()[0]
    return f"{name}, {os.cpu_count()} cores, one thread used; load when it began {load:.1f}; torch {torch.__version__}"


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
    """Run every stage on ``count`` phantoms; return what each cost, and the CPU seconds of its parts."""
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
    """Train for some steps: what comes around them, what a step costs, and an epoch of such steps."""
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
    """Run one stage; keep its CPU seconds, its megabytes and its parts."""
    read = sum(megabytes(path) for path in inputs)
    started = time.process_time()
    with timed(shares[name], name):
        result = action()
    seconds = time.process_time() - started
    shares[name]["in all"] = seconds
    costs[name] = (seconds, read, megabytes(out) if out is not None else 0.0)
    return result


@contextlib.contextmanager
def timed(spent: collections.Counter[str], name: str) -> Iterator[None]:
    """Count the CPU seconds of a stage's parts while it runs, those of their threads too."""
    # A training reads ahead in a thread while it steps: there each part has its own thread's time.
    clock = time.thread_time if name == "train" else time.process_time
    with contextlib.ExitStack() as stack:
        for part, (owner, function) in _PARTS.get(name, {}).items():
            add = functools.partial(lambda part, seconds: spent.update({part: seconds}), part)
            stack.enter_context(mock.patch.object(owner, function, counted(getattr(owner, function), add, clock)))
        yield


def counted(
    function: Callable[..., T], add: Callable[[float], None], clock: Callable[[], float] = time.thread_time
) -> Callable[..., T]:
    """Return ``function`` with the seconds that each call takes by ``clock`` given to ``add``."""

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
    """Print where the CPU time of each stage went."""
    print(f"Where the time goes, with {count} phantoms:\n\n| stage | |\n| --- | --- |")
    for name, spent in shares.items():
        whole = spent.pop("in all")
        if name in _PARTS:
            rest = whole - sum(spent.values())
            parts = [*((part, spent[part]) for part in _PARTS[name]), ("other", rest)]
            print(f"| {name} | {', '.join(f'{part} {seconds / whole:.0%}' for part, seconds in parts)} |")


def header_seconds(folder: Path) -> float:
    """Return the CPU seconds that finding volumes takes for each DICOM file, of series of 60."""
    for n in range(3):
        head = make_head(n, shape=(48, 60, 60), spacing_mm=(4.0, 4.0, 3.0))
        write_made_series(ct_volume(head), folder / str(n), number=n, description="made")
    started = time.process_time()
    files = sum(len(found.files) for found in select_volumes(folder))
    return (time.process_time() - started) / files


def network_seconds() -> float:
    """Return the CPU seconds in which the generator of ``default`` translates a slice, all around it included."""
    generator = load_config("default").networks.generator
    scaling = IntensityScaling("percentile", 0.0, 1000.0, "arbitrary units")
    domains = (DomainModel("t1", "MR", scaling), DomainModel("t2", "MR", scaling))
    weights = build_generator(generator, 256).state_dict()
    model = ModelBundle(domains, Preparation(256, "physical", 1.0), generator, {"G_AB": weights, "G_BA": weights})
    volume = t1_volume(make_head(0, shape=(96, 120, 8), spacing_mm=(2.0, 2.0, 8.0)))
    seconds = []
    for _ in range(2):
        started = time.process_time()
        translate_volume(volume, model, "t2", device="cpu")
        seconds.append(time.process_time() - started)
    return seconds[-1] / volume.shape[2]


def step_seconds() -> float:
    """Return the CPU seconds of a training step of ``default``: two of 256 x 256 pixels, the first one not counted."""
    config = load_config("default")
    device = torch.device("cpu")
    networks = build_cyclegan(config.networks, config.slicing.size, config.seed)
    step = build_step(config, networks, device, choose_precision("auto", device))
    images = torch.rand(2, 1, 1, config.slicing.size, config.slicing.size) * 2 - 1
    seconds = 0.0
    for number in (1, 2):
        started = time.process_time()
        step(SimpleNamespace(state=SimpleNamespace(iteration=number)), (images[0], images[1]))  # type: ignore[arg-type]
        seconds = time.process_time() - started
    return seconds


def epoch_rows(here: float, there: float | None) -> list[str]:
    """Return the rows of the forecast for training in epochs: ``there`` seconds a step, or the ``here`` CPU seconds."""
    config = load_config("default")
    steps = round(_VOLUMES / 2 * _TRAINED) * _SLICES // config.training.batch_size
    terabytes = 2 * steps * config.training.batch_size * config.slicing.size**2 * 2 / 1e12
    rows = []
    for epochs in (1, config.training.epochs):
        name = "train: an epoch" if epochs == 1 else f"train: the {epochs} epochs of `default`"
        seconds, hours = epochs * steps * here / _VOLUMES, epochs * steps * (there or here) / 3600
        device = "1" if there is None else "1 GPU"
        rows.append(f"| {name} | {seconds:.0f} | {device} | {hours:.2f} | {epochs * terabytes:.2f} | 0.00 |")
    return rows


def print_forecast(
    further: dict[str, float], megabytes_each: dict[str, tuple[float, float]], network: float, epochs: Sequence[str]
) -> None:
    """Print what many whole volumes would cost: by slices, but for what is done once a volume or once a store."""
    scale = _SLICES / _PHANTOM[2]
    print(f"\nA slice through the generator of `default`: {network:.2f} CPU s.\n")
    print(f"{_VOLUMES} volumes of {_SLICES} slices, by a further one above, on {_CORES} cores:\n")
    print(
        "| stage | CPU s a volume | cores | hours | TB read | TB written |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for name in ("find", "slice", "train: around", "translate", "evaluate"):
        once = name in ("find", "train: around")
        seconds = further[name] * (1.0 if once else scale) + (network * _SLICES if name == "translate" else 0.0)
        cores = 1 if once else _CORES
        hours = seconds * _VOLUMES / cores / 3600
        read, written = (0.0 if once else size * scale * _VOLUMES / 1e6 for size in megabytes_each[name])
        print(f"| {name} | {seconds:.4f} | {cores} | {hours:.2f} | {read:.2f} | {written:.2f} |")
        for row in epochs if name == "train: around" else ():
            print(row)


if __name__ == "__main__":
    sys.exit(main())
