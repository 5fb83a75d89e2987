"""Check, before ONNX Runtime loads it, that an ONNX graph holds only a generator as medcyclegan exports it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from medcyclegan.errors import MissingExtraError, ModelError

__all__ = ["INPUT", "OUTPUT", "check_graph", "import_onnx"]

#: Names of a graph's input and output.
INPUT, OUTPUT = "image", "translated"
#: The operators of exported generators, and two that other versions of the exporter may use instead.
#: None of them reads a file, repeats or selects a part of the graph, or creates a tensor whose size is a value.
_OPERATORS = {
    "Add", "Concat", "Constant", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Identity", "LeakyRelu", "Mul", "Pad",
    "Pow", "Reciprocal", "ReduceMean", "Relu", "Resize", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
#: Maximum size of a feature map, as a multiple of the input's pixels: 512 filters, doubled by concatenation.
_MOST_CHANNELS = 1024
#: Maximum number of pixels by which padding may extend a feature map beyond the input, along each axis.
_MOST_PADDING = 64
#: Maximum size in bytes of a tensor of settings, such as paddings or axes.
_LARGEST_SETTING = 1024
_REMEDY = "export the model again with medcyclegan export --format onnx"


def check_graph(graph: bytes, *, multiple: int) -> bytes:
    """Return a copy of ``graph`` that holds only what was checked, to be run instead of it.

    ``multiple``: rows and columns must be multiples of it.
    Rejected before anything is run: data in other files, operators that no generator has (which excludes loops,
    branches, vendor extensions and tensors of arbitrary size), functions, inputs and outputs other than ``image`` and
    ``translated``, both ``(batch, 1, rows, columns)`` in float32, and feature maps
    of unknown or excessive size. Raises :class:`~medcyclegan.errors.ModelError`, and
    :class:`~medcyclegan.errors.MissingExtraError` without ONNX.
    """
    onnx = import_onnx("onnx")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(graph)
    except Exception as error:  # not every version of protobuf exports DecodeError publicly
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
    _check_ports(onnx, model)
    _check_shapes(onnx, model, multiple)
    checked: bytes = model.SerializeToString()
    return checked


def import_onnx(name: str) -> Any:
    """Import a package of the extra ``onnx``; raises :class:`~medcyclegan.errors.MissingExtraError` without it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"{name} is not installed, but ONNX needs it: install it with pip install 'medcyclegan[onnx]'"
        ) from None


def _messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all messages in it, at any depth and of any type."""
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


def _check_ports(onnx: Any, model: Any) -> None:
    """Reject inputs and outputs other than a generator's, which have any number of slices of any size."""
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in given]
    names = [port.name for port in (*inputs, *model.graph.output)]
    if names != [INPUT, OUTPUT]:
        raise ModelError(f"an ONNX graph from {', '.join(names) or 'nothing'}: not one that medcyclegan exported")
    for port in (inputs[0], model.graph.output[0]):
        tensor = port.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim]
        if tensor.elem_type != onnx.TensorProto.FLOAT or sizes != [None, 1, None, None]:
            found = " x ".join("any" if size is None else str(size) for size in sizes) or "no shape"
            raise ModelError(
                f"the ONNX graph's {port.name!r} is {found} of type {tensor.elem_type}, not any x 1 x any x any "
                f"of float32: {_REMEDY}"
            )


def _check_shapes(onnx: Any, model: Any, multiple: int) -> None:
    """Infer the size of every feature map for one small slice; reject unknown or excessive sizes."""
    rows = multiple * -(-32 // multiple)
    slices = (1, 1, rows, 2 * rows)
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
            f"the ONNX graph returns {_product(sizes[OUTPUT])} for {_product(slices)}: a translation has one channel "
            f"and its input's rows and columns; {_REMEDY}"
        )


def _without_weights(onnx: Any, model: Any) -> Any:
    """Return a copy of a model without recorded shapes of feature maps and without the values of its weights.

    The shapes of feature maps depend on the shapes of the weights, and on the values of short tensors only, such as
    paddings and axes.
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
