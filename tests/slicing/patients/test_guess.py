"""Guessing patients from names: visits do not become patients, and several patients do not become one."""

import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.name_schemes import DISTINCT, FIRST_NAMES, SHARED, VISITS

from medcyclegan.slicing.patients import Named, guess_patients

PATIENTS = 20


def guess(names, certain=None):
    return [g.patient for g in guess_patients([Named(domain, name) for domain, name in names], certain or {})]


def guess_scheme(scheme, patients=PATIENTS):
    """Return the guesses for the volumes of each patient, by the number of the patient."""
    volumes = [(n, volume) for n in range(1, patients + 1) for volume in scheme(n)]
    guesses = guess([volume for _, volume in volumes])
    by_patient = collections.defaultdict(set)
    for (n, _), patient in zip(volumes, guesses, strict=True):
        by_patient[n].add(patient)
    return by_patient


@pytest.mark.parametrize("patients", [5, 6, PATIENTS])
@pytest.mark.parametrize("name", VISITS)
def test_no_visit_makes_a_second_patient(name, patients):
    assert [n for n, guesses in guess_scheme(VISITS[name], patients).items() if len(guesses) > 1] == []


@pytest.mark.parametrize("name", VISITS)
def test_visits_of_many_are_as_many_patients(name):
    assert len(set().union(*guess_scheme(VISITS[name]).values())) == PATIENTS


@pytest.mark.parametrize("name", DISTINCT)
def test_patients_are_not_taken_for_visits_of_one(name):
    assert len(set().union(*guess_scheme(DISTINCT[name]).values())) == PATIENTS


@pytest.mark.parametrize("patients", [2, 5, 11, PATIENTS])
@pytest.mark.parametrize("visit", ["M", "V"])
@pytest.mark.parametrize(
    "name", ["P{n:02d}/{v}", "P{n:02d}_{v}", "{n:03d}/{v}_t1", "{n:03d}_{v}", "{a}/{v}", "{a}_{v}"]
)
def test_many_visits_do_not_become_the_patients(name, visit, patients):
    """More visits than patients, with numbers that could be those of patients: one patient each, or doubtful."""

    def scheme(n):
        return [("t1", name.format(n=n, a=FIRST_NAMES[n - 1], v=f"{visit}{month:02d}")) for month in range(0, 121, 12)]

    guesses = guess_scheme(scheme, patients)
    assert [n for n, own in guesses.items() if len(own) > 1] == []
    assert len(set().union(*guesses.values())) in (1, patients)


def test_numbered_letters_are_patients_below_numbered_folders_only_if_nothing_else_is():
    visits = guess([("t1", f"{visit}/P{n:02d}") for visit in (1, 2) for n in range(1, 21)])
    assert len(set(visits)) == PATIENTS
    assert len(set(guess([("t1", f"{either}/M{n:02d}") for either in (1, 2) for n in range(1, 21)]))) == 1


@pytest.mark.parametrize("pattern", ["{d}_V{n:02d}", "V{n:02d}/{d}", "{d}/V{n:02d}_pre"])
@pytest.mark.parametrize("domains", [("t1", "t2"), ("skull", "face"), ("low_dose", "high_dose")])
def test_words_of_the_domains_do_not_name_patients_and_numbered_letters_do(pattern, domains):
    scheme = {n: [(domain, pattern.format(d=domain, n=n)) for domain in domains] for n in range(1, PATIENTS + 1)}
    guesses = guess_scheme(scheme.get)
    assert [sorted(own) for own in guesses.values()] == [[f"V{n:02d}"] for n in scheme]


@pytest.mark.parametrize("name", SHARED)
def test_what_may_be_shared_is_shared_by_few(name):
    guesses = guess_scheme(SHARED[name])
    assert all(len(own) == 1 for own in guesses.values())
    assert len(set().union(*guesses.values())) >= PATIENTS / 2


@pytest.mark.parametrize(
    ("name", "domain", "patient"),
    [
        ("openms_patient12_t1_visit2", "t1", "openms_patient12"),
        ("openms_patient12_t1", "t1", "openms_patient12"),
        ("p3/scan1/t1", "t1", "p3"),
        ("t1", "t1", "t1"),
        ("case_0001", "ct", "case_0001"),
        ("patient12_t2_20200101", "t2", "patient12"),
        ("patient12_ses-2_t1", "t1", "patient12"),
        ("patient12-t1-visit-2", "t1", "patient12"),
        ("anna ses-pre", "t1", "anna"),
        ("p07_2024-01-31_t1", "t1", "p07"),
        ("t1_scan_0001", "t1", "0001"),
        ("head_scan_0001", "t1", "head_0001"),
        ("visit_2", "t1", "2"),
        ("p07#2", "ct", "p07"),
        ("CT01", "ct", "01"),
        ("control_V01_t1", "t1", "control_V01"),
    ],
)
def test_the_patient_in_a_single_name(name, domain, patient):
    assert guess([(domain, name)]) == [patient]


@given(
    name=st.builds("{}{}".format, st.text("abcxyz", min_size=3, max_size=8), st.integers(0, 9999)),
    visits=st.lists(
        st.sampled_from(
            ["visit1", "visit 2", "ses-2", "ses-pre", "tp_04", "20240131", "2024-01-31", "v3", "run-02", "T1w", "t1"]
        ),
        max_size=3,
    ),
    separator=st.sampled_from("_. -"),
)
def test_visits_and_contrasts_of_a_patient_are_left_out(name, visits, separator):
    assert guess([("t1", separator.join([name, *visits]))]) == [name]


@given(names=st.lists(st.text(min_size=1, max_size=20).filter(lambda text: text.rpartition("/")[2]), max_size=20))
def test_any_names_have_patients_regardless_of_order(names):
    volumes = [("t1", name) for name in names]
    forward, backward = guess(volumes), guess(volumes[::-1])
    assert forward == backward[::-1]
    assert all(isinstance(patient, str) for patient in forward)


def test_a_known_patient_takes_the_names_that_begin_with_his():
    names = [("mr", "P01_T1"), ("mr", "p1_T2_visit2"), ("mr", "P011_T1"), ("mr", "P01-7/t1"), ("mr", "X_P01")]
    assert guess(names, {("p1",): "P01", ("p1", "7"): "P01-7"}) == ["P01", "P01", "P011", "P01-7", "X_P01"]


def test_many_volumes_of_a_few_that_look_like_patients_count_as_one():
    names = [Named("t1", f"P{patient:02d}_{number:03d}") for patient in range(1, 6) for number in range(1, 21)]
    guesses = guess_patients(names, {})
    assert {g.by for g in guesses} == {"doubtful"}
    assert len({g.patient for g in guesses}) == 1
    others = guess_patients([*names, *(Named("t1", f"anna{n}_t1") for n in range(5))], {})
    assert len({g.patient for g in others}) == 6
    assert {g.by for g in others[len(names) :]} == {"name"}


def test_slices_of_a_patient_are_one_patient():
    names = [f"P{patient:02d}_{number:03d}" for patient in range(1, 6) for number in range(1, 21)]
    guesses = guess_patients([Named("t1", name, picture=True) for name in names], {})
    assert [g.patient for g in guesses] == [name[:3] for name in names]
    folders = guess_patients([Named("t1", f"{name[:3]}/{name[4:]}", picture=True) for name in names], {})
    assert [(g.patient, g.by) for g in folders] == [(name[:3], "folder") for name in names]


def test_folders_that_may_be_patients_or_visits_count_as_one():
    names = [Named("t1", f"{folder}/{number:03d}") for folder in ("native", "later", "last") for number in range(20)]
    names += [Named("t2", f"{number:03d}") for number in range(20)]
    guesses = guess_patients(names, {})
    assert len({g.patient for g in guesses}) == 1
    assert {g.by for g in guesses} == {"doubtful"}
