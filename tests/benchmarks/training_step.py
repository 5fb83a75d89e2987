"""Time the training step against the plain reference: ``python tests/benchmarks/training_step.py``.

ResNet-9 with 64 filters, PatchGAN, batch 1, 256 x 256, identity loss on (DESIGN section 6). All variants
run in turn in one process, so that a busy machine slows them alike; medians after a warm-up round, in which
networks are compiled. On a machine that others use, ``--clock cpu --threads 1`` counts the process's own seconds.
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

from medcyclegan.config import Config, parse_config
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.compilation import compile_step
from medcyclegan.training.precision import choose_precision
from medcyclegan.training.step import build_step

Images = tuple[torch.Tensor, torch.Tensor]


def package_step(size: int, precision: str, compiled: str) -> Callable[[int, Images], object]:
    """Return the package's step with its default networks, as called in round ``i``."""
    config = parse_config({"training": {"compile": compiled}}, "benchmark")
    step = build_step(config, build_cyclegan(config.networks, size, 0), torch.device("cpu"), precision)
    compile_step(step, SimpleNamespace(config=config, size=size, steps=1))
    return lambda i, images: step(SimpleNamespace(state=SimpleNamespace(iteration=i + 1)), images)


def measure(
    steps: dict[str, Callable[[int, Images], object]], images: Images, rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of each step in every round, and in the warm-up round (by the wall clock)."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    first: dict[str, float] = {}
    for i in range(rounds + 1):
        for name, step in steps.items():
            wall, started = time.perf_counter(), clock()
            step(i, images)
            if i:
                seconds[name].append(clock() - started)
            else:
                first[name] = time.perf_counter() - wall
    return seconds, first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one to warm up")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the slices")
    parser.add_argument("--threads", type=int, help="threads (default: torch's)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds are counted")
    parser.add_argument("--eager", action="store_true", help="leave the compiled steps out")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    size = arguments.size
    random = torch.Generator().manual_seed(0)
    real_A, real_B = (torch.rand(1, 1, size, size, generator=random) * 2 - 1 for _ in range(2))
    reference = ReferenceStep(blocks=Config().networks.generator.blocks or (9 if size > 128 else 6))
    steps: dict[str, Callable[[int, Images], object]] = {"reference": lambda i, images: reference(*images)}
    for precision in ("fp32", "bf16") if choose_precision("auto", torch.device("cpu")) == "bf16" else ("fp32",):
        steps[precision] = package_step(size, precision, "off")
        if not arguments.eager:
            steps[f"{precision} compiled"] = package_step(size, precision, "on")
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    seconds, first = measure(steps, (real_A, real_B), arguments.rounds, clock)
    baseline = statistics.median(seconds["reference"])
    print(f"training step, CPU, {torch.get_num_threads()} threads, {size} x {size}, batch 1, {arguments.clock} time")
    for name, times in seconds.items():
        median = statistics.median(times)
        span = f"({min(times):.2f} to {max(times):.2f} s; first step {first[name]:.0f} s by the wall clock)"
        print(f"  {name:14s} {median:7.2f} s   {baseline / median:5.2f} x   {span}")
    print(f"  peak memory of all together: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
