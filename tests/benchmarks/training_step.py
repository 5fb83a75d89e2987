"""Time the training step against the plain reference: ``python tests/benchmarks/training_step.py``.

ResNet-9 with 64 filters, PatchGAN, batch 1, 256 x 256, identity loss on (DESIGN section 6). All variants
run in turn in one process, so that a busy machine slows them alike; medians after a warm-up round. On a
machine that others use, ``--clock cpu --threads 1`` counts the process's own seconds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from reference_step import ReferenceStep

from medcyclegan.config import Config
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.precision import choose_precision
from medcyclegan.training.step import build_step

Images = tuple[torch.Tensor, torch.Tensor]


def package_step(size: int, precision: str) -> Callable[[int, Images], object]:
    """Return the package's step with its default networks, as called in round ``i``."""
    config = Config()
    step = build_step(config, build_cyclegan(config.networks, size, 0), torch.device("cpu"), precision)
    return lambda i, images: step(SimpleNamespace(state=SimpleNamespace(iteration=i + 1)), images)


def measure(
    steps: dict[str, Callable[[int, Images], object]], images: Images, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the seconds of each step in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):
        for name, step in steps.items():
            started = clock()
            step(i, images)
            if i:
                seconds[name].append(clock() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one to warm up")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the slices")
    parser.add_argument("--threads", type=int, help="threads (default: torch's)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds are counted")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    random = torch.Generator().manual_seed(0)
    real_A, real_B = (torch.rand(1, 1, arguments.size, arguments.size, generator=random) * 2 - 1 for _ in range(2))
    reference = ReferenceStep(blocks=9 if arguments.size > 128 else 6)
    steps: dict[str, Callable[[int, Images], object]] = {
        "reference": lambda i, images: reference(*images),
        "fp32": package_step(arguments.size, "fp32"),
    }
    if choose_precision("auto", torch.device("cpu")) == "bf16":
        steps["bf16"] = package_step(arguments.size, "bf16")
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    seconds = measure(steps, (real_A, real_B), arguments.rounds, clock)
    baseline = statistics.median(seconds["reference"])
    size = arguments.size
    print(f"training step, CPU, {torch.get_num_threads()} threads, {size} x {size}, batch 1, {arguments.clock} time")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"  {name:10s} {median:7.2f} s   {baseline / median:5.2f} x   ({min(times):.2f} to {max(times):.2f} s)")
    print(f"  peak memory of all together: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
