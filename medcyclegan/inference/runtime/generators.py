"""Load a model's generators for translating slices on a device."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import torch

from medcyclegan.device import choose_device, fast_format
from medcyclegan.errors import ModelError
from medcyclegan.inference.runtime.cpu_layout import tune_for_cpu
from medcyclegan.inference.runtime.onnx import OnnxGenerator, to_onnx
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.runtime.precision import exact_convolutions, to_reduced_precision
from medcyclegan.inference.runtime.runner import SliceGenerator, SliceRunner, choose_batch_size
from medcyclegan.model.bundle import Direction, ModelBundle
from medcyclegan.plane import PlaneFit
from medcyclegan.volume import Volume

__all__ = ["TorchGenerator", "check_members", "open_generators", "open_runners"]

log = logging.getLogger(__name__)


class TorchGenerator:
    """The generator ``name`` of ``bundle`` in PyTorch, on ``device``.

    ``fast``: compute in the device's reduced precision; if it has none, log a warning and compute in float32.
    ``few``: for some slices only, so that expensive layout changes are skipped.
    """

    shareable = True

    def __init__(
        self, bundle: ModelBundle, name: str, device: torch.device, *, fast: bool = False, few: bool = False
    ) -> None:
        self.device = device
        network = bundle.build(name)
        dtype = fast_format(device) if fast else torch.float32
        if fast and dtype == torch.float32:
            log.warning("--fast: this %s has no reduced precision in hardware: computing in float32", device)
        if device.type == "cpu":
            self._network = tune_for_cpu(network, dtype, few=few)
        else:
            self._network = to_reduced_precision(network, dtype).to(device)

    def __call__(self, slices: torch.Tensor) -> torch.Tensor:
        """Translate ``slices`` ``(N, 1, H, W)`` in [-1, 1]; both are float32 on the CPU."""
        with torch.inference_mode(), exact_convolutions(self.device):
            return self._network(slices.to(self.device)).to("cpu", torch.float32)

    def to(self, device: torch.device) -> None:
        """Move the generator to ``device``."""
        self._network.to(device)
        self.device = device


def open_generators(direction: Direction, computing: InferenceOptions, *, few: bool = False) -> list[SliceGenerator]:
    """Return the generator of ``direction`` of each of its models, with the options ``computing``.

    ``few``: for some slices of a volume only.
    """
    name = direction.generator
    if computing.backend == "onnx":
        return [OnnxGenerator(_graph(bundle, name), multiple=bundle.canvas_multiple()) for bundle in direction.models]
    device = choose_device(computing.device)
    return [TorchGenerator(bundle, name, device, fast=computing.fast, few=few) for bundle in direction.models]


def _graph(bundle: ModelBundle, name: str) -> bytes:
    if bundle.graphs:
        return bundle.graphs[name]
    log.info("creating the ONNX graph of %s; medcyclegan export --format onnx stores it for later runs", name)
    return to_onnx(bundle.build(name), bundle.canvas_multiple())


@contextlib.contextmanager
def open_runners(
    generators: Sequence[SliceGenerator],
    bundle: ModelBundle,
    volume: Volume,
    fit: PlaneFit,
    computing: InferenceOptions,
) -> Iterator[list[SliceRunner]]:
    """Yield a runner for each generator, with the requested batch size or one that fits."""
    with contextlib.ExitStack() as stack:
        runners = []
        for generator in generators:
            size = computing.batch_size
            if size == "auto":
                size = choose_batch_size(bundle.generator, fit.canvas, generator.device, volume.array.size)
                log.debug("slices at a time on %s: %d", generator.device, size)
            runners.append(stack.enter_context(SliceRunner(generator, size)))
        yield runners


def check_members(bundles: Sequence[ModelBundle]) -> None:
    """Check that models to be averaged translate between the same domains in the same way.

    Raises :class:`~medcyclegan.errors.ModelError` if domains, modalities or preparation differ.
    """
    first, *others = bundles
    known = [(d.name, d.modality, d.input_scaling) for d in first.domains]
    for number, other in enumerate(others, start=2):
        if [
            (d.name, d.modality, d.input_scaling) for d in other.domains
        ] != known or other.preparation != first.preparation:
            raise ModelError(
                f"--model number {number} has other domains or another preparation than the first: average only models "
                "that were trained on equally prepared slices"
            )
