"""Small model folders for tests that translate."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal
from unittest import mock

import torch

from medcyclegan import networks
from medcyclegan.config import Generator
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model import DomainModel, ModelBundle, bundle
from medcyclegan.model.fitness import Fitness
from medcyclegan.networks import build_generator
from medcyclegan.plane import Preparation

HU = IntensityScaling("window", -1024.0, 3071.0, "HU")
MR = IntensityScaling("percentile", 0.0, 1000.0, "arbitrary units")
GREY = IntensityScaling("range", 0.0, 255.0, "grey level")

CT_DOMAIN = DomainModel("ct", "CT", HU)
MR_DOMAIN = DomainModel("mr", "MR", MR)


class AnyGenerator(Generator):
    """A generator of a configuration, or ``identity``, which returns its input and has no weights."""

    kind: Literal["resnet", "unet", "subpixel_unet", "identity"] = "identity"


class IdentityModel(ModelBundle):
    """A model whose generators return their input: only geometry and intensity processing can change a volume."""

    def build(self, name: str) -> torch.nn.Module:
        with identity_models_are_read():
            return super().build(name)

    def canvas_multiple(self) -> int:
        return _canvas_multiple(self.generator, self.preparation.size)


def identity_model(a: DomainModel = CT_DOMAIN, b: DomainModel = MR_DOMAIN, **preparation) -> ModelBundle:
    """Return a model whose generators return their input.

    Commands and functions that read it from its folder need :func:`identity_models_are_read`.
    """
    chosen = {"size": 256, "fit": "physical", "pixel_mm": 1.0, **preparation}
    return IdentityModel((a, b), Preparation(**chosen), AnyGenerator(), {"G_AB": {}, "G_BA": {}})


@contextlib.contextmanager
def identity_models_are_read() -> Iterator[None]:
    """Accept folders of identity models, which no configuration can make and the package refuses."""
    with (
        mock.patch.object(bundle, "Generator", AnyGenerator),
        mock.patch.object(bundle, "build_generator", _build_generator),
        mock.patch.object(bundle, "canvas_multiple", _canvas_multiple),
    ):
        yield


#: The network of identity models, which a test may replace by another one without weights.
identity_network: Callable[[], torch.nn.Module] = torch.nn.Identity


def _build_generator(config: Generator, size: int) -> torch.nn.Module:
    return identity_network() if config.kind == "identity" else networks.build_generator(config, size)


def _canvas_multiple(config: Generator, size: int) -> int:
    return 4 if config.kind == "identity" else networks.canvas_multiple(config, size)


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
