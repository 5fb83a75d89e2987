"""A trained model, stored as a folder with everything that a translation needs: ``model.json`` and two weight files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import nn

from medcyclegan.config import Generator, Scaling, Slicing
from medcyclegan.errors import IntensityError, MedCycleGANError, ModelError, nearest
from medcyclegan.intensity import IntensityScaling
from medcyclegan.manifest import SliceRow
from medcyclegan.model.calibration import Calibration, calibration_file, load_calibration
from medcyclegan.model.card import CARD, model_card
from medcyclegan.model.folder import (
    CHECKSUM,
    FORMAT,
    MODEL_JSON,
    checksum_of,
    fault_of,
    read_checked,
    read_optional,
    read_record,
    read_weights,
)
from medcyclegan.model.shipped import model_folder
from medcyclegan.networks import build_generator, canvas_multiple
from medcyclegan.plane import Preparation
from medcyclegan.provenance import hash_json, now, versions
from medcyclegan.slicing.domains import check_domain_name
from medcyclegan.storage import atomic_folder

__all__ = ["Direction", "DomainModel", "ModelBundle", "direction_to", "directions_of", "target_scaling"]

_GENERATORS = ("G_AB", "G_BA")


@dataclasses.dataclass(frozen=True)
class DomainModel:
    """One domain of a model: its name, its modality, and the scaling of outputs and inputs.

    ``scaling``: converts outputs in this domain from [-1, 1] back to its unit. ``input_scaling``: the settings for
    scaling an input of this domain (CT by the window, MR by percentiles of the volume's own foreground).
    """

    name: str
    modality: str | None
    scaling: IntensityScaling
    input_scaling: Scaling = dataclasses.field(default_factory=Scaling)


@dataclasses.dataclass(frozen=True)
class Direction:
    """One of the two directions of a model, or of several models whose translations are averaged.

    ``generator``: its name, ``"G_AB"`` or ``"G_BA"``. ``models``: one or more; domains and preparation are the same in
    all of them.
    """

    generator: str
    source: DomainModel
    target: DomainModel
    models: tuple[ModelBundle, ...]

    @property
    def model(self) -> ModelBundle:
        """The first of the models."""
        return self.models[0]

    @property
    def reverse(self) -> Direction:
        """The other direction of the models."""
        other = "G_BA" if self.generator == "G_AB" else "G_AB"
        return Direction(other, self.target, self.source, self.models)


def directions_of(models: Sequence[ModelBundle]) -> tuple[Direction, Direction]:
    """Return both directions of ``models``, whose translations are averaged: A to B, then B to A."""
    a_to_b = Direction("G_AB", *models[0].domains, tuple(models))
    return a_to_b, a_to_b.reverse


def direction_to(models: Sequence[ModelBundle], to: str) -> Direction:
    """Return the direction of ``models``, whose translations are averaged, with outputs in domain ``to``.

    Raises :class:`~medcyclegan.errors.ModelError` for a domain that the models do not have.
    """
    both = directions_of(models)
    for found in both:
        if to == found.target.name:
            return found
    a, b = both[0].source.name, both[0].target.name
    near = nearest(to, (a, b))
    hint = f"did you mean --to {near}?" if near else "name one of them"
    raise ModelError(f"--to {to}: this model translates between {a} and {b}: {hint}")


def target_scaling(rows: Sequence[SliceRow]) -> IntensityScaling:
    """Return the scaling of a domain's outputs: the median over its training volumes.

    If they are scaled by a window or a bit depth, all volumes have the same scaling.
    """
    each = [IntensityScaling.from_dict(row.scaling) for row in rows]
    kinds = {(s.kind, s.unit) for s in each}
    if len(kinds) != 1:
        raise IntensityError(
            f"one domain mixes intensities in {', '.join(sorted(unit for _, unit in kinds))}: put CT, MR and "
            "pictures into separate domains"
        )
    lower, upper = median(s.lower for s in each), median(s.upper for s in each)
    measured = [s.air for s in each if s.air is not None]
    return dataclasses.replace(each[0], lower=lower, upper=upper, air=median(measured) if measured else None)


@dataclasses.dataclass(frozen=True, eq=False)
class ModelBundle:
    """The two generators of a model and everything that is needed to use them.

    ``domains``: A and B. ``preparation``: how slices are prepared. ``generator``: the architecture of the networks.
    ``weights``: ``{"G_AB": state, "G_BA": state}``, tensors on the CPU. ``provenance``: JSON values (training
    configuration, steps, data counts), without patient data or paths. In an ONNX export, ``graphs`` holds the
    generators instead of ``weights``, and ``exported_from`` is the fingerprint of the exported model.
    ``calibrations``: generator to the contents of its calibration
    (:func:`~medcyclegan.model.calibration.load_calibration` checks them).
    """

    domains: tuple[DomainModel, DomainModel]
    preparation: Preparation
    generator: Generator
    weights: Mapping[str, Mapping[str, torch.Tensor]]
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    graphs: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    exported_from: str = ""
    calibrations: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.domains[0].name == self.domains[1].name:
            raise ModelError(f"both domains are named {self.domains[0].name!r}: give them different names")

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of both weight files, the domains and the preparation; it identifies the model in outputs."""
        if self.exported_from:
            return self.exported_from
        return hash_json({"weights": self._hashes(), "domains": self._domains(), **self._shape()})

    @property
    def directions(self) -> tuple[Direction, Direction]:
        """Both directions: A to B, then B to A."""
        return directions_of([self])

    def direction(self, to: str) -> Direction:
        """Return the direction whose outputs are in domain ``to``.

        Raises :class:`~medcyclegan.errors.ModelError` for a domain that the model does not have.
        """
        return direction_to([self], to)

    def calibration(self, direction: Direction) -> Calibration | None:
        """Return the calibration of the outputs of ``direction``; None if there is none.

        Raises :class:`~medcyclegan.errors.ModelError` for a damaged one, or that of other weights.
        """
        data = self.calibrations.get(direction.generator)
        return None if data is None else load_calibration(data, direction.generator, self.fingerprint)

    def canvas_multiple(self) -> int:
        """Return the number of which the rows and columns of a canvas must be multiples for these generators."""
        return canvas_multiple(self.generator, self.preparation.size)

    def build(self, name: str) -> nn.Module:
        """Build the generator ``name`` (``"G_AB"`` or ``"G_BA"``) with its weights, in evaluation mode.

        It maps ``(N, 1, H, W)`` to the same shape.
        """
        if self.graphs:
            raise ModelError("this folder contains ONNX graphs and no weights: translate with --backend onnx")
        # Drawing initial weights would take longer than reading the trained ones. Copies are assigned;
        # allocating memory for the network with to_empty would import sympy, which takes half a second.
        with torch.device("meta"):
            network = build_generator(self.generator, self.preparation.size)
        try:
            network.load_state_dict({key: _copied(value) for key, value in self.weights[name].items()}, assign=True)
        except (RuntimeError, KeyError) as error:
            raise ModelError(f"the weights of {name} do not fit the {self.generator.kind} generator: {error}") from None
        return network.eval().requires_grad_(False)

    def halved(self) -> ModelBundle:
        """Return the model with its weights rounded to 16 bits, without calibration; computations use 32 bits."""
        weights = {
            network: {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
            for network, state in self.weights.items()
        }
        return dataclasses.replace(self, weights=weights, calibrations={})

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model folder, completely or not at all, and return its path.

        Raises :class:`~medcyclegan.errors.WriteError` if it exists and ``overwrite`` is not set.
        """
        path = Path(folder)
        with atomic_folder(path, overwrite=overwrite) as temporary:
            self.write_into(temporary)
        return path

    def write_into(self, folder: Path, graphs: Mapping[str, bytes] | None = None) -> None:
        """Write the model's files into an existing ``folder``, with the weights or with ONNX ``graphs`` instead."""
        contents = graphs or {name: _serialize(self.weights[name]) for name in _GENERATORS}
        ending = "onnx" if graphs else "safetensors"
        files = {f"{name}.{ending}": contents[name] for name in _GENERATORS}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        for name, content in self.calibrations.items():
            (folder / calibration_file(name)).write_bytes(content)
        record = self._record(files)
        (folder / MODEL_JSON).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        (folder / CARD).write_text(model_card(record), "utf-8")

    def _record(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        record = {
            "format": FORMAT,
            "created": now(),
            "versions": versions(),
            "fingerprint": self.fingerprint,
            "domains": self._domains(),
            **self._shape(),
            "weights": {
                name.split(".")[0]: {"file": name, "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in files.items()
            },
            "provenance": dict(self.provenance),
            "intended_use": "research only; not a medical device; every output is synthetic",
        }
        return {**record, CHECKSUM: checksum_of(record)}

    @classmethod
    def load(cls, folder: str | Path) -> ModelBundle:
        """Read a model folder, or a shipped model by its name (:mod:`medcyclegan.model.shipped`).

        Raises :class:`~medcyclegan.errors.ModelError` if it is missing, incomplete or of another format, or if the
        SHA-256 of a weight file is not the one in ``model.json``.
        """
        path = model_folder(folder)
        record = read_record(path)
        try:
            bundle = cls._without_weights(record)
            hashes = {name: str(record["weights"][name]["sha256"]) for name in _GENERATORS}
            is_onnx = all(record["weights"][name]["file"] == f"{name}.onnx" for name in _GENERATORS)
            exported_from = str(record["fingerprint"]) if is_onnx else ""
        except (KeyError, TypeError, ValueError, MedCycleGANError) as error:
            raise ModelError(f"{path / MODEL_JSON} {fault_of(error)}") from None
        calibrations = {name: read_optional(path, calibration_file(name)) for name in _GENERATORS}
        bundle = dataclasses.replace(bundle, calibrations={k: data for k, data in calibrations.items() if data})
        if is_onnx:
            graphs = {name: read_checked(path, f"{name}.onnx", hashes[name]) for name in _GENERATORS}
            return dataclasses.replace(bundle, graphs=graphs, exported_from=exported_from)
        weights = {name: read_weights(path, name, hashes[name]) for name in _GENERATORS}
        bundle = dataclasses.replace(bundle, weights=weights)
        for name in _GENERATORS:
            bundle.build(name)
        return bundle

    @classmethod
    def _without_weights(cls, record: Mapping[str, Any]) -> ModelBundle:
        """Build the model from a ``model.json``, without its weights, and check every field."""
        a, b = (_domain_of(record["domains"][side]) for side in "AB")
        preparation = _preparation_of(record["preparation"])
        generator = Generator.model_validate(record["generator"])
        return cls((a, b), preparation, generator, {}, dict(record.get("provenance", {})))

    def check(self) -> None:
        """Check, before anything is written, that the model's folder can be written and loaded again.

        Raises :class:`~medcyclegan.errors.ModelError` if not.
        """
        record = self._record(dict.fromkeys((f"{name}.safetensors" for name in _GENERATORS), b""))
        try:
            self._without_weights(json.loads(json.dumps(record, allow_nan=False)))
            model_card(record)
        except (KeyError, TypeError, ValueError, MedCycleGANError) as error:
            raise ModelError(f"no model can be built from these slices ({error!r}): slice the volumes again") from None

    def _hashes(self) -> dict[str, str]:
        return {name: hashlib.sha256(_serialize(self.weights[name])).hexdigest() for name in _GENERATORS}

    def _domains(self) -> dict[str, Any]:
        return {
            side: {
                "name": domain.name,
                "modality": domain.modality,
                "scaling": domain.scaling.to_dict(),
                "input_scaling": domain.input_scaling.model_dump(mode="json"),
            }
            for side, domain in zip("AB", self.domains, strict=True)
        }

    def _shape(self) -> dict[str, Any]:
        return {
            "preparation": dataclasses.asdict(self.preparation),
            "generator": self.generator.model_dump(mode="json"),
        }


def _domain_of(fields: Mapping[str, Any]) -> DomainModel:
    modality = fields["modality"]
    if modality is not None and not re.fullmatch(r"[A-Z]{2,16}", modality):
        raise ValueError(f"a domain's modality {modality!r}")
    return DomainModel(
        check_domain_name(str(fields["name"]), ModelError),
        modality,
        IntensityScaling.from_dict(fields["scaling"]),
        Scaling.model_validate(fields["input_scaling"]),
    )


def _preparation_of(fields: Mapping[str, Any]) -> Preparation:
    """Return the preparation of slices, checked against the limits of the configuration."""
    checked = Slicing.model_validate(dict(fields))
    return Preparation(**{name: getattr(checked, name) for name in fields})


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy on the CPU; numbers are in float32, in which a network computes."""
    return tensor.to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)


def _serialize(weights: Mapping[str, torch.Tensor]) -> bytes:
    """Return the weights as safetensors bytes, which depend only on names and values."""
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in sorted(weights.items())}
    return save_tensors(plain)
