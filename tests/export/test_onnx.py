import dataclasses
import json
import sys

import nibabel as nib
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from support.models import tiny_model
from support.phantoms import head_ct, write_nifti

from medcyclegan import translate_volume
from medcyclegan.cli.main import main
from medcyclegan.config import Generator
from medcyclegan.errors import MissingExtraError, ModelError, UsageError, WriteError
from medcyclegan.export import export_onnx
from medcyclegan.inference import InferenceOptions, Translation, assess, load_models, translate
from medcyclegan.inference.runtime.onnx import OnnxGenerator, to_onnx
from medcyclegan.model import ModelBundle, direction_to
from medcyclegan.networks import InstanceNorm, build_generator


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "onnx"
    parity = export_onnx(tiny_model(), folder, volume=head_ct())
    return folder, parity


def test_the_folder_is_a_model(exported):
    folder, _ = exported
    assert sorted(p.name for p in folder.iterdir()) == ["G_AB.onnx", "G_BA.onnx", "MODEL_CARD.md", "model.json"]
    bundle = ModelBundle.load(folder)
    assert bundle.fingerprint == tiny_model().fingerprint
    assert bundle.domains == tiny_model().domains
    with pytest.raises(ModelError, match="--backend onnx"):
        translate_volume(head_ct(), bundle, "mr")


def test_the_metadata_of_a_graph_are_enough_to_use_it(exported):
    folder, _ = exported
    graph = onnx.load(folder / "G_AB.onnx")
    onnx.checker.check_model(graph)
    told = {prop.key: prop.value for prop in graph.metadata_props}
    assert (told["source_domain"], told["target_domain"]) == ("ct", "mr")
    assert json.loads(told["source_scaling"])["upper"] == 3071.0
    assert json.loads(told["target_scaling"])["unit"] == "arbitrary units"
    assert json.loads(told["preparation"]) == dataclasses.asdict(tiny_model().preparation)
    assert told["opset"] == str(graph.opset_import[0].version) == "20"
    assert told["model_sha256"] == tiny_model().fingerprint
    shape = graph.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", 1, "rows", "columns"]


def test_parity_is_measured_on_real_slices_there_and_back(exported):
    _, (there, back) = exported
    assert (there.source, there.target, there.slices) == ("ct", "mr", "real")
    assert (back.source, back.target, back.slices) == ("mr", "ct", "translated")
    assert back.difference.unit == "HU"
    assert back.difference.largest < 0.1
    assert str(back).startswith("mr to ct: differs by at most ")


def test_onnx_runtime_gives_what_pytorch_gives(exported):
    folder, _ = exported
    ct = head_ct()
    mine, theirs = (
        translate_volume(ct, model, "mr", backend=backend).array
        for model, backend in ((tiny_model(), "torch"), (folder, "onnx"))
    )
    assert np.abs(mine - theirs).max() < 0.1


def test_a_model_folder_is_made_a_graph_on_the_way(caplog):
    with caplog.at_level("INFO"):
        result = translate_volume(head_ct(), tiny_model(), "mr", backend="onnx")
    assert "export --format onnx stores it for later runs" in caplog.text
    assert np.abs(result.array - translate_volume(head_ct(), tiny_model(), "mr").array).max() < 0.1
    assert result.derivation.settings == ("computed by ONNX Runtime",)


def test_the_cycle_is_computed_by_the_other_graph(exported):
    models = load_models(exported[0])
    computing = InferenceOptions(backend="onnx")
    done = translate(head_ct(), direction_to(models, "mr"), computing)
    assert isinstance(done, Translation)
    assert assess(head_ct(), done, computing).cycle_error > 0


@pytest.mark.parametrize("kind", ["unet", "subpixel_unet", "resnet"])
def test_any_batch_and_size_goes_through(kind):
    network = build_generator(Generator(kind=kind, filters=2, blocks=1, upsampling="resize"), 32).eval()
    multiple = {"unet": 32, "subpixel_unet": 16, "resnet": 4}[kind]
    run = OnnxGenerator(to_onnx(build_with(network, kind), multiple), multiple=multiple)
    for shape in ((1, 1, 32, 32), (3, 1, 64, 96), (2, 1, 96, 32)):
        slices = torch.rand(shape) * 2 - 1
        with torch.inference_mode():
            assert (run(slices) - network(slices)).abs().max() < 1e-4


def build_with(network, kind):
    copy = build_generator(Generator(kind=kind, filters=2, blocks=1, upsampling="resize"), 32).eval()
    copy.load_state_dict(network.state_dict())
    return copy


def test_an_existing_folder_is_kept(exported):
    with pytest.raises(WriteError, match="--overwrite"):
        export_onnx(tiny_model(), exported[0])


def test_a_graph_that_was_changed_is_refused(exported, tmp_path):
    bundle = ModelBundle.load(exported[0])
    bundle.write_into(tmp_path, bundle.graphs)
    (tmp_path / "G_BA.onnx").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"G_BA.onnx is not the file that model.json names"):
        ModelBundle.load(tmp_path)
    with pytest.raises(ModelError, match="is not an ONNX graph"):
        OnnxGenerator(b"something else")


def test_a_graph_of_somebody_else_is_refused():
    place = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [place], [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(ModelError, match="not one that medcyclegan exported"):
        OnnxGenerator(model.SerializeToString())


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"medcyclegan\[onnx\]"):
        OnnxGenerator(b"")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match="onnxscript is not installed"):
        to_onnx(torch.nn.Identity(), 4)


def test_another_device_is_refused(exported):
    with pytest.raises(UsageError, match="computes on the CPU"):
        translate_volume(head_ct(), exported[0], "mr", backend="onnx", device="cuda")


def test_the_command_prints_folder_and_parity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model().save(tmp_path / "runs" / "latest" / "model")
    write_nifti(head_ct(), tmp_path / "ct.nii.gz")
    result = CliRunner().invoke(main, ["export", "--format", "onnx", "--compare", "ct.nii.gz"])
    assert result.exit_code == 0, result.output
    first, there, back = result.stdout.splitlines()
    assert first == "onnx"
    assert there.startswith("ct to mr: differs by at most")
    assert "HU on 4 translated slices" in back
    done = CliRunner().invoke(
        main, ["translate-volume", "ct.nii.gz", "o.nii.gz", "--model", "onnx", "--backend", "onnx"]
    )
    assert (done.exit_code, done.stdout) == (0, "o.nii.gz\n"), done.output
    again = CliRunner().invoke(main, ["export", "--format", "onnx"])
    assert (again.exit_code, again.stderr.count("Error: ")) == (1, 1)
    wrong = CliRunner().invoke(main, ["export", "--format", "monai-bundle", "--compare", "ct.nii.gz"])
    assert wrong.exit_code == 2


def test_a_flat_channel_keeps_its_precision():
    """A standard deviation of 0.01 around 1, which one-pass sums over a channel in float32 lose."""
    noise = torch.randn(1, 1, 512, 512, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flat = (1 + 0.01 * noise).float()
    exact = torch.nn.functional.instance_norm(flat.double())
    copies, mean = torch.nn.Conv2d(1, 8, 1, bias=False), torch.nn.Conv2d(8, 1, 1, bias=False)
    torch.nn.init.ones_(copies.weight)
    torch.nn.init.constant_(mean.weight, 1 / 8)
    ours = OnnxGenerator(to_onnx(torch.nn.Sequential(copies, InstanceNorm(8), mean), 4))(flat)
    assert (ours - exact).abs().max() < 2e-5


def test_the_compared_volume_is_read_with_the_options_for_reading(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model().save(tmp_path / "runs" / "latest" / "model")
    ct = head_ct()
    nib.save(nib.Nifti1Image(np.stack([ct.array, ct.array], axis=3), ct.affine), "two.nii.gz")
    wanted = ["export", "--format", "onnx", "--compare", "two.nii.gz"]
    refused = CliRunner().invoke(main, wanted)
    assert (refused.exit_code, "choose one with --volume N" in refused.stderr) == (1, True)
    done = CliRunner().invoke(main, [*wanted, "--volume", "1"])
    assert done.exit_code == 0, done.output
    assert "HU on 4 translated slices" in done.stdout
    ignored = CliRunner().invoke(main, ["export", "--format", "onnx", "--volume", "1", "--overwrite"])
    assert (ignored.exit_code, "of --compare only" in ignored.stderr) == (2, True)
