"""Time the training step against the plain reference: ``python tests/benchmarks/training_step.py``.

ResNet-9 with 64 filters, PatchGAN, batch 1, 256 x 256, identity loss on (DESIGN section 6), on the CPU, and on a CUDA
device if there is one. All variants run in turn in one process, so that a busy machine slows them alike; medians after
a warm-up round, in which networks are compiled and CUDA graphs captured. On a machine that others use, ``--clock cpu
--threads 1`` counts the process's own seconds.
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
from medcyclegan.training.update.compilation import compile_networks
from medcyclegan.training.update.precision import choose_precision
from medcyclegan.training.update.step import build_step

Images = tuple[torch.Tensor, torch.Tensor]

#: Steps per round on a CUDA device: a single one is too short to be timed.
_CUDA_STEPS = 20


def package_step(
    size: int, precision: str, device: torch.device, *, compiled: bool = False, recorded: bool = False
) -> Callable[[int, Images], object]:
    """Return the package's step with its default networks, as called in round ``i``."""
    wishes = {"compile": "on" if compiled else "off", "cuda_graphs": "on" if recorded else "off"}
    config = parse_config({"training": wishes}, "benchmark")
    networks = build_cyclegan(config.networks, size, 0).to(device)
    is_compiled = compile_networks(networks, SimpleNamespace(config=config, size=size, steps=1), device)
    step = build_step(config, networks, device, precision, compiled=is_compiled)
    return lambda i, images: step(SimpleNamespace(state=SimpleNamespace(iteration=i + 1)), images)


def build_steps(size: int, device: torch.device, *, eager: bool) -> dict[str, Callable[[int, Images], object]]:
    """Return the reference's step and those of the package in each precision, plain, as CUDA graphs and compiled."""
    reference = ReferenceStep(blocks=Config().networks.generator.blocks or (9 if size > 128 else 6), device=device)
    steps: dict[str, Callable[[int, Images], object]] = {"reference": lambda i, images: reference(*images)}
    for precision in dict.fromkeys(("fp32", choose_precision("auto", device))):
        steps[precision] = package_step(size, precision, device)
        if device.type == "cuda" and precision != "fp16":
            steps[f"{precision} recorded"] = package_step(size, precision, device, recorded=True)
        if not eager:
            steps[f"{precision} compiled"] = package_step(size, precision, device, compiled=True)
            if device.type == "cuda" and precision != "fp16":
                name = f"{precision} compiled, recorded"
                steps[name] = package_step(size, precision, device, compiled=True, recorded=True)
    return steps


def measure(
    steps: dict[str, Callable[[int, Images], object]], images: Images, rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of a step of each kind in every round, and of its warm-up round (by the wall clock).

    A round is one step on a CPU and many on a CUDA device, whose end is waited for.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    first: dict[str, float] = {}
    on_cuda = images[0].is_cuda
    count = _CUDA_STEPS if on_cuda else 1
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            wall, started = time.perf_counter(), clock()
            for i in range(count):
                step(round_ * count + i, images)
            if on_cuda:
                torch.cuda.synchronize()
            if round_:
                seconds[name].append((clock() - started) / count)
            else:
                first[name] = time.perf_counter() - wall
    return seconds, first


def print_table(device: torch.device, arguments: argparse.Namespace) -> None:
    size = arguments.size
    random = torch.Generator().manual_seed(0)
    real_A, real_B = (torch.rand(arguments.batch, 1, size, size, generator=random) * 2 - 1 for _ in range(2))
    steps = build_steps(size, device, eager=arguments.eager)
    clock = time.perf_counter if arguments.clock == "wall" or device.type == "cuda" else time.process_time
    seconds, first = measure(steps, (real_A.to(device), real_B.to(device)), arguments.rounds, clock)
    baseline = statistics.median(seconds["reference"])
    on_cuda = device.type == "cuda"
    where = torch.cuda.get_device_name(device) if on_cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"training step, {where}, {size} x {size}, batch {arguments.batch}, {arguments.clock} time")
    for name, times in seconds.items():
        median = statistics.median(times)
        span = f"({min(times):.3f} to {max(times):.3f} s; first round {first[name]:.0f} s by the wall clock)"
        print(f"  {name:23s} {median:7.4f} s   {baseline / median:5.2f} x   {span}")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_cuda else own
    print(f"  peak memory of all together: {memory:.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one to warm up")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the slices")
    parser.add_argument("--batch", type=int, default=1, help="slices of each domain a step")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="on this one alone")
    parser.add_argument("--threads", type=int, help="threads (default: torch's)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds are counted")
    parser.add_argument("--eager", action="store_true", help="leave the compiled steps out")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for name in [arguments.device] if arguments.device else devices:
        print_table(torch.device(name), arguments)


if __name__ == "__main__":
    main()
