"""What a volume costs, and whether n of them cost n times that: CPU seconds and bytes of each stage.

    python tests/benchmarks/scaling.py [N ...]        (default: 10 100)

Made heads of 96 x 120 x 40 voxels, T1, one process, one thread. CPU seconds, so that a busy machine does not count.
Slicing is at 256 pixels; translation by a small ResNet, for the network's own cost is another table's
(tests/benchmarks/translation.py).
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from models import tiny_model  # noqa: E402

from medcyclegan.cohort import select_volumes, translate_cohort  # noqa: E402
from medcyclegan.inference import DomainModel, TranslationOptions  # noqa: E402
from medcyclegan.intensity import IntensityScaling  # noqa: E402
from medcyclegan.io import write_volume  # noqa: E402
from medcyclegan.phantom import make_head, t1_volume  # noqa: E402
from medcyclegan.slicing import slice_volumes  # noqa: E402

#: Heads that are made; more volumes are copies of them under other names.
_HEADS = 5


def main() -> None:
    torch.set_num_threads(1)
    logging.getLogger("medcyclegan").setLevel(logging.CRITICAL)
    counts = [int(word) for word in sys.argv[1:]] or [10, 100]
    print(f"{'volumes':>8}{'stage':>12}{'CPU s':>10}{'a volume':>10}{'MB read':>10}{'MB written':>12}{'linear':>9}")
    with tempfile.TemporaryDirectory() as folder:
        heads = [Path(folder) / f"head-{n}.nii.gz" for n in range(_HEADS)]
        for n, path in enumerate(heads):
            write_volume(t1_volume(make_head(n)), path)
        first: dict[str, float] = {}
        # The first volumes pay for what is loaded late.
        measure(Path(folder) / "warm", heads, 2)
        for count in counts:
            for stage, seconds, read, written in measure(Path(folder) / str(count), heads, count):
                cost = seconds / count
                linear = cost / first.setdefault(stage, cost)
                print(f"{count:>8}{stage:>12}{seconds:>10.2f}{cost:>10.3f}{read:>10.1f}{written:>12.1f}{linear:>9.2f}")


def measure(folder: Path, heads: list[Path], count: int) -> list[tuple[str, float, float, float]]:
    """Return each stage's name, CPU seconds, and megabytes read and written."""
    source = folder / "bids"
    for n in range(count):
        path = source / f"sub-{n:05d}" / "anat" / f"sub-{n:05d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        shutil.copyfile(heads[n % len(heads)], path)
    read, results = megabytes(source), []
    scaling = IntensityScaling("percentile", 0.0, 900.0, "arbitrary units")
    model = tiny_model(DomainModel("t1", "MR", scaling), DomainModel("t2", "MR", scaling), size=256)
    started = time.process_time()
    volumes = select_volumes(source)
    results.append(("find", time.process_time() - started, 0.0, 0.0))
    started = time.process_time()
    slice_volumes({"t1": volumes}, folder / "slices")
    results.append(("slice", time.process_time() - started, read, megabytes(folder / "slices")))
    started = time.process_time()
    translate_cohort(source, volumes, folder / "out", model, TranslationOptions(to="t2"))
    results.append(("translate", time.process_time() - started, read, megabytes(folder / "out")))
    shutil.rmtree(folder)
    return results


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
