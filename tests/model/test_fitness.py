"""The fitness of a model, recorded by its training, and the verdict that follows."""

import json

import pytest
from support.models import MR_DOMAIN, fit_for, tiny_model, with_fitness

from medcyclegan import ModelBundle
from medcyclegan.model import DomainModel
from medcyclegan.model.fitness import Fitness, ModelWarning, gravest, judge_model

MODEL = tiny_model(MR_DOMAIN, DomainModel("t2", "MR", MR_DOMAIN.scaling))
DRIFT = ModelWarning("displacement", "t2", 1200, "anatomy drifts")


def judged(**changes):
    return judge_model(fit_for(MODEL, **changes), "mr", "t2", "AB")


def test_a_fit_model_gives_no_reason():
    assert judged() == []
    assert judged(learned=None) == []
    assert gravest([]) == "ok"


@pytest.mark.parametrize(
    ("steps", "verdict"), [(0, "doubtful"), (199, "doubtful"), (200, "check"), (999, "check"), (1000, "ok")]
)
def test_a_handful_of_steps_is_doubtful_and_few_are_to_be_checked(steps, verdict):
    assert gravest(judged(steps=steps)) == verdict


@pytest.mark.parametrize(("count", "verdict"), [(1, "check"), (4, "check"), (5, "ok")])
@pytest.mark.parametrize("domain", ["mr", "t2"])
def test_few_patients_are_to_be_checked(count, verdict, domain):
    findings = judged(patients={"mr": 9, "t2": 9, domain: count})
    assert gravest(findings) == verdict
    if count == 1:
        assert findings[0][1] == f"the model was trained on 1 patient of {domain}, fewer than 5"


def test_active_warnings_are_grave_for_their_own_direction():
    assert gravest(judged(warnings=(DRIFT,))) == "doubtful"
    assert judge_model(fit_for(MODEL, warnings=(DRIFT,)), "t2", "mr", "BA")[0][0] == "check"
    saturated = ModelWarning("saturated discriminator", "t2", 900, "tells every fake")
    assert gravest(judged(warnings=(saturated,))) == "check"


def test_a_model_that_learned_nothing_is_doubtful_for_one_reason():
    nothing = ModelWarning("nothing learned", "t2", 500, "nothing is learned")
    assert judged(learned=False, warnings=(nothing,)) == [
        (
            "doubtful",
            "the model has learned nothing: its cycle error is no smaller than that of a constant image",
        )
    ]
    assert gravest(judged(learned=None, warnings=(nothing,))) == "doubtful"


@pytest.mark.parametrize("name", ["mae", "sliced_wasserstein"])
def test_scores_no_better_than_the_input_are_to_be_checked(name):
    def verdict(value, direction="AB"):
        scores = {f"{name}_{direction}": value}
        return gravest(judged(scores=scores, input_scores={f"{name}_{direction}": 0.4}))

    assert [verdict(value) for value in (0.39, 0.4, 0.41)] == ["ok", "check", "check"]
    assert verdict(0.9, "BA") == "ok", "the other direction's"
    assert gravest(judged(scores={f"{name}_AB": 0.9})) == "ok", "nothing to compare with"


def test_errors_of_pairs_decide_over_a_distance_between_distributions():
    scores = {"mae_AB": 0.2, "sliced_wasserstein_AB": 0.16}
    given = {"mae_AB": 0.6, "sliced_wasserstein_AB": 0.09}
    assert judged(scores=scores, input_scores=given) == []
    assert [reason for _, reason in judged(scores=scores, input_scores=given | {"mae_AB": 0.1})] == [
        "the model's mean absolute error of held-out pairs is 0.2, worse than that of the untranslated input (0.1): "
        "doing nothing is better"
    ]


def test_it_travels_in_model_json(tmp_path):
    model = with_fitness(MODEL, warnings=(DRIFT,), scores={"mae_AB": 0.1}, input_scores={"mae_AB": 0.3})
    folder = model.save(tmp_path / "model")
    assert json.loads((folder / "model.json").read_text())["provenance"]["fitness"]["steps"] == 20_000
    loaded = Fitness.of(ModelBundle.load(folder).provenance)
    assert loaded == fit_for(MODEL, warnings=(DRIFT,), scores={"mae_AB": 0.1}, input_scores={"mae_AB": 0.3})
    assert ModelBundle.load(folder).fingerprint == MODEL.fingerprint


@pytest.mark.parametrize(
    "damage",
    [
        {"steps": "many"},
        {"patients": 3},
        {"warnings": [{"name": "x"}]},
        {"scores": {"mae_AB": float("nan")}},
        {"warnings": None},
    ],
)
def test_a_damaged_record_is_no_fitness(damage):
    assert Fitness.of({"fitness": {**fit_for(MODEL).to_dict(), **damage}}) is None
    assert Fitness.of({}) is None
    assert Fitness.of({"fitness": "good"}) is None
    assert gravest(judge_model(None, "mr", "t2", "AB")) == "check"
