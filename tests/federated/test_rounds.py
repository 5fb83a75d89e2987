"""Rounds of three tiny sites without the engine: the model, restarts of a site and of the server."""

import json
import shutil

import pytest
import torch
from support.models import MR, tiny_model
from support.run_folders import PowerCutError

from medcyclegan.errors import TrainingError
from medcyclegan.federated import Contribution, Job, Server, Site
from medcyclegan.federated.averaging import NETWORKS
from medcyclegan.model import DomainModel, ModelBundle
from medcyclegan.training.run.checkpoint import load_newest_checkpoint
from medcyclegan.training.update.step import CycleGANStep

NAMES = ("north", "south", "west")


def open_sites(job: Job, sites, names=NAMES) -> dict[str, Site]:
    return {name: Site(job, sites / name / "slices", sites / name / "runs", "cpu") for name in names}


def open_server(job: Job, sites, opened: dict[str, Site]) -> Server:
    server = Server(job, sites / "server" / "runs")
    server.begin({name: site.declare() for name, site in opened.items()})
    return server


def train_round(server: Server, opened: dict[str, Site]) -> None:
    number = server.round
    server.add_round([Contribution(n, s.train(server.weights, number), s.plan.slices) for n, s in opened.items()])


def train_all(job: Job, sites) -> Server:
    opened = open_sites(job, sites)
    server = open_server(job, sites, opened)
    while not server.finished:
        train_round(server, opened)
    return server


def equal(one: Server, other: Server) -> bool:
    return all(
        torch.equal(tensor, other.weights[name][key]) for name in NETWORKS for key, tensor in one.weights[name].items()
    )


@pytest.fixture
def uninterrupted(job, sites, tmp_path) -> Server:
    return train_all(job, shutil.copytree(sites, tmp_path / "uninterrupted"))


def test_the_model_is_an_ordinary_folder_with_the_counts_of_the_sites(job, sites) -> None:
    path = train_all(job, sites).save_model()
    model = ModelBundle.load(path)
    about = model.provenance["federated"]
    assert about["rounds"] == 3
    assert [site["rounds"] for site in about["sites"]] == [3, 3, 3]
    assert about["sites"][0]["domains"] == {"t1": {"slices": 7, "volumes": 2, "patients": 2}}
    assert model.provenance["training_slices"] == {"t1": 9, "t2": 8}
    card = (path / "MODEL_CARD.md").read_text()
    assert "- site 1, in 3 of 3 rounds: t1: 7 slices of 2 volumes, 2 patients" in card
    assert (
        "- site 3, in 3 of 3 rounds: t1: 2 slices of 1 volume, 1 patient; t2: 3 slices of 1 volume, 1 patient" in card
    )
    # Sites are numbered: a model may be passed on.
    assert not any(name in (path / file).read_text() for name in NAMES for file in ("MODEL_CARD.md", "model.json"))


def test_every_site_trains_every_network(job, sites) -> None:
    opened = open_sites(job, sites)
    server = open_server(job, sites, opened)
    for name in NAMES:
        returned = opened[name].train(server.weights, 0)
        assert sorted(returned) == sorted(NETWORKS)
        for network, state in returned.items():
            assert any(not torch.equal(state[key], server.weights[network][key]) for key in state), (name, network)


def test_a_restarted_server_continues_after_the_last_complete_round(job, sites, uninterrupted) -> None:
    opened = open_sites(job, sites)
    train_round(open_server(job, sites, opened), opened)
    # The sites had trained the second round when the server died: they train it again.
    server = open_server(job, sites, opened)
    for site in opened.values():
        site.train(server.weights, 1)
    again = open_server(job, sites, opened)
    assert again.round == 1
    while not again.finished:
        train_round(again, opened)
    assert equal(again, uninterrupted)


@pytest.mark.parametrize("restarted", [True, False])
def test_a_site_that_failed_in_a_round_continues_from_its_checkpoint(
    job, sites, uninterrupted, monkeypatch, restarted
) -> None:
    opened = open_sites(job, sites)
    server = open_server(job, sites, opened)
    train_round(server, opened)
    calls = []
    original = CycleGANStep.finish

    def cut(self, losses, step):
        calls.append(step)
        if len(calls) == 2:
            raise PowerCutError
        return original(self, losses, step)

    monkeypatch.setattr(CycleGANStep, "finish", cut)
    with pytest.raises(PowerCutError):
        opened["north"].train(server.weights, 1)
    monkeypatch.undo()
    if restarted:
        opened |= open_sites(job, sites, ["north"])
    while not server.finished:
        train_round(server, opened)
    assert equal(server, uninterrupted)


def test_a_site_that_missed_a_round_comes_back_with_new_moments(job, sites, caplog) -> None:
    opened = open_sites(job, sites)
    server = open_server(job, sites, opened)
    train_round(server, opened)
    train_round(server, {name: opened[name] for name in ("south", "west")})
    train_round(server, opened)
    assert "no checkpoint of step 4 here: the optimizers start anew" in caplog.text
    counts = [site["rounds"] for site in server.build_model().provenance["federated"]["sites"]]
    assert counts == [2, 3, 3]
    rows = [json.loads(line) for line in (server.folder.path / "rounds.jsonl").read_text().splitlines()]
    assert [row["sites"] for row in rows] == [list(NAMES), ["south", "west"], list(NAMES)]


def test_a_server_with_other_rules_does_not_continue(job, sites) -> None:
    opened = open_sites(job, sites)
    train_round(open_server(job, sites, opened), opened)
    declared = {name: site.declare().model_copy(update={"pixel_mm": 0.5}) for name, site in opened.items()}
    with pytest.raises(TrainingError, match="was begun with other rules of slicing or scaling: slice as before"):
        Server(job, sites / "server" / "runs").begin(declared)


def test_a_job_that_was_changed_does_not_continue(job, sites) -> None:
    opened = open_sites(job, sites)
    train_round(open_server(job, sites, opened), opened)
    # With one step in a round, the two steps of the round that is done would count as two rounds.
    with pytest.raises(TrainingError, match="was begun with other rounds, steps or configuration: submit the job as"):
        open_server(job.model_copy(update={"steps": 1}), sites, opened)
    again = open_server(job.model_copy(update={"min_sites": 2, "wait": 0}), sites, opened)
    assert again.round == 1


def test_the_card_counts_the_sites_that_took_part_and_no_others(job, sites) -> None:
    opened = open_sites(job, sites)
    train_round(open_server(job, sites, opened), {name: opened[name] for name in ("north", "south")})
    # North leaves, and west comes; nobody trains with the slices of west before the last round.
    rest = {name: opened[name] for name in ("south", "west")}
    server = open_server(job, sites, rest)
    about = server.build_model().provenance
    assert about["training_slices"] == {"t1": 7, "t2": 5}
    assert [site["rounds"] for site in about["federated"]["sites"]] == [1, 1]
    train_round(server, rest)
    about = server.build_model().provenance
    assert about["training_slices"] == {"t1": 9, "t2": 8}
    assert about["patients"]["t1"]["splits"]["train"] == 3
    assert [site["rounds"] for site in about["federated"]["sites"]] == [1, 2, 1]


def test_nothing_but_trained_weights_is_returned_and_the_past_fakes_stay(job, sites) -> None:
    opened = open_sites(job, sites)
    server = open_server(job, sites, opened)
    returned = opened["north"].train(server.weights, 0)
    expected = {name: {key: value.shape for key, value in server.weights[name].items()} for name in returned}
    assert {name: {key: value.shape for key, value in state.items()} for name, state in returned.items()} == expected
    kept = load_newest_checkpoint(opened["north"].folder.checkpoints)
    assert kept is not None
    assert kept["pool_B"]["images"]


def test_weights_of_other_networks_are_refused_at_the_site(job, sites) -> None:
    opened = open_sites(job, sites, ["north"])
    with pytest.raises(TrainingError, match="the received G_AB does not fit the job's networks"):
        opened["north"].train({name: {"w": torch.zeros(2)} for name in NETWORKS}, 0)
    for few in ({}, {"G_AB": {}}, {name: {} for name in (*NETWORKS, "load_state_dict")}):
        with pytest.raises(TrainingError, match=r"received weights of .*, not of G_AB, G_BA, D_A, D_B: install"):
            opened["north"].train(few, 0)


@pytest.mark.parametrize("number", [-1, 3])
def test_a_round_that_the_job_does_not_have_is_refused(job, sites, number) -> None:
    site = open_sites(job, sites, ["north"])["north"]
    with pytest.raises(TrainingError, match=f"received round {number}, counted from 0, of a job of 3 rounds"):
        site.train({}, number)
    assert not site.folder.path.exists()


def test_a_training_starts_with_the_generators_of_a_model(job, sites) -> None:
    opened = open_sites(job, sites)
    initial = tiny_model(DomainModel("t1", "MR", MR), DomainModel("t2", "MR", MR))
    server = Server(job, sites / "server" / "runs", initial)
    server.begin({name: site.declare() for name, site in opened.items()})
    for key, value in initial.weights["G_AB"].items():
        assert torch.equal(server.weights["G_AB"][key], value)
    assert server.build_model().provenance["init_from"] == initial.fingerprint
