"""Which volumes of a patient are pairs."""

import dataclasses

import numpy as np
import pytest
from support.stores import make_row

from medcyclegan.data import row_pairs, shared_slices
from medcyclegan.manifest import Registration

PATIENT, SHAPE = "c" * 16, (3, 32, 32)
T1, OTHER_T1 = (make_row("t1", n, SHAPE, patient=PATIENT) for n in (0, 1))
T2 = make_row("t2", 0, SHAPE, patient=PATIENT)


def registered(row, onto, **changes):
    record = Registration(onto.case, matrix=tuple(map(tuple, np.eye(4).tolist())), **changes)
    return dataclasses.replace(row, registration=record)


def test_volumes_on_one_grid_are_pairs():
    assert row_pairs([T1, OTHER_T1], [T2]) == [(T1, T2), (OTHER_T1, T2)]


def test_a_registered_volume_is_paired_with_its_partner_only():
    """Another visit may have the same header, but not the same position."""
    moved, flair = registered(T2, T1), registered(make_row("flair", 0, SHAPE, patient=PATIENT), T1)
    assert row_pairs([T1, OTHER_T1], [moved]) == [(T1, moved)]
    assert row_pairs([flair], [moved]) == [(flair, moved)]
    assert row_pairs([flair], [registered(T2, OTHER_T1)]) == []


def test_a_refused_registration_changes_nothing():
    refused = registered(T2, T1, refused="no overlap")
    assert row_pairs([OTHER_T1], [refused]) == [(OTHER_T1, refused)]


@pytest.mark.parametrize("both", [True, False])
def test_volumes_of_doubtful_patients_are_no_pairs(both):
    """They count as one patient for the splits, but may be several."""
    t1, t2 = (dataclasses.replace(row, patient_source="doubtful") for row in (T1, T2))
    assert row_pairs([t1], [t2 if both else T2]) == []


def test_cropped_volumes_are_pairs_only_if_they_were_registered():
    t1, t2 = (dataclasses.replace(row, cropped=True) for row in (T1, T2))
    assert row_pairs([t1], [t2]) == []
    moved = registered(t2, t1)
    assert row_pairs([t1], [moved]) == [(t1, moved)]


def test_slices_that_one_volume_lacks_are_left_out():
    """A stack has only the slices with foreground, so the same position has another index in each."""
    t1 = dataclasses.replace(T1, slices=(4, 5, 6, 8), heights=(4.0, 5.0, 6.0, 8.0))
    t2 = dataclasses.replace(T2, slices=(2, 3, 5, 7, 8), heights=(2.0, 3.0, 5.0, 7.0, 8.0))
    assert shared_slices((t1, t2)) == [(1, 2), (3, 4)]
    assert shared_slices((t2, t1)) == [(2, 1), (4, 3)]
