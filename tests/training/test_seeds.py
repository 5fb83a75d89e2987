"""Training with several seeds: the result is that of the best one alone."""

import json

import pytest
from support.run_folders import weights_of

from medcyclegan.errors import UsageError
from medcyclegan.training import seeds as seeds_module
from medcyclegan.training import train


@pytest.fixture
def agreements(monkeypatch):
    """Let the second of three seeds be the best."""
    values = iter([0.1, 0.9, 0.4])
    monkeypatch.setattr(seeds_module, "agreement_of_contrasts", lambda *arguments: next(values))


def test_the_best_seed_is_continued_as_if_it_had_been_alone(store, tiny, tmp_path, agreements):
    config = tiny.model_copy(update={"seed": 5})
    run = train(store, config=config, out=tmp_path / "runs", device="cpu", seeds=3)
    alone = train(store, config=tiny.model_copy(update={"seed": 6}), out=tmp_path / "alone", device="cpu")
    assert weights_of(run) == weights_of(alone)
    assert (tmp_path / "runs" / "latest").resolve() == run.resolve()
    records = {path.name: json.loads((path / "run.json").read_text()) for path in (tmp_path / "runs").glob("2*")}
    assert sorted((r["seed"], r["step"], r["state"]) for r in records.values()) == [
        (5, 4, "stopped"),
        (6, 17, "finished"),
        (7, 4, "stopped"),
    ]


def test_a_run_that_was_not_chosen_can_be_resumed(store, tiny, tmp_path, agreements):
    train(store, config=tiny, out=tmp_path / "runs", device="cpu", seeds=3)
    first = min((tmp_path / "runs").glob("2*"))
    alone = train(store, config=tiny, out=tmp_path / "alone", device="cpu")
    assert weights_of(train(resume=first, device="cpu")) == weights_of(alone)


def test_seeds_are_compared_by_their_models(store, tiny, tmp_path, monkeypatch):
    seen = []
    measure = seeds_module.agreement_of_contrasts

    def note(plan, model, references):
        seen.append((plan.config.seed, model.provenance["steps"], measure(plan, model, references)))
        return seen[-1][-1]

    monkeypatch.setattr(seeds_module, "agreement_of_contrasts", note)
    run = train(store, config=tiny, out=tmp_path / "runs", device="cpu", seeds=2)
    assert [entry[:2] for entry in seen] == [(0, 4), (1, 4)]
    assert all(-1 <= value <= 1 for *_, value in seen)
    assert json.loads((run / "run.json").read_text())["seed"] == max(seen, key=lambda entry: entry[2])[0]


def test_a_resumed_run_has_its_seed(tmp_path):
    with pytest.raises(UsageError, match="--seeds out"):
        train(resume=tmp_path, seeds=2)
