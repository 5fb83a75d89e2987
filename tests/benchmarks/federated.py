"""Compare federated training of three sites with central training and with one site alone: T1 to T2.

    python tests/benchmarks/federated.py [--total N] [--steps N...] [--out DIR] [--engine flare|direct]

Synthetic heads, which no two sites share: 6 T1 at the first site, 6 T2 at the second, 2 + 2 of different patients at
the third. Central training has all of them in one place. All arms have the same configuration and number of steps.
``--steps``: of each site between two averages; one federated training for each number.
Two unseen heads with truth are scored inside the head. ``flare``: processes of NVIDIA FLARE's simulator, one per site
(extra ``federated``); ``direct``: the same rounds in one process. A site with one domain cannot train alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.flare_simulator import finish, start_simulator

from medcyclegan import ModelBundle, evaluate_volumes, slice_volumes, train, translate_volume, write_volume
from medcyclegan.config import Config, load_config
from medcyclegan.evaluation import Evaluation
from medcyclegan.federated import Contribution, Job, Server, Site, write_job
from medcyclegan.phantom import Head, make_head, t1_volume, t2_volume

#: Seeds of the heads of each site, T1 and T2.
SITES = {"north": (range(100, 106), ()), "south": ((), range(200, 206)), "west": (range(106, 108), range(206, 208))}
UNSEEN = (300, 301)
SETTINGS = (
    "training.ema_decay=null",
    "training.compile=off",
    "slicing.size=64",
    "slicing.pixel_mm=3.75",
    "networks.generator.filters=8",
    "networks.discriminator.filters=16",
)


def head(seed: int) -> Head:
    return make_head(seed, shape=(80, 96, 40), spacing_mm=(2.5, 2.5, 4.0))


def t1_of(seed: int):
    return t1_volume(head(seed), fat_signal=0.25)


def slice_heads(folder: Path, t1: list[int], t2: list[int], config: Config) -> Path:
    for seed in t1:
        write_volume(t1_of(seed), folder / "volumes" / "t1" / f"sub-{seed}_T1w.nii.gz")
    for seed in t2:
        write_volume(t2_volume(head(seed)), folder / "volumes" / "t2" / f"sub-{seed}_T2w.nii.gz")
    slice_volumes(folder / "volumes", folder / "slices", config=config, allow_synthetic=True)
    return folder / "slices"


def federate(job: Job, folder: Path, out: Path, engine: str) -> tuple[Path, list[dict]]:
    """Run the job; return the model's folder and the records of the rounds."""
    if engine == "flare":
        workspace = out / "workspace"
        printed = finish(start_simulator(out / "job", workspace, folder, list(SITES)), workspace, 3600.0)
        runs = folder / "server" / "runs" / job.name
        if not (runs / "model").is_dir():
            raise SystemExit(printed[-2000:])
        return runs / "model", [json.loads(line) for line in (runs / "rounds.jsonl").read_text().splitlines()]
    sites = {name: Site(job, folder / name / "slices", folder / name / "runs", "cpu") for name in SITES}
    server = Server(job, folder / "server" / "runs")
    server.begin({name: site.declare() for name, site in sites.items()})
    while not server.finished:
        answers = [Contribution(n, s.train(server.weights, server.round), s.plan.slices) for n, s in sites.items()]
        server.add_round(
            answers,
            {
                "bytes_to_a_site": size(server.weights),
                "bytes_from_sites": sum(size(answer.weights) for answer in answers),
            },
        )
    return server.save_model(), server.history


def size(weights) -> int:
    return sum(tensor.nbytes for state in weights.values() for tensor in state.values())


def score(model: Path) -> list[Evaluation]:
    bundle = ModelBundle.load(model)
    pairs = [(t1_of(seed), t2_volume(head(seed))) for seed in UNSEEN]
    return [evaluate_volumes(translate_volume(given, bundle, "t2"), truth, baseline=given) for given, truth in pairs]


def show(name: str, scores: list[Evaluation], seconds: float | None = None) -> None:
    columns = "".join(
        f"{statistics.fmean(getattr(one, key) for one in scores):>{width}.{digits}f}"
        for key, width, digits in (("psnr", 11, 2), ("ssim_2023", 8, 3), ("mae", 8, 3))
    )
    print(f"{name:<34}{columns}{'' if seconds is None else f'{seconds:>10.0f}'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total", type=int, default=300)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--engine", choices=["flare", "direct"], default="flare")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        run(arguments, arguments.out or Path(temporary))


def run(arguments: argparse.Namespace, out: Path) -> None:
    total = arguments.total
    config = load_config("demo", [*SETTINGS, f"training.max_steps={total}"])
    for name, (t1, t2) in SITES.items():
        slice_heads(out / "sites" / name, list(t1), list(t2), config)
    all_t1, all_t2 = ([seed for site in SITES.values() for seed in site[kind]] for kind in (0, 1))
    central = slice_heads(out / "central", all_t1, all_t2, config)
    print(f"{'T1 to T2, ' + str(total) + ' steps':<34}{'PSNR (dB)':>11}{'SSIM':>8}{'MAE':>8}{'seconds':>10}")
    rounds: list[dict] = []
    for steps in arguments.steps:
        place, started = out / f"steps-{steps}", time.monotonic()
        job = write_job(place / "job", config, ("t1", "t2"), rounds=(total // steps, steps), answers=(3, 600))
        model, rounds = federate(job, out / "sites", place, arguments.engine)
        show(f"federated, {total // steps} rounds of {steps} steps", score(model), time.monotonic() - started)
    for name, store in (("west alone, both", out / "sites" / "west" / "slices"), ("central", central)):
        started = time.monotonic()
        scores = score(train(store, config=config, out=out / "runs", device="cpu", init_from="none") / "model")
        show(name, scores, time.monotonic() - started)
    print(f"{'north alone, T1 only':<34}  cannot be trained\n{'south alone, T2 only':<34}  cannot be trained")
    show("T1 taken as T2", [one.baseline for one in scores])
    print(
        f"a round: {rounds[-1]['bytes_to_a_site'] / 1e6:.2f} MB to each site, "
        f"{rounds[-1]['bytes_from_sites'] / 1e6:.2f} MB from {len(SITES)} sites"
    )


if __name__ == "__main__":
    main()
