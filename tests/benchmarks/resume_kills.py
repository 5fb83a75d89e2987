"""Kill runs at random moments and resume them; compare their weights with those of an uninterrupted run.

    python tests/benchmarks/resume_kills.py [--kills 20] [--full]

Prints a line per kill, with the first digits of its weight files' SHA-256 (``model/`` and
``model-last/``). ``--full``: with ResNet-9 generators of 64 filters in
float32 on 256 x 256 pixels, for a few steps (many minutes).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.stores import blobs, make_store

from medcyclegan.config import Config, parse_config
from medcyclegan.provenance import hash_file
from medcyclegan.training import train

#: Everything that has state, in few steps: averages, pools, flips, dropout, validations, a falling rate.
SMOKE = {
    "networks": {"generator": {"kind": "unet", "filters": 4}, "discriminator": {"filters": 4, "layers": 2}},
    "training": {"max_steps": 60, "checkpoint_steps": 3, "panel_every": 7, "log_every": 4, "pool_size": 4},
    "validation": {"every_steps": 5, "slices": 2},
}
FULL = {
    "training": {"max_steps": 4, "checkpoint_steps": 1, "panel_every": 3, "pool_size": 2},
    "validation": {"every_steps": 4, "slices": 1},
}


def build_config(full: bool) -> Config:
    values = FULL if full else SMOKE
    training = {**values["training"], "precision": "fp32", "ema_decay": 0.9}
    return parse_config({**values, "training": training}, "resume_kills")


def run_session(kill_after: float | None = None, **arguments: Any) -> bool:
    """Train in a new process and kill it (SIGKILL) after the given time; return whether it ended before that.

    It is forked from this one, which has imported everything, so that kills hit the training and not the imports.
    """
    process = os.fork()
    if process == 0:
        try:
            train(device="cpu", **arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + (math.inf if kill_after is None else kill_after)
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return False
        time.sleep(0.001)
    return True


def weights_of(run: Path) -> str:
    names = [f"{model}/{name}.safetensors" for model in ("model", "model-last") for name in ("G_AB", "G_BA")]
    return " ".join(hash_file(run / name)[:16] for name in names)


def step_of(run: Path) -> int:
    return int(json.loads((run / "run.json").read_text("utf-8"))["step"]) if (run / "run.json").exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("medcyclegan").setLevel(logging.ERROR)
    choose, size, config = random.Random(0), 256 if options.full else 32, build_config(options.full)
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "slices"
        stacks = {"t1": [blobs(4, size, 0), blobs(2, size, 1)], "t2": [blobs(3, size, 2), blobs(2, size, 3)]}
        make_store(store, stacks, {"t1": ["train", "validation"], "t2": ["train", "validation"]})
        started = time.monotonic()
        assert run_session(slices=store, config=config, out=Path(name) / "whole")
        seconds = time.monotonic() - started
        expected = weights_of(Path(name) / "whole" / "latest")
        print(f"unbroken: {seconds:.1f} s, weights {expected}", flush=True)
        equal = 0
        for kill in range(1, options.kills + 1):
            killed, attempt = False, 0
            while not killed:  # a run that ended too early was not killed: try another moment
                attempt += 1
                out = Path(name) / f"runs{kill}-{attempt}"
                run = out / "latest"
                started, moment = time.monotonic(), choose.uniform(0.0, seconds)
                killed = not run_session(moment, slices=store, config=config, out=out)
                seconds = seconds if killed else min(seconds, time.monotonic() - started)
            step = step_of(run)
            again = {"resume": run} if run.exists() else {"slices": store, "config": config, "out": out}
            assert run_session(**again)
            found = weights_of(run)
            equal += found == expected
            said = f"killed after {moment:.2f} s, last checkpoint at step {step}"
            print(f"{kill:>3}: {said}; weights {found}: {'the same' if found == expected else 'OTHERS'}", flush=True)
        print(f"{equal} of {options.kills} killed runs ended in the weights of the unbroken one")
        sys.exit(equal != options.kills)


if __name__ == "__main__":
    main()
