import dataclasses
import hashlib
import json
import shutil

import pytest
import torch
from support.models import HU, MR, identity_model, identity_models_are_read, tiny_model
from support.stores import make_row

from medcyclegan.errors import IntensityError, ModelError, WriteError
from medcyclegan.model import Direction, ModelBundle, direction_to, target_scaling


@pytest.fixture
def folder(tmp_path):
    return tiny_model().save(tmp_path / "model")


def test_a_model_comes_back_as_it_was(folder):
    before, after = tiny_model(), ModelBundle.load(folder)
    assert after.domains == before.domains
    assert after.preparation == before.preparation
    assert after.generator == before.generator
    assert after.provenance == {"steps": 7}
    assert after.fingerprint == before.fingerprint
    image = torch.rand(2, 1, 32, 32)
    for name in ("G_AB", "G_BA"):
        assert torch.equal(before.build(name)(image), after.build(name)(image))
    assert sorted(p.name for p in folder.iterdir()) == [
        "G_AB.safetensors",
        "G_BA.safetensors",
        "MODEL_CARD.md",
        "model.json",
    ]


def test_the_weight_files_depend_on_the_weights_alone(folder, tmp_path):
    other = ModelBundle.load(folder).save(tmp_path / "again")
    for name in ("G_AB.safetensors", "G_BA.safetensors"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    record = json.loads((folder / "model.json").read_text())
    data = (folder / "G_AB.safetensors").read_bytes()
    assert record["weights"]["G_AB"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_the_fingerprint_names_the_model(folder):
    first = ModelBundle.load(folder)
    assert first.fingerprint != identity_model().fingerprint
    weights = {**first.weights, "G_AB": first.weights["G_BA"]}
    assert ModelBundle(first.domains, first.preparation, first.generator, weights).fingerprint != first.fingerprint


def test_it_is_not_overwritten_by_accident(folder):
    with pytest.raises(WriteError, match="--overwrite"):
        tiny_model().save(folder)
    tiny_model().save(folder, overwrite=True)


def edit(folder, change):
    record = json.loads((folder / "model.json").read_text())
    record.pop("record_sha256")
    change(record)
    (folder / "model.json").write_text(json.dumps(record))


def test_a_changed_record_is_noticed(folder):
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"pixel_mm": 4.0', '"pixel_mm": 2.0'))
    with pytest.raises(ModelError, match="was changed after it was written"):
        ModelBundle.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["preparation"].update(pixel_mm=-1.0),
        lambda r: r["preparation"].update(size=10**9),
        lambda r: r["preparation"].update(fit="foo"),
        lambda r: r["domains"]["A"].update(name="../../x"),
        lambda r: r["domains"]["A"].update(modality=[1]),
        lambda r: r["domains"]["B"]["scaling"].update(unit=[1]),
        lambda r: r.update(provenance=[1]),
    ],
)
def test_values_that_no_training_writes_are_refused(folder, change):
    edit(folder, change)
    with pytest.raises(ModelError, match=r"is not a model of medcyclegan"):
        ModelBundle.load(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is neither a folder nor a shipped model"),
        (lambda f: (f / "model.json").unlink(), "holds no model.json"),
        (lambda f: (f / "G_AB.safetensors").unlink(), "holds no G_AB.safetensors: .*incomplete"),
        (lambda f: (f / "G_BA.safetensors").write_bytes(b"x"), "SHA-256 differs"),
        (lambda f: (f / "model.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "model.json").write_text("[]"), "format 'list'"),
        (lambda f: edit(f, lambda r: r.update(format=99)), "format 99"),
        (lambda f: edit(f, lambda r: r.pop("domains")), "not a model of medcyclegan"),
        (lambda f: edit(f, lambda r: r["generator"].update(kind="magic")), "not a model of medcyclegan"),
        (lambda f: edit(f, lambda r: r["generator"].update(filters=3)), "do not fit"),
        (lambda f: edit(f, lambda r: r["domains"]["B"].update(name="ct")), "both domains are named 'ct'"),
        (lambda f: edit(f, lambda r: r["preparation"].update(colour="red")), "has the setting colour = .red."),
    ],
)
def test_a_damaged_folder_is_a_line(folder, damage, message):
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        ModelBundle.load(folder)
    assert "\n" not in str(caught.value)


def test_weights_from_outside_the_folder_are_refused(folder, tmp_path):
    (folder / "G_AB.safetensors").rename(tmp_path / "elsewhere")
    (folder / "G_AB.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="is a link that leads out of the model folder"):
        ModelBundle.load(folder)


def test_broken_weights_are_refused(tmp_path):
    model = tiny_model()
    state = {k: v.clone() for k, v in model.weights["G_AB"].items()}
    next(iter(state.values())).fill_(float("nan"))
    weights = {**model.weights, "G_AB": state}
    ModelBundle(model.domains, model.preparation, model.generator, weights).save(tmp_path / "m")
    with pytest.raises(ModelError, match="NaN or infinite weights"):
        ModelBundle.load(tmp_path / "m")


def test_a_model_with_a_setting_of_another_version_is_refused_by_its_name(folder):
    edit(folder, lambda record: record["generator"].update(context_slices=1))
    with pytest.raises(ModelError, match=r"has the setting context_slices = 1, which .*: use the version") as caught:
        ModelBundle.load(folder)
    assert "pydantic" not in str(caught.value)


def test_an_identity_model_of_a_test_is_refused_from_its_folder(tmp_path):
    folder = identity_model().save(tmp_path / "m")
    with pytest.raises(ModelError, match=r"is not a model of medcyclegan: .*Input should be 'resnet'"):
        ModelBundle.load(folder)
    with identity_models_are_read():
        image = torch.rand(1, 1, 8, 12)
        assert torch.equal(ModelBundle.load(folder).build("G_AB")(image), image)


def test_directions_are_named_by_domain():
    model = identity_model()
    ct, mr = model.domains
    assert model.direction("mr") == Direction("G_AB", ct, mr, (model,))
    assert model.direction("ct") == Direction("G_BA", mr, ct, (model,))
    other = identity_model()
    together = direction_to([model, other], "mr")
    assert (together.models, together.model, together.reverse.models) == ((model, other), model, (model, other))
    with pytest.raises(ModelError, match="--to pet: this model translates between ct and mr"):
        direction_to([model, other], "pet")


def test_outputs_take_the_median_scaling_of_the_training_volumes():
    rows = [make_row("t2", n, (3, 32, 32)) for n in range(3)]
    assert target_scaling(rows).upper == 101.0
    with pytest.raises(IntensityError, match="mixes intensities"):
        target_scaling([make_row("x", 0, (1, 32, 32)), make_row("x", 1, (1, 32, 32), scaling=HU.to_dict())])
    assert target_scaling([make_row("x", 0, (1, 32, 32), scaling=MR.to_dict())]) == MR


def test_what_could_not_be_loaded_again_is_refused_before_it_is_written() -> None:
    model = tiny_model()
    model.check()
    a, b = model.domains
    for change in (
        {"domains": (dataclasses.replace(a, modality="no modality"), b)},
        {"domains": (dataclasses.replace(a, name="../t1"), b)},
        {"preparation": dataclasses.replace(model.preparation, size=33)},
        {"provenance": {"spread": float("nan")}},
        {"provenance": {"training_set": {a.name: {"pixel_mm": [1.0, 1.0]}}}},  # no card can be written
    ):
        with pytest.raises(ModelError, match="no model can be built from these slices"):
            dataclasses.replace(model, **change).check()


def test_halved_weights_take_half_the_space_and_compute_alike(tmp_path):
    model = tiny_model()
    halved = ModelBundle.load(model.halved().save(tmp_path / "halved"))
    sizes = [(model.save(tmp_path / "whole") / "G_AB.safetensors").stat().st_size]
    sizes.append((tmp_path / "halved" / "G_AB.safetensors").stat().st_size)
    weights = sum(value.numel() for value in model.weights["G_AB"].values())
    assert sizes[0] - sizes[1] == pytest.approx(2 * weights, abs=64)
    assert halved.fingerprint != model.fingerprint
    image = torch.linspace(-1, 1, 32 * 32).reshape(1, 1, 32, 32)
    outputs = [bundle.build("G_AB")(image) for bundle in (model, halved)]
    assert outputs[1].dtype == torch.float32
    assert 0 < float((outputs[0] - outputs[1]).abs().max()) < 0.01
