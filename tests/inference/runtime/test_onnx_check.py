"""An ONNX graph is checked before it is run: it must be a generator and read no file."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from support.onnx_graphs import external_tensor, generator_graph, generator_model

from medcyclegan.errors import ModelError
from medcyclegan.inference.runtime.onnx import OnnxGenerator
from medcyclegan.inference.runtime.onnx_check import check_graph

FLOAT = TensorProto.FLOAT
SLICES = torch.linspace(-1, 1, 32 * 64).reshape(1, 1, 32, 64)


def node(kind, *names, **attributes):
    return helper.make_node(kind, list(names[:-1]), [names[-1]], **attributes)


def refused(model, message, **options):
    with pytest.raises(ModelError, match=message) as caught:
        OnnxGenerator(model.SerializeToString(), **options)
    assert "\n" not in str(caught.value)


def test_a_generator_passes_and_is_computed():
    weights = helper.make_tensor("w", FLOAT, [1], [0.5])
    run = OnnxGenerator(generator_graph([node("Add", "image", "w", "translated")], [weights]))
    assert torch.equal(run(SLICES), SLICES + 0.5)


@pytest.mark.parametrize("where", ["initializer", "attribute", "sparse", "unused"])
@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "{}/secret.bin", "*/_ORT_MEM_ADDR_/*"])
def test_data_in_another_file_are_refused(where, location, tmp_path, monkeypatch):
    place = tmp_path / "here"
    place.mkdir()
    for folder in (place, tmp_path):
        np.full(2048, 0.25, np.float32).tofile(folder / "secret.bin")
    monkeypatch.chdir(place)
    tensor = external_tensor("w", location.format(tmp_path), (1, 1, 32, 64))
    model = generator_model([node("Add", "image", "w", "translated")], [tensor])
    if where == "initializer" and location == "secret.bin":
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (read,) = session.run(None, {"image": np.zeros((1, 1, 32, 64), np.float32)})
        assert (read == 0.25).all(), "ONNX Runtime alone reads the file"
    if where != "initializer":
        del model.graph.initializer[:]
    if where == "attribute":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    elif where == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    elif where == "unused":
        model.graph.node[0].attribute.add(name="x", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
    refused(model, r"takes 'w' from another file \(.*(secret.bin|ADDR).*: data outside the graph are not read")


def test_a_location_alone_is_enough():
    tensor = external_tensor("w", "secret.bin", (1,))
    tensor.ClearField("data_location")
    refused(generator_model([node("Add", "image", "w", "translated")], [tensor]), "from another file")


def test_no_operator_that_no_generator_has():
    for kind, domain in (
        ("Loop", ""),
        ("If", ""),
        ("ConstantOfShape", ""),
        ("Expand", ""),
        ("EPContext", "com.microsoft"),
    ):
        model = generator_model([helper.make_node(kind, ["image"], ["translated"], domain=domain)])
        refused(model, f"the operator '{'com.microsoft.' if domain else ''}{kind}', which no generator has")
    inner = generator_model([node("Identity", "image", "translated")]).graph
    refused(generator_model([node("Identity", "image", "translated", body=inner)]), "a graph inside Identity")
    model = generator_model([node("Identity", "image", "translated")])
    model.functions.add(name="f", domain="own")
    refused(model, "functions or training steps")


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ({"inputs": {"picture": 1}}, "from picture, translated: not one that medcyclegan exported"),
        ({"inputs": {"image": 1, "more": 1}}, "from image, more, translated: not one"),
        ({"outputs": {"translated": 1, "image2": 1}}, "from image, translated, image2: not one"),
        ({"outputs": {}}, "from image: not one"),
        ({"inputs": {"image": 3}}, "'image' is any x 3 x any x any of type 1, not any x 1"),
        ({"outputs": {"translated": 2}}, "'translated' is any x 2 x any x any"),
        ({"kind": TensorProto.DOUBLE}, "of type 11, not .* of float32"),
        ({"batch": 4}, "'image' is 4 x 1 x any x any"),
    ],
)
def test_other_inputs_and_outputs_are_refused(ports, message):
    refused(generator_model([node("Identity", "image", "translated")], **ports), message)


def doubled(times):
    names = ["image", *(f"x{n}" for n in range(times))]
    joins = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in itertools.pairwise(names)]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    return generator_model([*joins, node("ReduceMean", names[-1], "axes", "translated", keepdims=1)], [axes])


def padded(pixels):
    pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, pixels, pixels, 0, 0, pixels, pixels])
    back = helper.make_tensor("back", TensorProto.INT64, [8], [0, 0, -pixels, -pixels, 0, 0, -pixels, -pixels])
    return generator_model([node("Pad", "image", "pads", "x"), node("Pad", "x", "back", "translated")], [pads, back])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (doubled(30), r"'x12' is 1 x 8192 x 32 x 64 for an input of 1 x 1 x 32 x 64: no generator does that"),
        (padded(20_000), "'x' is 1 x 1 x 40032 x 40064"),
        (generator_model([node("Concat", "image", "image", "translated", axis=1)]), "shapes do not fit|returns 1 x 2"),
        (generator_model([node("Concat", "image", "image", "translated", axis=2)]), "returns 1 x 1 x 64 x 64 for"),
        (generator_model([node("Add", "image", "missing", "translated")]), "shapes do not fit|of unknown size"),
    ],
)
def test_feature_maps_out_of_proportion_are_refused(model, message):
    refused(model, message)


def test_within_bounds_they_pass():
    for model in (doubled(5), padded(3)):
        assert OnnxGenerator(model.SerializeToString())(SLICES).shape == SLICES.shape


def test_what_is_run_is_what_was_checked():
    model = generator_model([node("Identity", "image", "translated")])
    unknown = model.SerializeToString() + b"\xfa\x3f\x04evil"  # a field that no ONNX message has
    assert check_graph(unknown, multiple=4) == model.SerializeToString()


@pytest.mark.parametrize("graph", [b"", b"\x00" * 10, b"pickle"])
def test_other_bytes_are_no_graph(graph):
    with pytest.raises(ModelError, match=r"not an ONNX graph|not one that medcyclegan exported"):
        OnnxGenerator(graph)
