"""Small ONNX graphs, written operator by operator: generators, and graphs that pretend to be one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

_ONE = {"image": 1}


def generator_model(
    nodes: Sequence[NodeProto],
    weights: Sequence[TensorProto] = (),
    *,
    inputs: Mapping[str, int] | None = None,
    outputs: Mapping[str, int] | None = None,
    kind: int = TensorProto.FLOAT,
    batch: int | str = "batch",
) -> ModelProto:
    """Return a model of ``nodes`` from ``image`` to ``translated``; ``inputs``, ``outputs``: name -> channels."""
    given, made = _ONE if inputs is None else inputs, {"translated": 1} if outputs is None else outputs

    def ports(channels: Mapping[str, int]) -> list[ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, kind, [batch, n, "rows", "columns"]) for name, n in channels.items()
        ]

    graph = helper.make_graph(list(nodes), "generator", ports(given), ports(made), initializer=list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def generator_graph(
    nodes: Sequence[NodeProto], weights: Sequence[TensorProto] = (), *, inputs: Mapping[str, int] | None = None
) -> bytes:
    """Return the bytes of :func:`generator_model`."""
    content: bytes = generator_model(nodes, weights, inputs=inputs).SerializeToString()
    return content


def identity_graph() -> bytes:
    """Return a graph that returns its input."""
    return generator_graph([helper.make_node("Identity", ["image"], ["translated"])])


def external_tensor(name: str, location: str, shape: tuple[int, ...]) -> TensorProto:
    """Return a float32 tensor whose values are in the file ``location``."""
    size = 4
    for length in shape:
        size *= length
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    return tensor
