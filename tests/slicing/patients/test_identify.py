"""Identification of patients: certain sources take precedence and join guessed ones."""

from pathlib import Path

import pytest

from medcyclegan.errors import ConfigError
from medcyclegan.io import FoundVolume
from medcyclegan.slicing.domains import Member, Source
from medcyclegan.slicing.patients import Identity, identify_patients


def member(path, *, patient=None, split=None):
    """Return the volume ``domain/name.nii``, or a DICOM folder if its patient is given."""
    domain, _, name = path.partition("/")
    folder = Path("/data/volumes", domain)
    kind = "nifti" if patient is None else "dicom"
    relative = Path(f"{name}.nii" if patient is None else name)
    found = FoundVolume(folder / relative, kind, name, relative, patient=patient)
    return Member(domain, found, Source(domain, folder, "tree"), split)


def identify(*members, given=None):
    return [(i.patient, i.patient_source) for i in identify_patients(members, given or {})]


def test_headers_and_bids_labels_are_certain():
    found = identify(
        member("ct/0001", patient="P1"), member("ct/0002", patient="P2"),
        member("mr/sub-03/ses-1/anat/sub-03_ses-1_T1w"), member("mr/sub-03_T2w"), member("mr/Q9_T1"),
    )  # fmt: skip
    assert found == [("P1", "PatientID"), ("P2", "PatientID"), ("sub-03", "BIDS"), ("sub-03", "BIDS"), ("Q9", "name")]


def test_a_name_that_begins_with_a_known_patient_is_his():
    found = identify(
        member("ct/x", patient="P01"), member("mr/p1_T1_visit2"), member("mr/P010"), member("t1/sub-07_T1w"),
        member("t2/sub07_T2"), member("t2/07_flair"),
    )  # fmt: skip
    assert [patient for patient, _ in found] == ["P01", "P01", "P010", "sub-07", "sub-07", "sub-07"]


def test_the_split_file_decides_and_joins_what_it_does_not_name():
    given = {"t1/P01_pre": ("anna", "test"), "P02_pre": ("berta", "train")}
    members = [member(f"t1/{name}") for name in ("P01_pre", "P01_post", "P02_pre", "P02_post", "P03_pre")]
    assert identify(*members, given=given) == [
        ("anna", "split file"), ("anna", "name"), ("berta", "split file"), ("berta", "name"), ("P03", "name"),
    ]  # fmt: skip
    assert identify_patients(members, given)[0] == Identity("anna", "split file", "test")
    assert identify(member("ct/0001", patient="P1"), given={"0001": ("other", "test")}) == [("other", "split file")]


def test_a_split_file_that_leaves_it_open_is_refused():
    given = {"t1/P01_pre": ("anna", "test"), "t1/P01_post": ("berta", "train")}
    members = [member(f"t1/{name}") for name in ("P01_pre", "P01_post", "P01_later")]
    assert [patient for patient, _ in identify(*members[:2], given=given)] == ["anna", "berta"]
    with pytest.raises(ConfigError, match=r"two patients for P01_post and P01_pre, .* does not list P01_later"):
        identify(*members, given=given)


def test_image_sets_number_their_files_anew_in_each_folder():
    members = [member(f"trainA/{n}", split="train") for n in (1, 2)] + [member("testA/1", split="test")]
    assert identify(*members) == [
        ("trainA/1", "image set"), ("trainA/2", "image set"), ("testA/1", "image set"),
    ]  # fmt: skip
    assert identify(members[2], given={"testA/1": ("x", "train")}) == [("x", "split file")]


def test_the_order_of_the_volumes_does_not_count():
    members = [member(f"{d}/{n}") for d in ("mr", "ct") for n in ("P01_x", "P1_y", "P02_x", "p02_z", "anna", "anna_2")]
    assert identify(*members) == identify(*members[::-1])[::-1]
