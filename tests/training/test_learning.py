"""Training learns, from unpaired discs and negatives of other discs, the negative of an unseen disc."""

import json
from pathlib import Path

import numpy as np
import torch
from support.stores import blobs, make_store

from medcyclegan.config import parse_config
from medcyclegan.model import ModelBundle
from medcyclegan.training import train

CONFIG = {
    "networks": {"generator": {"filters": 8, "blocks": 1}, "discriminator": {"filters": 8, "layers": 2}},
    "losses": {"identity_weight": 0.0},
    "training": {
        "max_steps": 200,
        "batch_size": 4,
        "learning_rate": 2e-3,
        "precision": "fp32",
        "panel_every": 1000,
        "checkpoint_steps": 1000,
    },
}


def test_the_loss_falls_and_the_output_correlates_with_the_truth(tmp_path: Path) -> None:
    stacks = {
        "bright": [blobs(40, 32, seed) for seed in range(3)],
        "dark": [blobs(40, 32, 10 + seed, inverted=True) for seed in range(3)],
    }
    make_store(tmp_path / "slices", stacks)
    run = train(tmp_path / "slices", config=parse_config(CONFIG, "test"), out=tmp_path / "runs", device="cpu")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    rows = [row for row in rows if "generators" in row]
    assert rows[-1]["generators"] < rows[0]["generators"] / 2
    assert rows[-1]["cycle_A"] < 0.15
    bundle = ModelBundle.load(run / "model")
    for name, inverted in (("G_AB", False), ("G_BA", True)):
        real = blobs(8, 32, 99, inverted=inverted)
        fake = bundle.build(name)(torch.from_numpy(real)[:, None])[:, 0].numpy()
        assert np.corrcoef(fake.ravel(), -real.ravel())[0, 1] > 0.9
        assert np.abs(fake + real).mean() < 0.2
