"""Measure the effect of each choice in the demo's training: ``python tests/benchmarks/ablation.py OUT``.

The demo's synthetic heads and configuration, with one choice changed at a time and three seeds each; a run takes some
four minutes of one core. Printed: mean and standard deviation over the seeds of PSNR, SSIM and MAE inside unseen heads,
and the difference from the baseline in standard deviations of that difference. Runs that are already in OUT are not
repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from pathlib import Path

import torch

from medcyclegan.config import load_config
from medcyclegan.demo import run_demo
from medcyclegan.evaluation import evaluate_volumes
from medcyclegan.inference import translate_volume
from medcyclegan.io import read_volume
from medcyclegan.model import ModelBundle
from medcyclegan.storage import atomic_write
from medcyclegan.training import train

#: The name of a variant, and its changes to the configuration ``demo``.
VARIANTS = {
    "the demo": [],
    "pairing=uniform": ["training.pairing=uniform"],
    "identity_weight=2.5": ["losses.identity_weight=2.5"],
    "no running mean (EMA)": ["training.ema_decay=null"],
    "structure=none": ["losses.structure=none"],
    "upsampling=transposed": ["networks.generator.upsampling=transposed"],
}
SCORES = (("psnr", "PSNR (dB)"), ("ssim_2023", "SSIM"), ("mae", "MAE"))
TESTED = 4


def make_heads(folder: Path) -> None:
    """Make the demo's volumes, slices and unseen heads, once; its own training is a short one, not used here."""
    if not (folder / "demo.json").is_file():
        run_demo(folder, config=load_config("demo", ["training.max_steps=10"]), heads=(12, TESTED))


def score(job: tuple[Path, str, int, int]) -> None:
    """Train one variant with one seed and write its scores, means over the unseen heads."""
    folder, variant, seed, steps = job
    result = result_file(folder, variant, seed)
    if result.is_file():
        return
    torch.set_num_threads(1)
    config = load_config("demo", [f"seed={seed}", f"training.max_steps={steps}", *VARIANTS[variant]])
    run = train(folder / "heads" / "slices", config=config, out=result.with_suffix(""), device="cpu")
    bundle = ModelBundle.load(run / "model")
    found = []
    for number in range(1, TESTED + 1):
        given, truth = (
            read_volume(folder / "heads" / "unseen" / f"head-{number}_{name}.nii.gz") for name in ("T1w", "T2w")
        )
        found.append(evaluate_volumes(translate_volume(given, bundle, to="t2"), truth, baseline=given))
    means = {key: statistics.fmean(getattr(one, key) for one in found) for key, _ in SCORES}
    nothing = {key: statistics.fmean(getattr(one.baseline, key) for one in found) for key, _ in SCORES}
    with atomic_write(result) as file:
        file.write(json.dumps({"scores": means, "input": nothing, "steps": steps}).encode())


def result_file(folder: Path, variant: str, seed: int) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in variant)
    return folder / "runs" / f"{name}-{seed}.json"


def print_table(folder: Path, seeds: int, steps: int) -> None:
    rows = {
        variant: [json.loads(result_file(folder, variant, seed).read_text()) for seed in range(seeds)]
        for variant in VARIANTS
    }
    nothing = rows["the demo"][0]["input"]
    print(f"{TESTED} unseen synthetic heads, {steps} steps, {seeds} seeds: mean (standard deviation over the seeds)")
    print(
        "| variant | " + " | ".join(title for _, title in SCORES) + " | PSNR to the demo's | in standard deviations |"
    )
    print("| --- |" + " ---: |" * (len(SCORES) + 2))
    print("| the T1 taken as T2 | " + " | ".join(f"{nothing[key]:.3f}" for key, _ in SCORES) + " | | |")
    base = [row["scores"]["psnr"] for row in rows["the demo"]]
    for variant, found in rows.items():
        cells = []
        for key, _ in SCORES:
            values = [row["scores"][key] for row in found]
            cells.append(f"{statistics.fmean(values):.3f} ({statistics.stdev(values):.3f})")
        values = [row["scores"]["psnr"] for row in found]
        gain = statistics.fmean(values) - statistics.fmean(base)
        spread = (statistics.variance(values) + statistics.variance(base)) ** 0.5
        compared = "| | |" if variant == "the demo" else f"| {gain:+.2f} dB | {gain / spread:+.1f} |"
        print(f"| {variant} | " + " | ".join(cells) + f" {compared}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3, help="2 or more")
    parser.add_argument("--processes", type=int, default=2, help="runs at once, of one thread each")
    arguments = parser.parse_args()
    make_heads(arguments.out / "heads")
    jobs = [(arguments.out, variant, seed, arguments.steps) for seed in range(arguments.seeds) for variant in VARIANTS]
    # Fresh processes: torch must not be forked once it has threads.
    with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=1) as pool:
        for _ in pool.imap_unordered(score, jobs, chunksize=1):
            pass
    print_table(arguments.out, arguments.seeds, arguments.steps)


if __name__ == "__main__":
    main()
