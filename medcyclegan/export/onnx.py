"""Export a model as two ONNX graphs, with everything that is needed to use them in their metadata."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import torch

from medcyclegan import __version__
from medcyclegan.errors import ModelError
from medcyclegan.inference.planes import plan_canvas, plane_chunks, spread_slices
from medcyclegan.inference.runtime.generators import TorchGenerator
from medcyclegan.inference.runtime.onnx import OPSET, OnnxGenerator, to_onnx
from medcyclegan.inference.runtime.precision import Difference, compare
from medcyclegan.model.bundle import Direction, ModelBundle
from medcyclegan.model.domains import fits_domain, half_range, source_scaling
from medcyclegan.storage import atomic_folder, check_output
from medcyclegan.volume import Volume

__all__ = ["Parity", "export_onnx", "graph_metadata"]

log = logging.getLogger(__name__)

#: Slices on which ONNX Runtime and PyTorch are compared: of the volume, or of noise.
_COMPARED = 4
#: A graph that differs by more than this share of the output's range is not the same function.
_LARGEST_SHARE = 1e-3


@dataclasses.dataclass(frozen=True)
class Parity:
    """The difference between ONNX Runtime's and PyTorch's output for one direction.

    ``slices``: ``"real"``, ``"translated"`` (the other direction's output on real slices) or ``"noise"``.
    """

    source: str
    target: str
    slices: str
    difference: Difference

    def __str__(self) -> str:
        found = self.difference
        count = f"{found.slices} slices" if self.slices == "noise" else f"{found.slices} {self.slices} slices"
        of_noise = " of noise" if self.slices == "noise" else ""
        return (
            f"{self.source} to {self.target}: differs by at most {found.largest:.2g} {found.unit} on {count}{of_noise}"
        )


def export_onnx(
    bundle: ModelBundle, folder: str | Path, *, volume: Volume | None = None, overwrite: bool = False
) -> tuple[Parity, Parity]:
    """Write ``G_AB.onnx``, ``G_BA.onnx`` and ``model.json`` into ``folder``, completely or not at all.

    The graphs accept any number of slices of any size that the networks accept. Their ``metadata_props``
    hold preparation, domains and scalings (:func:`graph_metadata`). The folder is a model for
    ``translate-volume --backend onnx``. Before anything is written, each graph is compared with PyTorch on slices of
    ``volume`` or on noise; the differences are returned.

    Raises :class:`~medcyclegan.errors.MissingExtraError` without the extra ``onnx``,
    :class:`~medcyclegan.errors.ModelError` if a graph is not the same function, and
    :class:`~medcyclegan.errors.WriteError`.
    """
    path = Path(folder)
    check_output(path, overwrite=overwrite)
    graphs = {
        direction.generator: to_onnx(
            bundle.build(direction.generator),
            bundle.canvas_multiple(),
            graph_metadata(bundle, direction),
        )
        for direction in bundle.directions
    }
    parity = _measure_parity(bundle, graphs, volume)
    for found in parity:
        target = bundle.direction(found.target).target
        if found.difference.largest > _LARGEST_SHARE * 2 * half_range(target.scaling):
            raise ModelError(f"the ONNX graph of {found}, too much for the same function: nothing was exported")
    with atomic_folder(path, overwrite=overwrite) as temporary:
        bundle.write_into(temporary, graphs)
    return parity


def graph_metadata(bundle: ModelBundle, direction: Direction) -> dict[str, str]:
    """Return the ``metadata_props`` of the graph of ``direction``: text, or JSON for structures.

    They suffice to use the graph without this package: scale by ``source_scaling`` (its limits are those of the
    training set; ``source_input_scaling`` defines how to find them for one volume), resample slices according to
    ``preparation``, run the graph, and convert back to the unit by ``target_scaling``.
    """
    source, target = direction.source, direction.target
    return {
        "producer": f"medcyclegan {__version__}",
        "model_sha256": bundle.fingerprint,
        "generator": direction.generator,
        "opset": str(OPSET),
        "source_domain": source.name,
        "source_modality": source.modality or "",
        "source_scaling": json.dumps(source.scaling.to_dict()),
        "source_input_scaling": source.input_scaling.model_dump_json(),
        "target_domain": target.name,
        "target_modality": target.modality or "",
        "target_scaling": json.dumps(target.scaling.to_dict()),
        "preparation": json.dumps(dataclasses.asdict(bundle.preparation)),
        "canvas_multiple": str(bundle.canvas_multiple()),
        "layout": "batch, 1, rows to posterior, columns to patient left; values scaled to [-1, 1], padding -1",
        "provenance": json.dumps(dict(bundle.provenance)),
        "intended_use": "research only; not a medical device; every output is synthetic",
    }


def _measure_parity(bundle: ModelBundle, graphs: dict[str, bytes], volume: Volume | None) -> tuple[Parity, Parity]:
    """Compare both backends on the same slices: those of ``volume`` in one direction, their fakes in the other."""
    a_to_b, b_to_a = bundle.directions
    first = a_to_b if volume is None or fits_domain(volume, a_to_b.source) else b_to_a
    slices, kind = _slices(bundle, first, volume)
    one, fakes = _compare(bundle, graphs, first, slices, kind)
    other, _ = _compare(
        bundle, graphs, first.reverse, slices if volume is None else fakes, kind.replace("real", "translated")
    )
    return one, other


def _compare(
    bundle: ModelBundle, graphs: dict[str, bytes], direction: Direction, slices: torch.Tensor, kind: str
) -> tuple[Parity, torch.Tensor]:
    name, scaling = direction.generator, direction.target.scaling
    here = TorchGenerator(bundle, name, torch.device("cpu"))
    there = OnnxGenerator(graphs[name], multiple=bundle.canvas_multiple())
    difference = compare(there, here, slices, half_range=half_range(scaling), unit=scaling.unit)
    parity = Parity(direction.source.name, direction.target.name, kind, difference)
    return parity, here(slices)


def _slices(bundle: ModelBundle, direction: Direction, volume: Volume | None) -> tuple[torch.Tensor, str]:
    if volume is None:
        size = bundle.preparation.size
        noise = torch.rand(_COMPARED, 1, size, size, generator=torch.Generator().manual_seed(0))
        return noise * 2 - 1, "noise"
    fit = plan_canvas(volume, bundle)
    wanted = spread_slices(volume, _COMPARED)
    ((_, canvas),) = plane_chunks(volume, source_scaling(volume, direction.source), fit, slices=wanted)
    return canvas, "real"
