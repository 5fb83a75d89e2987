"""Runs that start with a model's generators, and resume in the same way after a stop."""

import dataclasses
import json

import pytest
import torch
from support.models import tiny_model, with_fitness
from support.run_folders import PowerCutError
from support.stores import blobs, make_store

from medcyclegan.config import parse_config
from medcyclegan.errors import TrainingError, UsageError
from medcyclegan.model import ModelBundle
from medcyclegan.provenance import hash_file
from medcyclegan.training import train
from medcyclegan.training.run.init_from import steps_behind
from medcyclegan.training.update.step import CycleGANStep


def short(tiny, **generator):
    values = tiny.model_dump(mode="json")
    values["networks"]["generator"].update(generator)
    values["training"].update(max_steps=2, learning_rate=1e-9, ema_decay=None, pool_size=0, checkpoint_steps=100)
    return parse_config(values, "test")


def weights_of(run) -> dict[str, str]:
    return {name: hash_file(run / "model" / f"{name}.safetensors") for name in ("G_AB", "G_BA")}


def assert_close(run, model: ModelBundle, of: dict[str, str]) -> None:
    weights = ModelBundle.load(run / "model").weights
    for name, theirs in of.items():
        for key, tensor in weights[name].items():
            torch.testing.assert_close(tensor, model.weights[theirs][key], rtol=0, atol=1e-6)


def test_it_starts_where_the_model_ended_regardless_of_the_order_of_domains(whole_run, store, tiny, tmp_path) -> None:
    model = ModelBundle.load(whole_run / "model")
    run = train(store, config=short(tiny), out=tmp_path / "a", device="cpu", init_from=whole_run / "model")
    assert_close(run, model, {"G_AB": "G_AB", "G_BA": "G_BA"})
    assert json.loads((run / "run.json").read_text("utf-8"))["init_from"] == model.fingerprint
    started = ModelBundle.load(run / "model").provenance
    assert started["init_from"] == model.fingerprint
    before = model.provenance["fitness"]["steps"]
    assert started["fitness"]["steps"] == before + started["steps"] > before, "steps add up over the models"
    back = ("t2", "t1")
    run = train(
        store, config=short(tiny), domains=back, out=tmp_path / "b", device="cpu", init_from=whole_run / "model"
    )
    assert_close(run, model, {"G_AB": "G_BA", "G_BA": "G_AB"})


def test_a_run_killed_before_its_first_checkpoint_starts_there_again(
    whole_run, store, tiny, tmp_path, monkeypatch
) -> None:
    options = {"config": short(tiny), "device": "cpu", "init_from": whole_run / "model"}
    expected = train(store, out=tmp_path / "whole", **options)

    def cut_power(self, engine, batch):
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(CycleGANStep, "__call__", cut_power)
        with pytest.raises(PowerCutError):
            train(store, out=tmp_path / "broken", **options)
    run = train(resume=tmp_path / "broken" / "latest", device="cpu")
    assert weights_of(run) == weights_of(expected)
    record = json.loads((run / "run.json").read_text("utf-8")) | {"state": "failed"}
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    (run / "initial").rename(run / "gone")
    with pytest.raises(TrainingError, match="before its initial model was stored"):
        train(resume=run, device="cpu")


def test_other_generators_are_refused_by_what_differs(whole_run, store, tiny, tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"it has networks.generator.filters=2: .*--set those"):
        train(store, config=short(tiny, filters=3), out=tmp_path / "runs", init_from=whole_run / "model")
    assert not (tmp_path / "runs").exists()


def test_a_unet_of_another_depth_is_refused(whole_run, tiny, tmp_path) -> None:
    """The levels of a unet follow from the size of the slices: 5 for 32 pixels, 6 for 64."""
    stacks = {name: [blobs(1, 64, 0)] for name in ("t1", "t2")}
    make_store(tmp_path / "slices", stacks)
    with pytest.raises(TrainingError, match=r"the unet has 5 levels for slices of 32 pixels; slices of 64 need 6"):
        train(tmp_path / "slices", config=short(tiny), out=tmp_path / "runs", init_from=whole_run / "model")
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_takes_no_other_start(tmp_path) -> None:
    with pytest.raises(UsageError, match="--init-from and --seeds out"):
        train(resume=tmp_path, init_from=tmp_path)


@pytest.mark.parametrize(("provenance", "steps"), [({"steps": 40}, 40), ({"steps": "many"}, 0), ({}, 0)])
def test_the_steps_behind_a_model_without_fitness(provenance, steps) -> None:
    assert steps_behind(dataclasses.replace(tiny_model(), provenance=provenance)) == steps
    assert steps_behind(with_fitness(tiny_model(), steps=70)) == 70
