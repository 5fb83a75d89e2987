"""Which volume of a patient another one is brought onto."""

from pathlib import Path

import pytest

from medcyclegan.errors import UsageError
from medcyclegan.io import FoundVolume
from medcyclegan.slicing.domains import Member, Source
from medcyclegan.slicing.partners import find_partners
from medcyclegan.slicing.patients import Identity
from medcyclegan.slicing.planning import PlannedCase


def partners(*names, source="folder", patient=None):
    """Return ``{name: name of the partner}`` of volumes named ``<domain>/<patient>/<rest>``."""
    cases = []
    for name in names:
        domain, _, rest = name.partition("/")
        found = FoundVolume(Path(name), "nifti", rest, Path(rest))
        identity = Identity(patient or rest.split("/")[0], source)
        cases.append(PlannedCase(Member(domain, found, Source(domain, Path(domain), "tree")), identity, "train"))
    chosen = find_partners(cases, report=True)
    return {names[n]: f"{case.member.domain}/{case.member.found.name}" for n, case in chosen.items()}


def test_a_volume_is_brought_onto_the_first_domain_of_its_patient():
    assert partners("t1/p1/a", "t2/p1/b", "t2/p2/b", "t1/p3/a") == {"t2/p1/b": "t1/p1/a"}
    assert partners("flair/p1/a", "t2/p1/a", "t1/p1/a", "t1/p2/a", "t2/p2/a") == {
        "t2/p1/a": "flair/p1/a",
        "t1/p1/a": "flair/p1/a",
        "t2/p2/a": "t1/p2/a",
    }


def test_visits_are_matched_by_their_names():
    names = ("t1/p1/t1", "t1/p1/t1_visit2", "t2/p1/t2", "t2/p1/t2_visit2", "t2/p1/t2_visit3")
    assert partners(*names) == {"t2/p1/t2": "t1/p1/t1", "t2/p1/t2_visit2": "t1/p1/t1_visit2"}
    bids = ("t1/sub-01/ses-1/anat/sub-01_ses-1_acq-mprage_T1w", "t1/sub-01/ses-2/anat/sub-01_ses-2_T1w",
            "t2/sub-01/ses-1/anat/sub-01_ses-1_acq-tse_T2w")  # fmt: skip
    assert partners(*bids) == {bids[2]: bids[0]}
    assert partners("ct/p1/1", "mr/p1/2", "mr/p1/3") == {"mr/p1/2": "ct/p1/1", "mr/p1/3": "ct/p1/1"}


def test_what_is_not_clear_is_left_alone_and_named(caplog):
    assert partners("t1/p1/a", "t1/p1/b", "t2/p1/c") == {}
    assert "t2/p1/c: the patient has several volumes" in caplog.text
    assert partners("t1/p1/a", "t2/p1/a", source="doubtful") == {}


def test_one_domain_is_refused():
    with pytest.raises(UsageError, match="t1 only"):
        partners("t1/p1/a")
