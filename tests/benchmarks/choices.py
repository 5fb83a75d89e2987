"""What each choice of the configuration is worth on few patients, with pixels of 2 mm (T1 to T2 and back).

python tests/benchmarks/choices.py prepare DATA LABELS OUT
python tests/benchmarks/choices.py run OUT --start-from MODEL [--device cuda] [--processes 5] [--only PREFIX]...
python tests/benchmarks/choices.py table OUT

``prepare`` writes three sets to OUT/data: "brain" and "skull", two real subjects each and a third one to be scored
(see examples/real_heads_stages.py), and "synthetic", 20 patients of each domain and four to be scored, of other label
maps, with one protocol for each contrast. DATA holds the scans of docs/results.md, LABELS label maps.

``run`` trains and scores the jobs that have no file in OUT/results: the number of steps, the choices from a shipped
model, ten seeds, the choices from nothing, pairs, the plain public CycleGAN (the configuration ``default``); all of
them with one seed, then with the next. MODEL is a model with pixels of 2 mm and the generators of ``cpu``. ``--only``
selects jobs by the first letters of SET-START-CHOICE-STEPS-SEED. A job that fails leaves its error in its file, and the
others continue; remove such files to repeat them. No job starts after the time ``--until`` (a Unix time, in seconds).

``table`` prints what is there as Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

#: Settings of each choice, alone and together; "_" joins those that are tried together. The base is the configuration
#: ``cpu`` without its mask term.
CHOICES: dict[str, tuple[str, ...]] = {
    "base": (),
    "augmentation": ("networks.discriminator.augmentation=0.5",),
    "mask": ("losses.mask_weight=5",),
    "identity": ("losses.identity_weight=5",),
    "uniform": ("training.pairing=uniform",),
    "gradient": ("losses.structure=gradient",),
    "information": ("losses.structure=mutual_information",),
    "lsgan": ("losses.adversarial=lsgan",),
    "slow": ("training.learning_rate=0.00003",),
    "fast": ("training.learning_rate=0.0003",),
}
CHOICES["mask_gradient"] = CHOICES["mask"] + CHOICES["gradient"]
CHOICES["mask_augmentation"] = CHOICES["mask"] + CHOICES["augmentation"]
#: Choices that are also tried from nothing.
FROM_NOTHING = ("base", "augmentation", "mask", "mask_augmentation")
#: Steps from the shipped model and from nothing, the steps that are compared, and seeds.
SHORT, LONG, STEPS, SEEDS = 400, 1000, (100, 200, 400, 1000, 2000), range(3)
SCRATCH = ("training.learning_rate=0.0005",)
PAIRED = ("losses.paired_weight=10",)
#: Supervised steps take two pairs, as in synthetic_start.py, since unpaired ones take a slice of each domain.
SUPERVISED = ("training.batch_size=2", "pretraining.ssim_weight=1")


@dataclasses.dataclass(frozen=True)
class Job:
    """A training: its set, what it starts from, its choice, steps and seed, settings, store and method."""

    data: str
    start: str
    choice: str
    steps: int
    seed: int
    settings: tuple[str, ...] = ()
    store: str = ""
    config: str = "cpu"
    supervised: bool = False

    @property
    def name(self) -> str:
        return f"{self.data}-{self.start}-{self.choice}-{self.steps}-{self.seed}"

    @property
    def slices(self) -> str:
        """The store in the set's folder; by default the one without pairs."""
        return self.store or ("pairs0" if self.data == "synthetic" else "unpaired")


def all_jobs(scale: float = 1.0) -> list[Job]:
    """Return the jobs in order of priority, each once; ``scale`` changes their steps."""
    jobs = [Job(data, "shipped", "start", 0, 0) for data in ("brain", "skull", "synthetic")]
    real = ("brain", "skull")
    jobs += [Job(data, "shipped", "base", steps, seed) for seed in SEEDS for data in real for steps in STEPS]
    jobs += [
        Job(data, "shipped", choice, SHORT, seed, more)
        for seed in SEEDS for data in real for choice, more in CHOICES.items()
    ]  # fmt: skip
    # The configuration ``cpu`` itself, with ten seeds.
    jobs += [Job(data, "shipped", "mask", SHORT, seed, CHOICES["mask"]) for data in real for seed in range(10)]
    jobs += [
        Job(data, "scratch", choice, LONG, seed, SCRATCH + CHOICES[choice])
        for seed in SEEDS for data in ("brain", "synthetic") for choice in FROM_NOTHING
    ]  # fmt: skip
    for seed in SEEDS:
        for pairs in (1, 2, 5, 20):
            job = Job("synthetic", "scratch", f"pairs{pairs}", LONG, seed, SCRATCH + PAIRED, f"pairs{pairs}")
            jobs.append(job)
        for data, store in (("synthetic", "pairs20"), ("brain", "paired")):
            alone = SCRATCH + SUPERVISED
            jobs.append(Job(data, "scratch", "supervised", LONG, seed, alone, store, supervised=True))
        jobs.append(Job("brain", "scratch", "allpaired", LONG, seed, SCRATCH + PAIRED, "paired"))
    jobs += [
        Job(data, "scratch", "public", LONG, seed, config="default")
        for seed in SEEDS for data in ("brain", "synthetic")
    ]  # fmt: skip
    jobs.sort(key=lambda job: job.seed)  # all kinds with one seed, then with the next
    scaled = [dataclasses.replace(job, steps=max(2, round(scale * job.steps)) if job.steps else 0) for job in jobs]
    return list({job.name: job for job in scaled}.values())


def settings_of(job: Job) -> Any:
    """Return the configuration of a job: nothing but the steps costs time, with one health check at the end."""
    from choices_scores import load_config

    return load_config(
        job.config,
        [
            "slicing.pixel_mm=2",
            "losses.mask_weight=0",
            *job.settings,
            f"seed={job.seed}",
            f"training.max_steps={job.steps}",
            f"training.panel_every={job.steps}",
            f"training.checkpoint_steps={job.steps}",
            f"validation.every_steps={job.steps}",
            "training.log_every=50",
            "training.compile=off",
            "training.memory_check=off",
        ],
    )


def train_and_score(job: Job, out: Path, start: Path, device: str, slices: int) -> dict[str, Any]:
    """Train a job in a temporary folder, and return its scores."""
    from choices_scores import ModelBundle, candidates, load_config, true_scores

    folder = out / "data" / job.data
    if not job.steps:
        bundle, seconds, config = ModelBundle.load(start), 0.0, load_config(job.config)
    else:
        config = settings_of(job)
        with tempfile.TemporaryDirectory() as scratch:
            began = time.monotonic()
            run = train_job(job, config, folder / job.slices, Path(scratch), start, device)
            seconds = time.monotonic() - began
            bundle = ModelBundle.load(run / "model-last" if (run / "model-last").is_dir() else run / "model")
    began = time.monotonic()
    scores = true_scores(bundle, folder / "test", device)
    found = {
        "seconds": round(seconds, 2),
        "scores": scores,
        "candidates": candidates(bundle, config, folder / job.slices, start, device, slices),
        "wrong": [place for place, row in scores.items() if row["ncc"] < 0],
        "seconds_of_scores": round(time.monotonic() - began, 2),
    }
    return found if job.steps else found | {"input": true_scores(None, folder / "test", device)}


def train_job(job: Job, config: Any, store: Path, out: Path, start: Path, device: str) -> Path:
    from medcyclegan import train
    from medcyclegan.training.pretraining.pretrain import PretrainingData, pretrain

    if job.supervised:
        data = PretrainingData(slices=store, domains=("t1", "t2"))
        return pretrain(data, config=config, out=out, device=device)
    init = start if job.start == "shipped" else "none"
    return train(store, config=config, out=out, domains=("t1", "t2"), device=device, init_from=init)


def work(jobs: list[Job], taken: Any, arguments: argparse.Namespace, threads: int) -> None:
    """Run jobs in one of several processes until all have been started or the time ``--until`` has passed."""
    import gc
    import logging

    import torch

    torch.set_num_threads(threads)
    logging.getLogger("medcyclegan").setLevel(logging.ERROR)
    while arguments.until is None or time.time() < arguments.until:
        with taken.get_lock():
            number, taken.value = taken.value, taken.value + 1
        if number >= len(jobs):
            return
        job, began = jobs[number], time.monotonic()
        try:
            found = train_and_score(job, arguments.out, arguments.start_from, arguments.device, arguments.slices)
        except Exception as error:  # one failed job must not end the others: its file records the error
            found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        save(result_file(arguments.out, job), dataclasses.asdict(job) | found)
        told = found.get("error", "")[:200] or " ".join(f"{row['psnr']:.2f}" for row in found["scores"].values())
        print(f"{number + 1}/{len(jobs)} {job.name}: {time.monotonic() - began:.1f} s, {told}", flush=True)
        del found
        gc.collect()
        if arguments.device.startswith("cuda"):
            torch.cuda.empty_cache()


def result_file(out: Path, job: Job) -> Path:
    return out / "results" / f"{job.name}.json"


def save(path: Path, values: dict[str, Any]) -> None:
    from medcyclegan.storage import atomic_write

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(values, indent=1) + "\n").encode())


def run(arguments: argparse.Namespace) -> None:
    jobs = [job for job in all_jobs(arguments.scale) if not result_file(arguments.out, job).exists()]
    if arguments.only:
        jobs = [job for job in jobs if job.name.startswith(tuple(arguments.only))]
    if arguments.list:
        print("\n".join(job.name for job in jobs))
        return
    # Fresh processes: CUDA and torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    taken = context.Value("i", 0)
    workers = [
        context.Process(target=work, args=(jobs, taken, arguments, arguments.threads))
        for _ in range(min(arguments.processes, len(jobs)))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    results = [json.loads(file.read_text()) for job in jobs if (file := result_file(arguments.out, job)).is_file()]
    failed = sum("error" in result for result in results)
    print(f"{len(jobs)} jobs: {len(results) - failed} finished, {failed} failed, {len(jobs) - len(results)} not done")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare")
    preparing.add_argument("data", type=Path)
    preparing.add_argument("labels", type=Path)
    preparing.add_argument("out", type=Path)
    running = commands.add_parser("run")
    running.add_argument("out", type=Path)
    running.add_argument("--start-from", type=Path, required=True, metavar="MODEL")
    running.add_argument("--device", default="cpu")
    running.add_argument("--processes", type=int, default=1)
    running.add_argument("--threads", type=int, default=1, help="of each process")
    running.add_argument("--only", action="append", default=[], metavar="PREFIX")
    running.add_argument("--until", type=float, metavar="UNIX_TIME")
    running.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of all jobs, for a trial")
    running.add_argument("--slices", type=int, default=64, help="of each domain, for the scores without truth")
    running.add_argument("--list", action="store_true", help="print the names of the jobs and end")
    commands.add_parser("table").add_argument("out", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        from choices_data import prepare

        prepare(arguments.data, arguments.labels, arguments.out)
    elif arguments.command == "run":
        run(arguments)
    else:
        from choices_table import print_tables

        print_tables(arguments.out)


if __name__ == "__main__":
    main()
