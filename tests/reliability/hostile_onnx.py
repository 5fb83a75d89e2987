"""Model folders whose ONNX graphs read other files, never end, or take all memory; and one that does no harm."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper
from reliability.attacks import Case, Prepare
from reliability.sandbox import Outcome
from support.models import tiny_model
from support.onnx_graphs import external_tensor, generator_graph, generator_model, identity_graph

_COMMAND = ["translate-volume", "in.nii.gz", "out.nii.gz", "--model", "onnx", "--to", "mr", "--backend", "onnx"]
_CANVAS = (1, 1, 80, 80)
_PIPE = b"\x80\x04cposix\nsystem\n"


def cases() -> list[Case]:
    """Return the cases."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    joins = [helper.make_node("Concat", [f"x{n}"] * 2, [f"x{n + 1}"], axis=1) for n in range(40)]
    doubling = [
        _node("Identity", "image", "x0"),
        *joins,
        helper.make_node("ReduceMean", ["x40", "axes"], ["translated"]),
    ]
    pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 10**5, 10**5, 0, 0, 10**5, 10**5])
    back = helper.make_tensor("back", TensorProto.INT64, [8], [0, 0, -(10**5), -(10**5), 0, 0, -(10**5), -(10**5)])
    huge = helper.make_tensor("size", TensorProto.INT64, [1], [10**11])
    sized = [helper.make_node("ConstantOfShape", ["size"], ["z"]), helper.make_node("ReduceMean", ["z"], ["m"])]
    external = "from another file .*: data outside the graph are not read"
    found = {
        "data beside the working folder": (_external("secret.bin"), rf"takes 'w' {external}"),
        "data in another folder": (_external("../outside/secret.bin"), r"takes 'w' .*\(../outside/secret.bin\)"),
        "data at a full path": (_external("/etc/passwd"), r"takes 'w' from another file \(/etc/passwd\)"),
        "data at an address": (_external("*/_ORT_MEM_ADDR_/*"), r"takes 'w' .*_ORT_MEM_ADDR_"),
        "data of a constant": (_external_constant("secret.bin"), rf"takes 'w' {external}"),
        "a loop without an end": (_loop(), "the operator 'Loop', which no generator has"),
        "an operator that opens a file": (
            generator_graph([helper.make_node("EPContext", ["image"], ["translated"], domain="com.microsoft",
                                              ep_cache_context="../outside/secret.bin", embed_mode=0)]),
            "the operator 'com.microsoft.EPContext'",
        ),
        "a tensor of 400 GB": (
            generator_graph([*sized, helper.make_node("Add", ["image", "m"], ["translated"])], [huge]),
            "the operator 'ConstantOfShape'",
        ),
        "maps that double 40 times": (generator_graph(doubling, [axes]), r"'x\d+' is 1 x \d+ x \d+ x \d+ for an input"),
        "a padding of 100,000 pixels": (
            generator_graph([_node("Pad", "image", "pads", "x"), _node("Pad", "x", "back", "translated")],
                            [pads, back]),
            "'x' is 1 x 1 x 2000",
        ),
        "another output": (
            generator_model([_node("Identity", "image", "more")], outputs={"more": 1}).SerializeToString(),
            "from image, more: not one that medcyclegan exported",
        ),
        "two channels": (
            generator_model([helper.make_node("Concat", ["image"] * 2, ["translated"], axis=1)],
                            outputs={"translated": 2}).SerializeToString(),
            "'translated' is any x 2 x any x any",
        ),
        "a pickle": (pickle.dumps({"a": _PIPE}), "this is not an ONNX graph"),
    }  # fmt: skip
    attacks = [Case(f"ONNX: {name}", _folder(graph), said) for name, (graph, said) in found.items()]
    return [*attacks, Case("ONNX: no attack at all", _folder(identity_graph()), kind="done", seen=_translated)]


def _node(kind: str, *names: str) -> NodeProto:
    return helper.make_node(kind, list(names[:-1]), [names[-1]])


def _folder(graph: bytes) -> Prepare:
    """Make a model folder, with its sums right, of the graph and one that returns its input."""

    def prepare(folder: Path) -> list[str]:
        for place in (folder, folder.parent / "outside"):
            np.full(_CANVAS, 0.5, np.float32).tofile(place / "secret.bin")
        (folder / "onnx").mkdir()
        tiny_model().write_into(folder / "onnx", {"G_AB": graph, "G_BA": identity_graph()})
        return _COMMAND

    return prepare


def _external(location: str) -> bytes:
    return generator_graph([_node("Add", "image", "w", "translated")], [external_tensor("w", location, _CANVAS)])


def _external_constant(location: str) -> bytes:
    constant = helper.make_node("Constant", [], ["w"], value=external_tensor("w", location, _CANVAS))
    return generator_graph([constant, _node("Add", "image", "w", "translated")])


def _loop() -> bytes:
    """Return a graph that adds 0 for ever."""
    kinds = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "go on": TensorProto.BOOL}
    ports = {name: helper.make_tensor_value_info(name, kind, []) for name, kind in kinds.items()}
    value, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("value", "result"))
    nodes = [_node("Identity", "go", "go on"), _node("Identity", "value", "result")]
    body = helper.make_graph(nodes, "body", [ports["i"], ports["go"], value], [ports["go on"], result])
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    return generator_graph([helper.make_node("Loop", ["", "true", "image"], ["translated"], body=body)], [true])


def _translated(folder: Path, _: Outcome) -> bool:
    return (folder / "out.nii.gz").exists()
