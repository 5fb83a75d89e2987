"""The averages over sites, and what a site's answer must be."""

import pytest
import torch

from medcyclegan.errors import TrainingError
from medcyclegan.federated.averaging import NETWORKS, Contribution, average, check_contribution


def answer(site: str, value: float, slices: tuple[int, int]) -> Contribution:
    weights = {name: {"w": torch.full((2,), value), "n": torch.tensor(3)} for name in NETWORKS}
    return Contribution(site, weights, slices)


def test_a_site_counts_by_its_shares_of_both_domains() -> None:
    sites = [answer("a", 1.0, (30, 0)), answer("b", 2.0, (0, 10)), answer("c", 4.0, (10, 50))]
    mean = average(sites)
    shares = {"a": (30 / 40) / 2, "b": (10 / 60) / 2, "c": (10 / 40 + 50 / 60) / 2}
    assert sum(shares.values()) == pytest.approx(1.0)
    for name in NETWORKS:
        assert mean[name]["w"][0] == pytest.approx(shares["a"] * 1 + shares["b"] * 2 + shares["c"] * 4)


def test_a_large_domain_does_not_outweigh_the_other() -> None:
    mean = average([answer("a", 0.0, (10_000, 0)), answer("b", 1.0, (0, 10))])
    assert mean["D_A"]["w"][0] == pytest.approx(0.5)


def test_numbers_keep_their_types() -> None:
    mean = average([answer("a", 1.0, (30, 0)), answer("b", 2.0, (0, 10))])
    assert mean["G_AB"]["n"] == 3
    assert mean["G_AB"]["n"].dtype == torch.int64
    assert mean["G_AB"]["w"].dtype == torch.float32


def test_the_order_of_answers_does_not_matter_to_the_bit() -> None:
    random = torch.Generator().manual_seed(0)
    sites = [
        Contribution(name, {n: {"w": torch.randn(500, generator=random)} for n in NETWORKS}, slices)
        for name, slices in (("c", (3, 7)), ("a", (11, 0)), ("b", (0, 5)))
    ]
    one, other = average(sites), average(sites[::-1])
    assert all(torch.equal(one[name]["w"], other[name]["w"]) for name in one)


def test_one_site_alone_is_its_own_mean() -> None:
    mean = average([answer("a", 0.1, (3, 4))])
    assert torch.equal(mean["G_AB"]["w"], torch.full((2,), 0.1))


@pytest.mark.parametrize(("slices", "missing"), [((9, 0), "B"), ((0, 9), "A")])
def test_a_round_without_one_of_the_domains_is_not_averaged(slices, missing) -> None:
    with pytest.raises(
        TrainingError, match=rf"only north answered, without slices of domain {missing}: .* start the job"
    ):
        average([answer("north", 1.0, slices)])


def test_answers_that_are_not_the_networks_of_the_site_are_refused_by_name() -> None:
    like = answer("server", 0.0, (1, 1)).weights
    check_contribution(answer("a", 1.0, (5, 0)), like)
    few = {name: like[name] for name in ("G_AB", "D_A")}
    with pytest.raises(TrainingError, match="a returned D_A, G_AB, not G_AB, G_BA, D_A, D_B"):
        check_contribution(Contribution("a", few, (5, 0)), like)
    with pytest.raises(TrainingError, match="a returned NaN or infinite weights of G_AB"):
        check_contribution(answer("a", float("nan"), (5, 0)), like)
    other = {name: {"w": torch.zeros(3), "n": torch.tensor(3)} for name in NETWORKS}
    with pytest.raises(TrainingError, match="a returned a G_AB of another shape: install the same version"):
        check_contribution(Contribution("a", other, (5, 0)), like)
