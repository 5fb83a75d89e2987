"""Small model folders for tests that translate."""

from __future__ import annotations

import dataclasses

import torch

from medcyclegan.config import Generator
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model import DomainModel, ModelBundle
from medcyclegan.model.fitness import Fitness
from medcyclegan.networks import build_generator
from medcyclegan.plane import Preparation

HU = IntensityScaling("window", -1024.0, 3071.0, "HU")
MR = IntensityScaling("percentile", 0.0, 1000.0, "arbitrary units")
GREY = IntensityScaling("range", 0.0, 255.0, "grey level")

CT_DOMAIN = DomainModel("ct", "CT", HU)
MR_DOMAIN = DomainModel("mr", "MR", MR)


def identity_model(a: DomainModel = CT_DOMAIN, b: DomainModel = MR_DOMAIN, **preparation) -> ModelBundle:
    """Return a model whose generators return their input."""
    chosen = {"size": 256, "fit": "physical", "pixel_mm": 1.0, **preparation}
    return ModelBundle((a, b), Preparation(**chosen), Generator(kind="identity"), {"G_AB": {}, "G_BA": {}})


def tiny_model(a: DomainModel = CT_DOMAIN, b: DomainModel = MR_DOMAIN, size: int = 32) -> ModelBundle:
    """Return a model of two untrained ResNets with 2 filters and 1 block."""
    generator = Generator(kind="resnet", filters=2, blocks=1)
    weights = {}
    with torch.random.fork_rng():
        for seed, name in enumerate(("G_AB", "G_BA")):
            torch.manual_seed(seed)
            weights[name] = build_generator(generator, size).state_dict()
    return ModelBundle((a, b), Preparation(size, "physical", 4.0), generator, weights, {"steps": 7})


def fit_for(model: ModelBundle, **changes) -> Fitness:
    """Return a fitness without any reason against ``model``, except for ``changes``."""
    patients = {domain.name: 12 for domain in model.domains}
    return Fitness(**{"steps": 20_000, "patients": patients, "learned": True, **changes})


def with_fitness(model: ModelBundle, **changes) -> ModelBundle:
    """Return ``model`` with a record of :func:`fit_for`."""
    fitness = fit_for(model, **changes).to_dict()
    return dataclasses.replace(model, provenance={**model.provenance, "fitness": fitness})
