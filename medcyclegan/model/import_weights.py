"""Import generators that were trained with other code as a model."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from medcyclegan.config import Config, Scaling
from medcyclegan.errors import ModelError, UsageError
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model.bundle import DomainModel, ModelBundle
from medcyclegan.model.public_weights import convert_public_generator
from medcyclegan.networks import levels_of_weights, weight_levels
from medcyclegan.plane import Preparation
from medcyclegan.provenance import hash_file
from medcyclegan.slicing.domains import modality_of_name

__all__ = ["describe_domain", "import_generators"]


def import_generators(
    files: tuple[str | Path, str | Path], domains: tuple[DomainModel, DomainModel], preparation: Preparation
) -> ModelBundle:
    """Build a model from two generators of the public PyTorch CycleGAN code: ``files`` are A to B and B to A.

    The files are ``latest_net_G_A.pth`` and ``latest_net_G_B.pth``; only tensors are read from them. ``domains`` and
    ``preparation`` describe what the files do not contain: how values and slices were prepared for the training. Raises
    :class:`~medcyclegan.errors.ModelError` for files that are not such generators, or that do not fit each other or
    ``preparation.size``.
    """
    converted = []
    for file in files:
        try:
            converted.append(convert_public_generator(_read_state(Path(file))))
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from None
    (generator, weights_AB), (other, weights_BA) = converted
    if generator != other:
        raise ModelError(
            f"{files[0]} is a {generator.kind} with {generator.filters} filters, {files[1]} a {other.kind} with "
            f"{other.filters}, or their blocks differ: name two generators from the same training"
        )
    levels = levels_of_weights(generator, weights_AB)
    if levels is not None and levels != weight_levels(generator, preparation.size):
        raise ModelError(
            f"{files[0]} is a {generator.kind} with {levels} levels, for slices of {2**levels} pixels: set --size"
        )
    imported = {name: hash_file(Path(file)) for name, file in zip(("G_AB", "G_BA"), files, strict=True)}
    provenance = {"imported_from": "the public PyTorch CycleGAN code", "files_sha256": imported}
    bundle = ModelBundle(domains, preparation, generator, {"G_AB": weights_AB, "G_BA": weights_BA}, provenance)
    for name in ("G_AB", "G_BA"):
        bundle.build(name)
    return bundle


def describe_domain(name: str, config: Config, range_: Sequence[float] | None) -> DomainModel:
    """Describe domain ``name`` from a configuration and the values that became -1 and 1 in training.

    For CT, ``range_`` is in HU and defaults to the window in the domain's section of the configuration. For anything
    else, ``range_`` is in arbitrary units and scales outputs; inputs are scaled by the configuration's percentiles.
    Raises :class:`~medcyclegan.errors.UsageError` if the range is not known.
    """
    known = config.domains.get(name)
    input_scaling = known.scaling if known is not None else Scaling()
    modality = (known.modality if known is not None else None) or modality_of_name(name)
    unit = "HU" if modality == "CT" else "arbitrary units"
    if range_ is None and modality == "CT" and known is not None:
        range_ = input_scaling.window_hu
    if range_ is None:
        raise UsageError(f"--range {name} LOWER UPPER is missing: the values ({unit}) that became -1 and 1 in training")
    lower, upper = range_
    if modality != "CT":
        return DomainModel(name, modality, IntensityScaling("percentile", lower, upper, unit), input_scaling)
    input_scaling = Scaling(window_hu=(lower, upper), percentiles=input_scaling.percentiles)
    return DomainModel(name, modality, IntensityScaling("window", lower, upper, unit), input_scaling)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError("no such file: name the two .pth files of the generators") from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"cannot be read as weights only: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ModelError("is not a state dict with named tensors: save network.state_dict()")
    return state
