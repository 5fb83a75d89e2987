"""Convert generators to ONNX graphs, and run such graphs with ONNX Runtime (extra ``onnx``)."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from medcyclegan.errors import ModelError
from medcyclegan.inference.runtime.onnx_check import INPUT, OUTPUT, check_graph, import_onnx
from medcyclegan.logs import errors_only
from medcyclegan.networks import InstanceNorm

__all__ = ["OPSET", "OnnxGenerator", "to_onnx"]

#: The ONNX operator set version of exported graphs.
OPSET = 20


class OnnxGenerator:
    """An ONNX graph, run by ONNX Runtime on the CPU.

    ``multiple``: rows and columns must be multiples of it. The graph is
    checked first (:func:`~medcyclegan.inference.runtime.onnx_check.check_graph`). Raises
    :class:`~medcyclegan.errors.MissingExtraError` without ONNX Runtime, and
    :class:`~medcyclegan.errors.ModelError` for bytes that are not a graph of this package.
    """

    shareable = False

    def __init__(self, graph: bytes, *, multiple: int = 4) -> None:
        runtime = import_onnx("onnxruntime")
        self.device = torch.device("cpu")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # errors are raised as exceptions
        checked = check_graph(graph, multiple=multiple)
        with _refused(runtime, "cannot read the graph"):
            self._session = runtime.InferenceSession(checked, options, providers=["CPUExecutionProvider"])

    def __call__(self, slices: torch.Tensor) -> torch.Tensor:
        """Translate ``slices`` ``(N, 1, H, W)`` in [-1, 1]; both are float32 on the CPU."""
        with _refused(importlib.import_module("onnxruntime"), "cannot compute the graph"):
            (translated,) = self._session.run([OUTPUT], {INPUT: slices.contiguous().numpy()})
        if translated.shape != (len(slices), 1, *slices.shape[2:]):
            raise ModelError(
                f"the ONNX graph returns {' x '.join(map(str, translated.shape))} for "
                f"{' x '.join(map(str, slices.shape))}: not one that medcyclegan exported"
            )
        return torch.from_numpy(translated)

    def to(self, device: torch.device) -> None:
        """Do nothing for the CPU; raise :class:`~medcyclegan.errors.ModelError` for another device."""
        if device.type != "cpu":
            raise ModelError(f"--backend onnx computes only on the CPU, not on {device}: use --backend torch")


def to_onnx(network: nn.Module, multiple: int, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the ONNX graph of a generator, for any number of slices of any size that it accepts.

    ``multiple``: rows and columns must be multiples of it (:meth:`ModelBundle.canvas_multiple`). The graph's input
    ``image`` and its output ``translated``, ``(batch, 1, rows, columns)``, are float32 in [-1, 1]. ``metadata`` becomes
    its ``metadata_props``. ``network`` is modified in place. Raises
    :class:`~medcyclegan.errors.MissingExtraError` without ONNX.
    """
    import_onnx("onnxscript")
    import_onnx("onnx")
    _exchange_norms(network)
    # Three different sizes, so that the exporter does not equate them; the smallest that every layer accepts.
    rows = multiple * -(-32 // multiple)
    example = torch.zeros(2, 1, rows, 2 * rows)
    with _silence():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: "batch", 2: "rows", 3: "columns"},),
            verbose=False,
        )
    if program is None:
        raise ModelError("PyTorch returned no ONNX graph for this generator: use --backend torch")
    model = program.model_proto
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    graph: bytes = model.SerializeToString()
    return graph


@contextlib.contextmanager
def _refused(runtime: Any, what: str) -> Iterator[None]:
    """Convert ONNX Runtime's own exceptions, whose only common base class is Exception, to ModelError."""
    known = vars(runtime.capi.onnxruntime_pybind11_state).values()
    kinds = tuple(kind for kind in known if isinstance(kind, type) and issubclass(kind, Exception))
    try:
        yield
    except kinds as error:
        raise ModelError(f"ONNX Runtime {what}: {error}: export the model again") from None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the exporter's messages about its internals, on stdout, in the log and in warnings."""
    with errors_only("torch.onnx"), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


class _TwoPassNorm(nn.Module):
    """Instance normalization in two passes, mean first; ONNX Runtime's own differs by 1 HU on a real CT."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - _mean(x)
        return centred * torch.rsqrt(_mean(centred.square()) + self.eps)


def _mean(x: torch.Tensor) -> torch.Tensor:
    """Return each channel's mean as the mean of its columns' means: shorter sums lose less precision in float32."""
    return x.mean(dim=2, keepdim=True).mean(dim=3, keepdim=True)


def _exchange_norms(network: nn.Module) -> None:
    """Replace each instance normalization by basic operators."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, InstanceNorm):
                setattr(parent, name, _TwoPassNorm(child.eps))
