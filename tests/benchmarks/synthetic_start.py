"""Compare trainings on real slices, on synthetic pairs, and on synthetic pairs first: T1 to T2 and back.

python tests/benchmarks/synthetic_start.py DATA LABELS OUT [--split brain|skull] [--steps N] [--seeds N]

DATA contains the scans of docs/results.md, LABELS label maps. All arms have the networks of examples/real_heads.yaml,
pixels of 2 mm, and as many steps: on the unpaired slices of two real subjects; on pairs of synthetic patients; one half
of each; and, as a ceiling, on the same two subjects paired (without follow-up scans). Supervised steps take two pairs,
unpaired ones a slice of each domain. A third subject is scored. Printed: mean and standard deviation over the seeds,
and the number of seeds that ended in the wrong contrast, a negative correlation with the truth. Runs of the same length
that are already in OUT are not repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import sys
from pathlib import Path

import SimpleITK
import torch

from medcyclegan import ModelBundle, evaluate_volumes, read_volume, slice_volumes, train, translate_volume
from medcyclegan.config import Config, load_config
from medcyclegan.storage import atomic_write
from medcyclegan.training.pretraining.pretrain import PretrainingData, pretrain

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
from real_heads_scores import regions  # noqa: E402
from real_heads_stages import SPLITS  # noqa: E402

#: Each arm: the share of the steps on synthetic pairs and on real slices, and settings of the latter.
ARMS = {
    "real": (0.0, 1.0, ()),
    "synthetic": (1.0, 0.0, ()),
    "synthetic, then real": (0.5, 0.5, ("training.learning_rate=0.0001",)),
    "paired": None,
}
COMMON = ("slicing.pixel_mm=2", "slicing.size=96", "training.learning_rate=0.0005", "training.ema_decay=0.998")
SUPERVISED = (
    "training.batch_size=2",
    "pretraining.ssim_weight=1",
    "pretraining.workers=0",
    "pretraining.reference_patients=2",
    "pretraining.validation_patients=0",
)
SCORES = (("psnr", "PSNR (dB)"), ("ssim_2023", "SSIM"), ("mae", "MAE"), ("ncc", "correlation"))


def settings(split: str, seed: int, steps: int, *more: str) -> Config:
    extracted = f"pretraining.extracted_fraction={int(split == 'brain')}"
    own = (f"seed={seed}", f"training.max_steps={steps}", f"validation.every_steps={steps}", extracted)
    return load_config(EXAMPLES / "real_heads.yaml", [*COMMON, *more, *own])


def prepare(data: Path, split: str, out: Path) -> None:
    """Slice the real subjects, unpaired and paired, and write the pair of the subject to be scored; once."""
    if (out / "prepared").is_file():
        return
    people, unseen = SPLITS[split]
    for person in people:
        for kind in ("unpaired", "paired"):
            for scan in sorted(data.glob(f"{person}/t[12]*.nii.gz")):
                name = scan.name.split(".")[0]
                if kind == "paired" and name not in ("t1", "t2"):
                    continue
                target = out / kind / name[:2] / f"sub-{person.replace('_', '')}" / f"{name}.nii.gz"
                target.parent.mkdir(parents=True, exist_ok=True)
                if kind == "paired":
                    write_on_grid_of_t1(scan, target)
                else:
                    shutil.copyfile(scan, target)
    for name in ("t1", "t2"):
        write_on_grid_of_t1(data / unseen / f"{name}.nii.gz", out / f"unseen_{name}.nii.gz")
    for kind in ("unpaired", "paired"):
        slice_volumes(out / kind, out / f"slices-{kind}", config=settings(split, 0, 1))
    (out / "prepared").touch()


def write_on_grid_of_t1(scan: Path, target: Path) -> None:
    image, t1 = (SimpleITK.ReadImage(path, SimpleITK.sitkFloat32) for path in (scan, scan.with_name("t1.nii.gz")))
    SimpleITK.WriteImage(SimpleITK.Resample(image, t1), target)


def train_arm(arm: str, split: str, labels: tuple[Path, ...], out: Path, seed: int, steps: int) -> Path:
    """Train one arm with one seed and return the model's folder."""
    runs = out / f"{arm.replace(',', '').replace(' ', '-')}-{seed}"
    shares = ARMS[arm]
    if shares is None:
        data = PretrainingData(slices=out / "slices-paired", domains=("t1", "t2"))
        return last_model(pretrain(data, config=settings(split, seed, steps, *SUPERVISED), out=runs, device="cpu"))
    synthetic, real, more = shares
    model = None
    if synthetic:
        config = settings(split, seed, int(synthetic * steps), *SUPERVISED)
        data = PretrainingData(labels=labels, domains=("t1", "t2"))
        model = last_model(pretrain(data, config=config, out=runs / "synthetic", device="cpu"))
    if real:
        config = settings(split, seed, int(real * steps), *more)
        run = train(out / "slices-unpaired", config=config, out=runs / "real", init_from=model, device="cpu")
        model = last_model(run)
    return model


def last_model(run: Path) -> Path:
    return run / "model-last" if (run / "model-last").is_dir() else run / "model"


def score(job: tuple[str, str, tuple[Path, ...], Path, int, int]) -> None:
    """Train one arm with one seed, and write its scores on the unseen subject."""
    arm, split, labels, out, seed, steps = job
    result = result_file(out, arm, seed)
    if result.is_file() and json.loads(result.read_text())["steps"] == steps:
        return
    torch.set_num_threads(1)
    bundle = ModelBundle.load(train_arm(arm, split, labels, out, seed, steps))
    real = {name: read_volume(out / f"unseen_{name}.nii.gz") for name in ("t1", "t2")}
    found = {}
    for name, other in (("t2", "t1"), ("t1", "t2")):
        fake = translate_volume(real[other], bundle, to=name)
        for region, mask in regions(real).items():
            one = evaluate_volumes(fake, real[name], mask=mask, baseline=real[other])
            found[f"{name}, {region}"] = [
                {key: getattr(image, key) for key, _ in SCORES} for image in (one, one.baselines["input"])
            ]
    with atomic_write(result) as file:
        file.write(json.dumps({"scores": found, "steps": steps}).encode())


def result_file(out: Path, arm: str, seed: int) -> Path:
    return out / f"{arm.replace(',', '').replace(' ', '-')}-{seed}.json"


def print_table(out: Path, seeds: int) -> None:
    rows = {
        arm: [json.loads(result_file(out, arm, seed).read_text())["scores"] for seed in range(seeds)] for arm in ARMS
    }
    for place in rows["real"][0]:
        print(f"\n{place}: mean (standard deviation over {seeds} seeds)")
        print("| arm | " + " | ".join(title for _, title in SCORES) + " | wrong contrast |")
        print("| --- |" + " ---: |" * (len(SCORES) + 1))
        given = rows["real"][0][place][1]
        print("| the input taken as the output | " + " | ".join(f"{given[key]:.3f}" for key, _ in SCORES) + " | |")
        for arm, found in rows.items():
            ours = [scores[place][0] for scores in found]
            cells = []
            for key, _ in SCORES:
                values = [one[key] for one in ours]
                cells.append(f"{statistics.fmean(values):.3f} ({statistics.stdev(values):.3f})")
            wrong = sum(one["ncc"] < 0 for one in ours)
            print(f"| {arm} | " + " | ".join(cells) + f" | {wrong} of {seeds} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=("brain", "skull"), default="brain")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, choices=range(2, 100), default=3, metavar="N", help="2 or more")
    parser.add_argument("--processes", type=int, default=2, help="runs at once, of one thread each")
    arguments = parser.parse_args()
    out = arguments.out / arguments.split
    prepare(arguments.data, arguments.split, out)
    labels = tuple(sorted(arguments.labels.glob("*.nii.gz")))
    jobs = [
        (arm, arguments.split, labels, out, seed, arguments.steps) for seed in range(arguments.seeds) for arm in ARMS
    ]
    # Fresh processes: torch must not be forked once it has threads.
    with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=1) as pool:
        for _ in pool.imap_unordered(score, jobs, chunksize=1):
            pass
    print_table(out, arguments.seeds)


if __name__ == "__main__":
    main()
