"""Translation with neighbouring slices as channels: which slices, in which order, at the ends and in batches."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from support.models import CT_DOMAIN, MR_DOMAIN, AnyGenerator, identity_model
from support.phantoms import head_ct, make_affine

from medcyclegan import translate_volume
from medcyclegan.config import Generator
from medcyclegan.errors import ModelError
from medcyclegan.export import export_monai_bundle, export_onnx
from medcyclegan.export.onnx import graph_metadata
from medcyclegan.inference import InferenceOptions, translate
from medcyclegan.inference.planes import plan_canvas, plane_chunks
from medcyclegan.inference.uncertainty import cycle_error
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model import DomainModel, ModelBundle
from medcyclegan.networks import build_generator
from medcyclegan.plane import AXIAL, CORONAL, Preparation, plane_view

GREY = IntensityScaling("range", -1.0, 1.0, "x")
A, B = DomainModel("a", None, GREY), DomainModel("b", None, GREY)


def volume(shape=(16, 20, 21)):
    values = np.random.default_rng(0).uniform(-0.9, 0.9, shape).astype(np.float32)
    return head_ct(shape, make_affine("PIR", (1.0, 1.0, 1.0))).replace(array=values, modality=None)


def tiny(context: int, a=A, b=B, kind="resnet") -> ModelBundle:
    generator = Generator(kind=kind, filters=2, blocks=1, context_slices=context)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = {name: build_generator(generator, 32).state_dict() for name in ("G_AB", "G_BA")}
    return ModelBundle((a, b), Preparation(32, "physical", 1.0), generator, weights)


@pytest.mark.parametrize("plane", [AXIAL, CORONAL])
@pytest.mark.parametrize("slices", [None, [0, 3, 9]])
def test_slices_come_between_their_neighbours_and_the_last_ones_are_repeated(plane, slices) -> None:
    given, model = volume(), identity_model(A, B, size=32)
    fit = plan_canvas(given, model, plane)
    alone = torch.cat([canvas for _, canvas in plane_chunks(given, GREY, fit, plane)])
    count = plane_view(given.array, given.orientation, plane).shape[2]
    assert len(alone) == count
    around, numbers = [], []
    for part, canvas in plane_chunks(given, GREY, fit, plane, slices=slices, context=5):
        around.append(canvas)
        numbers += part if isinstance(part, list) else list(range(part.start, part.stop))
    assert numbers == (slices or list(range(count)))
    for number, own in zip(numbers, torch.cat(around), strict=True):
        expected = [min(max(number + offset, 0), count - 1) for offset in (-2, -1, 0, 1, 2)]
        assert torch.equal(own, alone[expected, 0])


@pytest.mark.parametrize("planes", ["axial", "three"])
def test_the_middle_slice_comes_back_to_its_place(planes) -> None:
    given = volume()
    model = dataclasses.replace(identity_model(A, B, size=32), generator=AnyGenerator(context_slices=3))
    result = translate_volume(given, model, "b", planes=planes, device="cpu")
    assert np.abs(result.array - given.array).max() < 1e-5


def test_a_translated_slice_depends_on_its_neighbours_and_no_further() -> None:
    given, model = volume(), tiny(3)
    before = plane_view(translate_volume(given, model, "b", device="cpu").array, given.orientation)
    changed = given.replace(array=given.array.copy())
    plane_view(changed.array, given.orientation)[:, :, 9] *= -1
    after = plane_view(translate_volume(changed, model, "b", device="cpu").array, given.orientation)
    differs = np.abs(after - before).max(axis=(0, 1)) > 1e-6
    assert np.flatnonzero(differs).tolist() == [8, 9, 10]


def test_batches_and_the_cycle_and_mirroring_work() -> None:
    given, model = volume(), tiny(3)
    one, many = (
        translate(given, model.direction("b"), InferenceOptions(device="cpu", batch_size=n, tta=True)) for n in (1, 4)
    )
    assert np.array_equal(one.volume.array, many.volume.array)
    assert 0 < cycle_error(given, one, InferenceOptions(device="cpu"), [2, 10]) < 1


def test_models_that_read_other_numbers_of_slices_are_not_averaged() -> None:
    with pytest.raises(ModelError, match="number 2 reads 3 slices at once, the first 1"):
        translate_volume(volume(), [tiny(1), tiny(3)], "b", device="cpu")


def test_a_model_folder_keeps_it(tmp_path) -> None:
    loaded = ModelBundle.load(tiny(5).save(tmp_path / "model"))
    assert loaded.generator.context_slices == 5
    assert loaded.fingerprint == tiny(5).fingerprint
    record = json.loads((tmp_path / "model" / "model.json").read_text("utf-8"))
    del record["generator"]["context_slices"]  # as folders without context have it
    del record["record_sha256"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(ModelError, match="do not fit the resnet generator"):
        ModelBundle.load(tmp_path / "model")


@pytest.mark.parametrize("kind", ["resnet", "unet", "subpixel_unet"])
def test_onnx_gives_the_same_and_states_its_number_of_slices(tmp_path, kind) -> None:
    pytest.importorskip("onnxruntime")
    model = tiny(3, CT_DOMAIN, MR_DOMAIN, kind)
    parity = export_onnx(model, tmp_path / "onnx", volume=head_ct())
    assert [p.slices for p in parity] == ["real", "translated"]
    assert graph_metadata(model, model.directions[0])["context_slices"] == "3"
    mine, theirs = (
        translate_volume(head_ct(), one, "mr", backend=backend, device="cpu").array
        for one, backend in ((model, "torch"), (tmp_path / "onnx", "onnx"))
    )
    assert np.abs(mine - theirs).max() < 0.5  # of 1,000; another slice would be off by tens


def test_a_monai_bundle_names_its_channels(tmp_path) -> None:
    folder = export_monai_bundle(tiny(3), tmp_path / "bundle")
    formats = json.loads((folder / "configs" / "metadata.json").read_text("utf-8"))["network_data_format"]
    assert formats["inputs"]["image"]["num_channels"] == formats["outputs"]["pred"]["num_channels"] == 3
    assert formats["inputs"]["image"]["channel_def"]["1"] == "a, slice 2"
