"""The shipped model that a training starts from by default."""

import dataclasses
import json
import logging
from pathlib import Path

import pytest
import torch
from support.models import MR, tiny_model
from support.stores import blobs, make_store

from medcyclegan.config import load_config, parse_config
from medcyclegan.model import DomainModel, ModelBundle, shipped
from medcyclegan.model.shipped import order_of_domains
from medcyclegan.plane import Preparation
from medcyclegan.training import default_start, train
from medcyclegan.training.plan import build_plan
from medcyclegan.training.run import shipped_start as module
from medcyclegan.training.run.shipped_start import shipped_start

T1, T2, CT = ("t1", "MR"), ("t2", "MR"), ("ct", "CT")
ABOUT = {"title": "", "trained_on": [], "measured": [], "limits": []}
NETWORKS = {"generator": {"filters": 2, "blocks": 1}, "discriminator": {"filters": 2, "layers": 2}}


@pytest.mark.parametrize(
    ("own", "order"),
    [
        ((T1, T2), (0, 1)),
        ((T2, T1), (1, 0)),
        ((("T2w", None), ("sub_T1w", "MR")), (1, 0)),
        ((("mr", "MR"), T2), (0, 1)),
        ((("flair", "MR"), T2), None),
        ((("t1", "CT"), T2), None),
        ((("a", None), ("b", None)), None),
        ((T1, CT), None),
        ((("pre_t1", "MR"), ("post_t1", "MR")), None),
    ],
)
def test_domains_fit_by_the_contrasts_in_their_names(own, order):
    assert order_of_domains((T1, T2), own) == order


@pytest.fixture
def store(tmp_path):
    stacks = {"t1": [blobs(3, 32, 0), blobs(3, 32, 1)], "t2": [blobs(3, 32, 2, inverted=True)]}
    make_store(tmp_path / "slices", stacks)
    return tmp_path / "slices"


@pytest.fixture
def ship(tmp_path, monkeypatch):
    """Return a function that ships a model of T1 and T2 with the given name, pixel size and scale of the weights."""
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "shipped")

    def put(name, pixel_mm=1.0, scale=1.0):
        model = tiny_model(DomainModel("t1", "MR", MR), DomainModel("t2", "MR", MR))
        scaled = {of: {key: scale * tensor for key, tensor in own.items()} for of, own in model.weights.items()}
        model = dataclasses.replace(model, weights=scaled)
        made = Preparation(32, "physical", pixel_mm)
        model = dataclasses.replace(model, preparation=made, provenance={"shipped": ABOUT})
        model.save(tmp_path / "shipped" / name)
        return model

    return put


def config_for(model: ModelBundle):
    values = {"networks": {**NETWORKS, "generator": model.generator.model_dump()}}
    return parse_config({**values, "training": {"max_steps": 1, "precision": "fp32"}}, "test")


def agree(monkeypatch, **values):
    """Let the models, by name, agree with real slices this well."""
    of = {ModelBundle.load(shipped.SHIPPED / name).fingerprint: value for name, value in values.items()}
    monkeypatch.setattr(module, "agreement_of_contrasts", lambda plan, model, references: of[model.fingerprint])


def test_the_model_that_agrees_best_is_chosen(store, ship, monkeypatch, caplog):
    plan = build_plan(store, config_for(ship("first")))
    ship("second", scale=0.5)
    agree(monkeypatch, first=0.8, second=0.9)
    with caplog.at_level(logging.INFO, "medcyclegan"):
        assert shipped_start(plan) == "second"
    assert "starting from the shipped model second (--init-from none trains from scratch)" in caplog.text


def test_a_model_no_better_than_no_translation_is_not_chosen(store, ship, monkeypatch, caplog):
    plan = build_plan(store, config_for(ship("first")))
    agree(monkeypatch, first=-0.99)
    with caplog.at_level(logging.INFO, "medcyclegan"):
        assert shipped_start(plan) is None
    assert "no start from first" in caplog.text
    assert "(--init-from first starts from it all the same)" in caplog.text


def test_other_pixels_and_other_generators_do_not_fit(store, ship, monkeypatch):
    monkeypatch.setattr(module, "agreement_of_contrasts", lambda *arguments: 1.0)
    model = ship("coarse", pixel_mm=1.2)
    assert shipped_start(build_plan(store, config_for(model))) is None
    ship("fine", pixel_mm=1.05)
    assert shipped_start(build_plan(store, config_for(model))) == "fine"
    wider = config_for(model).model_dump(mode="json")
    wider["networks"]["generator"]["filters"] = 3
    assert shipped_start(build_plan(store, parse_config(wider, "test"))) is None


def test_contrasts_that_hardly_agree_are_no_reason_to_start_there(store, ship, monkeypatch):
    plan = build_plan(store, config_for(ship("first")))
    monkeypatch.setattr(module, "contrast_of_inputs", lambda reference: -0.6)
    for agreement, start in ((0.14, None), (0.16, "first")):
        agree(monkeypatch, first=agreement)
        assert shipped_start(plan) == start


def test_a_training_with_a_configuration_starts_there_only_on_request(store, ship, monkeypatch, tmp_path):
    model = ship("first")
    monkeypatch.setattr(module, "agreement_of_contrasts", lambda *arguments: 1.0)
    options = {"config": config_for(model), "device": "cpu"}
    begun = train(store, out=tmp_path / "a", init_from="auto", **options)
    assert json.loads((begun / "run.json").read_text())["init_from"] == model.fingerprint
    for number, none in enumerate(("none", None)):
        run = train(store, out=tmp_path / f"b{number}", init_from=none, **options)
        assert json.loads((run / "run.json").read_text())["init_from"] is None


def test_the_configuration_follows_from_the_start(store, ship, tmp_path, monkeypatch):
    assert default_start(store, None, None) == ("default", "none"), "nothing is shipped"
    ship("first")
    monkeypatch.setattr(module, "shipped_start", lambda plan: "first")
    assert default_start(store, None, None) == default_start(store, None, "auto") == ("cpu", "first")
    assert default_start(store, None, "none") == ("default", "none")
    assert default_start(store, ("t1", "ct"), None) == ("default", "none")
    assert default_start(tmp_path / "nowhere", None, None) == ("default", "none")
    first = tmp_path / "shipped" / "first"
    assert default_start(store, None, first) == ("default", first), "a small resnet"
    monkeypatch.setattr(module, "shipped_start", lambda plan: None)
    assert default_start(store, None, None) == ("default", "none"), "it does not agree with the slices"


def test_a_domain_that_is_only_called_mr_has_no_default_start(ship, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "agreement_of_contrasts", lambda *arguments: 1.0)
    model = ship("first")
    make_store(tmp_path / "slices", {"mr": [blobs(3, 32, 0)], "t2": [blobs(3, 32, 2)]})
    assert shipped_start(build_plan(tmp_path / "slices", config_for(model))) is None


def test_the_networks_of_the_configuration_cpu_are_those_of_the_shipped_models():
    for model in shipped.shipped_models():
        assert ModelBundle.load(model.folder).generator == load_config("cpu").networks.generator
        assert (model.fit, model.pixel_mm) == ("physical", 1.0)
        assert default_start(Path("nowhere"), None, model.folder) == ("cpu", model.folder)


def test_a_model_with_other_names_is_reversed(ship, tmp_path, monkeypatch):
    model = ship("first")
    make_store(tmp_path / "slices", {"T2w": [blobs(2, 32, 0)], "T1w": [blobs(2, 32, 1)]})
    config = config_for(model).model_dump(mode="json")
    config["training"]["learning_rate"] = 1e-9
    run = train(
        tmp_path / "slices",
        config=parse_config(config, "test"),
        domains=("T2w", "T1w"),
        out=tmp_path / "runs",
        device="cpu",
        init_from=shipped.SHIPPED / "first",
    )
    weights = ModelBundle.load(run / "model").weights["G_AB"]
    for key, tensor in weights.items():
        torch.testing.assert_close(tensor, model.weights["G_BA"][key], rtol=0, atol=1e-6)
