"""Which series the rules choose, and what identifies a translation."""

import dataclasses

import pytest
from support import dicom_phantoms
from support.dicom_studies import make_study

from medcyclegan.config import Rule, Serving
from medcyclegan.errors import UsageError
from medcyclegan.service.plan import Planner, node_at
from medcyclegan.service.queue import Delivery, Queue

PACS, OTHER = "dicom://PACS@host:104?calling=ME", "dicom://OTHER@host:105?calling=ME"


@pytest.fixture
def study(tmp_path):
    """A queue with one waiting study of SCANNER: a CT and an MR series."""
    queue = Queue(tmp_path / "queue")
    queue.begin("s" * 16, "SCANNER")
    images = make_study("one")
    for image in make_study("two", "MR", slices=3):
        image.StudyInstanceUID = images[0].StudyInstanceUID
        images.append(image)
    for number, path in enumerate(dicom_phantoms.save(images, tmp_path / "files")):
        queue.add("s" * 16, f"{number}", path.read_bytes())
    yield queue, queue.complete("s" * 16)
    queue.close()


def plan(study, *rules, **changes):
    planner = Planner(Serving(rules=rules or (Rule(),)), PACS, None, "ME", ("model",))
    return dataclasses.replace(planner, **changes).plan(*study)


def chosen(study, *rules, **changes):
    return [each.series.modality for each in plan(study, *rules, **changes) if not each.ignored]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([Rule()], ["CT", "MR"]),
        ([Rule(modality="MR")], ["MR"]),
        ([Rule(description="secret* one")], ["CT"]),
        ([Rule(description="secret")], []),
        ([Rule(body_part="head", sender="scan*")], ["CT", "MR"]),
        ([Rule(sender="CT?")], []),
        ([Rule(protocol="*")], ["CT", "MR"]),
        ([Rule(protocol="?*")], []),
        ([Rule(modality="CT", skip=True), Rule()], ["MR"]),
        ([Rule(), Rule(modality="CT", skip=True)], ["CT", "MR"]),
    ],
)
def test_the_first_rule_that_matches_decides(study, rules, expected):
    assert chosen(study, *rules) == expected


def test_a_rule_sets_domain_node_and_reading(study):
    rule = Rule(modality="CT", to="t1", send_to="OTHER@host:105", allow_gap=True)
    first, second = plan(study, rule, Rule(), to="mr")
    assert (first.to, first.address, first.allow_gap) == ("t1", OTHER, True)
    assert (second.to, second.address, second.allow_gap) == ("mr", PACS, False)


def test_a_synthetic_series_is_never_translated(study, tmp_path):
    queue, name = study
    images = make_study("three")
    images[2].SyntheticData = "YES"
    for path in dicom_phantoms.save(images, tmp_path / "synthetic"):
        (queue.path("waiting", name) / "in" / f"s{path.name}").write_bytes(path.read_bytes())
    assert [each.ignored for each in plan(study)].count("it is synthetic") == 1
    assert chosen(study) == ["CT", "MR"]


def test_a_series_is_translated_once_per_model_domain_node_and_content(study):
    queue, name = study
    before = [each.digest for each in plan(study)]
    queue.begin("t" * 16, "SCANNER")
    queue.translated(queue.complete("t" * 16), [Delivery("out/x", PACS, before[0])])
    assert chosen(study) == ["MR"]
    queue.remember(before[1])
    assert chosen(study) == []
    for changes in ({"identity": ("other",)}, {"to": "mr"}, {"address": OTHER}):
        assert chosen(study, **changes) == ["CT", "MR"], changes
    next((queue.path("waiting", name) / "in").glob("0.dcm")).unlink()
    assert chosen(study) == ["CT"], "a series with other images is another one"


def test_addresses_need_no_scheme_and_name_the_caller():
    assert node_at("PACS@host:104", "ME") == PACS
    assert node_at("dicom://PACS@host:104?calling=ME", "OTHER") == PACS
    assert node_at("PACS@host:104?tls=on", "ME").endswith("?tls=on&calling=ME")
    with pytest.raises(UsageError, match="not the address of a DICOM node"):
        node_at("PACS", "ME")
