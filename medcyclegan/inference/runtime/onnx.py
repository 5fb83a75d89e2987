"""Generators as ONNX graphs: made from PyTorch, and computed by ONNX Runtime (extra ``onnx``)."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from medcyclegan.errors import MissingExtraError, ModelError
from medcyclegan.networks import InstanceNorm

__all__ = ["OPSET", "OnnxGenerator", "to_onnx"]

#: The version of ONNX's operators that graphs are written in.
OPSET = 20
#: Names of a graph's input and output.
_INPUT, _OUTPUT = "image", "translated"


class OnnxGenerator:
    """An ONNX graph computed by ONNX Runtime on the CPU.

    Raises :class:`~medcyclegan.errors.MissingExtraError` without ONNX Runtime, and
    :class:`~medcyclegan.errors.ModelError` for bytes that are no graph of ours.
    """

    shareable = False

    def __init__(self, graph: bytes) -> None:
        runtime = _import("onnxruntime")
        self.device = torch.device("cpu")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        state = runtime.capi.onnxruntime_pybind11_state
        try:
            self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except (
            state.Fail,
            state.InvalidArgument,
            state.InvalidGraph,
            state.InvalidProtobuf,
            state.NotImplemented,
        ) as error:
            raise ModelError(f"ONNX Runtime cannot read the graph: {error}: export the model again") from None
        names = [place.name for place in (*self._session.get_inputs(), *self._session.get_outputs())]
        if names != [_INPUT, _OUTPUT]:
            raise ModelError(f"an ONNX graph from {', '.join(names)}: not one that medcyclegan exported")

    def __call__(self, slices: torch.Tensor) -> torch.Tensor:
        """Translate ``slices`` ``(N, C, H, W)`` in [-1, 1]; both are float32 on the CPU."""
        (translated,) = self._session.run([_OUTPUT], {_INPUT: slices.contiguous().numpy()})
        return torch.from_numpy(translated)

    def to(self, device: torch.device) -> None:
        """Stay on the CPU; raises :class:`~medcyclegan.errors.ModelError` for another device."""
        if device.type != "cpu":
            raise ModelError(f"ONNX Runtime computes on the CPU here, not on {device}: use --backend torch")


def to_onnx(
    network: nn.Module, multiple: int, metadata: Mapping[str, str] | None = None, *, channels: int = 1
) -> bytes:
    """Return the ONNX graph of a generator, for any number of slices of any size that it reads.

    ``multiple``: what rows and columns must be multiples of (:meth:`ModelBundle.canvas_multiple`). The
    graph's input ``image`` ``(batch, channels, rows, columns)`` and its output ``translated``
    ``(batch, 1, rows, columns)`` are float32 in [-1, 1]; ``network`` itself is altered on the way.
    ``metadata`` becomes its ``metadata_props``. Raises
    :class:`~medcyclegan.errors.MissingExtraError` without ONNX.
    """
    _import("onnxscript")
    _import("onnx")
    _exchange_norms(network)
    # Three different numbers, so that the exporter takes none for another; the smallest that every layer reads.
    rows = multiple * -(-32 // multiple)
    example = torch.zeros(2, channels, rows, 2 * rows)
    with _silence():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamic_shapes=({0: "batch", 2: "rows", 3: "columns"},),
            verbose=False,
        )
    if program is None:
        raise ModelError("PyTorch gave no ONNX graph of this generator: use --backend torch")
    model = program.model_proto
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    graph: bytes = model.SerializeToString()
    return graph


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep to itself what the exporter says of its own insides: on stdout, in the log and in warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _TwoPassNorm(nn.Module):
    """Instance normalisation of plain operators, mean first: ONNX Runtime's own is off by 1 HU on a real CT."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - _mean(x)
        return centred * torch.rsqrt(_mean(centred.square()) + self.eps)


def _mean(x: torch.Tensor) -> torch.Tensor:
    """Return each channel's mean by way of its columns' means: shorter sums lose less in float32."""
    return x.mean(dim=2, keepdim=True).mean(dim=3, keepdim=True)


def _exchange_norms(network: nn.Module) -> None:
    """Write normalisations out, in the place of ours."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, InstanceNorm):
                setattr(parent, name, _TwoPassNorm(child.eps))


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"{name} is not installed, which ONNX needs: install the extra with pip install 'medcyclegan[onnx]'"
        ) from None
