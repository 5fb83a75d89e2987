"""What sites declare, and when they agree."""

import json

import pytest
from pydantic import ValidationError
from support.stores import blobs, make_row, make_store

from medcyclegan.config import Config, Domain, Scaling, Slicing
from medcyclegan.errors import StoreError
from medcyclegan.federated import Declaration, agree, declare
from medcyclegan.intensity import IntensityScaling
from medcyclegan.manifest import MANIFEST, load_manifest, rows_to_text
from medcyclegan.slicing.case import preparation_of
from medcyclegan.training.plan import build_site_plan

DOMAINS = ("t1", "t2")


def declaration(sites, name: str) -> Declaration:
    return declare(build_site_plan(sites / name / "slices", Config(), DOMAINS))


def change(sites, name: str, **fields) -> None:
    store = sites / name / "slices"
    rows = [type(row)(**{**row.__dict__, **fields}) for row in load_manifest(store)]
    (store / MANIFEST).write_text(rows_to_text(rows), "utf-8")


def test_a_site_declares_rules_and_counts(sites) -> None:
    declared = declaration(sites, "north")
    assert (declared.size, declared.fit, declared.pixel_mm) == (32, "physical", 1.0)
    assert set(declared.domains) == {"t1"}
    own = declared.domains["t1"]
    assert (own.slices, own.volumes, own.patients["train"], own.modality, own.kind) == (7, 2, 2, "MR", "percentile")
    assert own.range is None
    assert own.scaling == Scaling()


def test_no_number_that_was_measured_in_an_image_is_declared(sites) -> None:
    store = sites / "north" / "slices"
    before = declaration(sites, "north").model_dump_json()
    # Other intensities, places and hashes of the same patients: the declaration does not change by a byte.
    change(
        sites,
        "north",
        scaling=IntensityScaling("percentile", 17.25, 31337.5, "arbitrary units", 3.125).to_dict(),
        affine=((7.0, 0.0, 0.0, -98.75), (0.0, 7.0, 0.0, 12.5), (0.0, 0.0, 7.0, 1.0), (0.0, 0.0, 0.0, 1.0)),
        input="feedfacefeedface",
    )
    assert declaration(sites, "north").model_dump_json() == before
    for row in load_manifest(store):
        assert row.case not in before
        assert row.patient not in before


def test_a_declaration_cannot_contain_anything_else(sites) -> None:
    values = json.loads(declaration(sites, "north").model_dump_json())
    Declaration.model_validate(values)
    with pytest.raises(ValidationError):
        Declaration.model_validate({**values, "names": ["x"]})
    with pytest.raises(ValidationError):
        Declaration.model_validate({**values, "domains": {"t1": {**values["domains"]["t1"], "sources": {"x": 1}}}})
    values["domains"]["t1"]["mean"] = 3.0
    with pytest.raises(ValidationError):
        Declaration.model_validate(values)


def test_sites_that_agree(sites) -> None:
    agreed = agree({name: declaration(sites, name) for name in ("west", "south", "north")}, DOMAINS)
    assert list(agreed.sites) == ["north", "south", "west"]
    assert agreed.total("t1", lambda own: own.slices) == 9
    assert agreed.patients("t2")["splits"]["train"] == 2
    scaling = agreed.domain_model("t1").scaling
    assert (scaling.kind, scaling.lower, scaling.upper, scaling.air) == ("percentile", 100.0, 1000.0, 0.0)
    config = agreed.configured(Config())
    assert (config.slicing.size, config.domains["t1"].modality) == (32, "MR")


def test_a_ct_keeps_its_window(sites) -> None:
    window = IntensityScaling("window", -1024.0, 3071.0, "HU").to_dict()
    change(sites, "south", modality="CT", scaling=window)
    change(sites, "west", modality="CT", scaling=window)
    agreed = agree({name: declaration(sites, name) for name in ("south", "west")}, DOMAINS)
    scaling = agreed.domain_model("t2").scaling
    assert (scaling.kind, scaling.lower, scaling.upper, scaling.unit) == ("window", -1024.0, 3071.0, "HU")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"preparation": preparation_of(Slicing(size=32, pixel_mm=0.8), Domain())},
            r"slicing.pixel_mm differs: 1.0 at north, 0.8 at west: slice the volumes of all sites with one",
        ),
        (
            {"preparation": preparation_of(Slicing(size=32), Domain(scaling=Scaling(percentiles=(1, 99))))},
            r"the scaling of t1 differs: .*0.5.*99.5.* at north, .*1.0.*99.0.* at west",
        ),
        (
            {"modality": "CT", "scaling": IntensityScaling("window", -1024.0, 3071.0, "HU").to_dict()},
            "the modality of t1 differs: MR at north, CT at west",
        ),
    ],
)
def test_sites_that_prepared_slices_differently_are_refused(sites, changes, message) -> None:
    change(sites, "west", **changes)
    with pytest.raises(StoreError, match=message):
        agree({name: declaration(sites, name) for name in ("north", "west")}, DOMAINS)


def test_a_domain_that_no_site_has_is_refused(sites) -> None:
    with pytest.raises(StoreError, match="no site has slices of t2: the sites have t1"):
        agree({"north": declaration(sites, "north")}, DOMAINS)


def test_a_store_without_either_domain_is_refused_at_the_site(tmp_path) -> None:
    make_store(tmp_path / "slices", {"flair": [blobs(3, 32, 0)]})
    with pytest.raises(StoreError, match=r"no volume of t1 or t2 is for training \(it holds flair\)"):
        build_site_plan(tmp_path / "slices", Config(), DOMAINS)


def test_a_domain_without_training_volumes_is_not_trained_on(tmp_path) -> None:
    store = tmp_path / "slices"
    make_store(store, {"t1": [blobs(3, 32, 0)], "t2": [blobs(3, 32, 1)]}, {"t2": ["test"]})
    plan = build_site_plan(store, Config(), DOMAINS)
    assert [len(rows) for rows in plan.training] == [1, 0]
    assert set(declare(plan).domains) == {"t1"}
    assert make_row("t1", 0, (3, 32, 32)).case == plan.training[0][0].case
