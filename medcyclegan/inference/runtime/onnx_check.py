"""What an ONNX graph may hold before ONNX Runtime sees it: a generator as medcyclegan exports one, and nothing else."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from medcyclegan.errors import MissingExtraError, ModelError

__all__ = ["INPUT", "OUTPUT", "check_graph", "import_onnx"]

#: Names of a graph's input and output.
INPUT, OUTPUT = "image", "translated"
#: The operators that a generator is exported to, and two that other versions of the exporter may put in their place.
#: None of them reads a file, repeats or chooses a part of the graph, or makes a tensor as large as a value says.
_OPERATORS = {
    "Add", "Concat", "Constant", "Conv", "ConvTranspose", "Div", "Identity", "LeakyRelu", "Mul", "Pad", "Pow",
    "Reciprocal", "ReduceMean", "Relu", "Resize", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
#: A feature map has at most so many times the input's pixels: 512 filters, twice where two maps are joined.
_MOST_CHANNELS = 1024
#: Pixels by which padding may enlarge a feature map beyond the input, along each axis.
_MOST_PADDING = 64
#: Bytes that a tensor of settings, such as paddings or axes, has at most.
_LARGEST_SETTING = 1024
_REMEDY = "export the model again with medcyclegan export --format onnx"


def check_graph(graph: bytes, *, channels: int, multiple: int) -> bytes:
    """Return a graph that holds what was checked and nothing more, to be computed in the place of ``graph``.

    ``channels``: slices that the generator reads at once. ``multiple``: what rows and columns must be multiples of.
    Refused, before anything of it is run: data in other files, operators that no generator has (so loops, branches,
    other vendors' extensions and tensors of any size), functions, other inputs and outputs than ``image``
    ``(batch, channels, rows, columns)`` and ``translated`` ``(batch, 1, rows, columns)`` in float32, and feature maps
    of unknown size or out of proportion. Raises :class:`~medcyclegan.errors.ModelError`, and
    :class:`~medcyclegan.errors.MissingExtraError` without ONNX.
    """
    onnx = import_onnx("onnx")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(graph)
    except Exception as error:  # protobuf's DecodeError has no public home in every version
        raise ModelError(f"this is not an ONNX graph ({error}): {_REMEDY}") from None
    model.DiscardUnknownFields()
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.external_data or message.data_location == onnx.TensorProto.EXTERNAL
        ):
            raise ModelError(
                f"the ONNX graph takes {message.name or 'a tensor'!r} from another file ({_location(message)}): data "
                f"outside the graph are not read; {_REMEDY}"
            )
    _check_operators(model)
    _check_ports(onnx, model, channels)
    _check_shapes(onnx, model, channels, multiple)
    checked: bytes = model.SerializeToString()
    return checked


def import_onnx(name: str) -> Any:
    """Import a package of the extra ``onnx``; raises :class:`~medcyclegan.errors.MissingExtraError` without it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"{name} is not installed, which ONNX needs: install the extra with pip install 'medcyclegan[onnx]'"
        ) from None


def _messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all that it holds, at any depth, whatever their types are."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if hasattr(value, "__len__") and not hasattr(value, "ListFields") else [value]:
                yield from _messages(inner)


def _location(tensor: Any) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "unnamed")


def _check_operators(model: Any) -> None:
    if model.functions or model.training_info:
        raise ModelError(f"the ONNX graph has functions or training steps, which no generator has: {_REMEDY}")
    for node in model.graph.node:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if name not in _OPERATORS:
            raise ModelError(f"the ONNX graph has the operator {name!r}, which no generator has: {_REMEDY}")
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise ModelError(f"the ONNX graph has a graph inside {name}, which no generator has: {_REMEDY}")


def _check_ports(onnx: Any, model: Any, channels: int) -> None:
    """Refuse other inputs and outputs than a generator's; an input must take any number of slices of any size."""
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in given]
    names = [port.name for port in (*inputs, *model.graph.output)]
    if names != [INPUT, OUTPUT]:
        raise ModelError(f"an ONNX graph from {', '.join(names) or 'nothing'}: not one that medcyclegan exported")
    for port, expected in ((inputs[0], channels), (model.graph.output[0], 1)):
        tensor = port.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim]
        if tensor.elem_type != onnx.TensorProto.FLOAT or sizes != [None, expected, None, None]:
            found = " x ".join("any" if size is None else str(size) for size in sizes) or "no shape"
            raise ModelError(
                f"the ONNX graph's {port.name!r} is {found} of type {tensor.elem_type}, not any x {expected} x any x "
                f"any of float32: {_REMEDY}"
            )


def _check_shapes(onnx: Any, model: Any, channels: int, multiple: int) -> None:
    """Infer the size of every feature map for one small slice; refuse one that is unknown or out of proportion."""
    rows = multiple * -(-32 // multiple)
    slices = (1, channels, rows, 2 * rows)
    probe = _without_weights(onnx, model)
    for port in probe.graph.input:
        if port.name == INPUT:
            _set_shape(port, slices)
    for port in probe.graph.output:
        port.type.tensor_type.ClearField("shape")
    try:
        known = onnx.shape_inference.infer_shapes(probe, check_type=True, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"the ONNX graph's shapes do not fit together ({error}): {_REMEDY}") from None
    sizes = {port.name: [size.dim_value for size in port.type.tensor_type.shape.dim]
             for port in (*known.value_info, *known.output)}  # fmt: skip
    most = [1, _MOST_CHANNELS, *(n + _MOST_PADDING for n in slices[2:])]
    for name in (name for node in probe.graph.node for name in node.output if name):
        size = sizes.get(name, [])
        if not size or 0 in size or len(size) > len(most) or math.prod(size) > math.prod(most):
            raise ModelError(
                f"the ONNX graph's {name!r} is {_product(size) or 'of unknown size'} for an input of "
                f"{_product(slices)}: no generator does that; {_REMEDY}"
            )
    if sizes[OUTPUT] != [1, 1, *slices[2:]]:
        raise ModelError(
            f"the ONNX graph makes {_product(sizes[OUTPUT])} of {_product(slices)}: a translation has one channel and "
            f"its input's rows and columns; {_REMEDY}"
        )


def _without_weights(onnx: Any, model: Any) -> Any:
    """Return a copy of a model without what is known of its feature maps, and without the values of its weights.

    Shapes follow from the weights' own; only short tensors, such as paddings and axes, decide others by their values.
    """
    probe = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    probe.graph.name = model.graph.name or "generator"
    probe.graph.node.extend(model.graph.node)
    probe.graph.input.extend(model.graph.input)
    probe.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _LARGEST_SETTING:
            probe.graph.initializer.append(tensor)
        else:
            probe.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return probe


def _product(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _set_shape(port: Any, sizes: tuple[int, ...]) -> None:
    for dimension, size in zip(port.type.tensor_type.shape.dim, sizes, strict=True):
        dimension.dim_value = size
