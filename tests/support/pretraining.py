"""What the tests of pretraining share."""

from __future__ import annotations

import torch

from medcyclegan.config import Config, parse_config
from medcyclegan.networks import build_cyclegan
from medcyclegan.synthesis import FREESURFER
from medcyclegan.training.pretraining.synthetic_pairs import SyntheticPairs
from medcyclegan.training.update.paired_step import PairedStep
from medcyclegan.training.update.step import build_step

CPU = torch.device("cpu")


def changed(config: Config, **sections) -> Config:
    values = config.model_dump(mode="json")
    for name, section in sections.items():
        values[name] |= section
    return parse_config(values, "test")


def paired_step(config: Config) -> PairedStep:
    step = build_step(config, build_cyclegan(config.networks, 32, 0), CPU, "fp32", kind=PairedStep)
    assert isinstance(step, PairedStep)
    return step


def synthetic_pairs(maps, config: Config) -> SyntheticPairs:
    maps = tuple(sorted(maps))
    return SyntheticPairs(maps, maps, FREESURFER, ("t1", "t2"), config)
