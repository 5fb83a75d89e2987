"""Print slices per second, memory and waiting time by batch size: ``python tests/benchmarks/training_batches.py``.

Each batch size trains the default networks (ResNet-9, 64 filters, PatchGAN, 256 x 256) in a separate process, through
the package's ``train`` on a store of synthetic slices, and prints from metrics.jsonl, for the steps after the first:
slices of A and B per second, the fraction of the time spent waiting for a batch (DESIGN section 6: never waiting on
data); the process's peak memory; and, of that, the memory of the training, and its estimate before the first step
(``medcyclegan.training.update.step_memory``).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))


def train_once(batch_size: int, size: int, steps: int, device: str) -> None:
    """Train some steps and print a line; called in a separate process."""
    import psutil
    from support.stores import blobs, make_store

    from medcyclegan.config import parse_config
    from medcyclegan.training import train
    from medcyclegan.training.plan import build_plan
    from medcyclegan.training.update.precision import choose_precision
    from medcyclegan.training.update.step_memory import training_bytes

    # On a CUDA device a row is many steps, since reading the losses waits for it.
    log_every = 1 if device == "cpu" else max(1, steps // 4)
    training = {"batch_size": batch_size, "log_every": log_every, "max_steps": steps, "compile": "off"}
    config = parse_config({"training": training | {"panel_every": 1000}}, "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "slices"
        make_store(store, {"a": [blobs(40, size, 0)], "b": [blobs(40, size, 1, inverted=True)]})
        plan, where = build_plan(store, config), torch.device(device)
        precision = choose_precision(config.training.precision, where)
        estimate = training_bytes(plan, batch_size, precision, where) / 2**30
        before = psutil.Process().memory_info().rss / 2**30 if device == "cpu" else 0.0
        run = train(store, config=config, out=Path(folder) / "runs", device=device)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    rows = [row for row in rows if "images_per_second" in row][1:]
    rate = sorted(row["images_per_second"] for row in rows)[len(rows) // 2]
    seconds = sum(row["seconds_per_step"] for row in rows)
    waited = sum(row["data_wait"] * row["seconds_per_step"] for row in rows) / seconds
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device != "cpu":
        memory = torch.cuda.max_memory_allocated() / 2**30
    print(
        f"  batch {batch_size}: {rate:6.3f} slices/s, data wait {waited:.2%}, peak memory {memory:.2f} GiB, the "
        f"training's {memory - before:.2f} GiB, estimated {estimate:.2f} GiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the slices")
    parser.add_argument("--steps", type=int, help="steps of each batch size, the first not counted (4, on CUDA 400)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a CUDA device if there is one")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8], help="batch sizes")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    steps = arguments.steps or (4 if arguments.device == "cpu" else 400)
    if arguments.only:
        train_once(arguments.only, arguments.size, steps, arguments.device)
        return
    print(f"training on {arguments.device} by batch size, {arguments.size} x {arguments.size}", flush=True)
    for batch_size in arguments.batches:
        options = ["--only", str(batch_size), "--size", str(arguments.size), "--steps", str(steps)]
        options += ["--device", arguments.device]
        subprocess.run([sys.executable, __file__, *options], check=True)


if __name__ == "__main__":
    main()
