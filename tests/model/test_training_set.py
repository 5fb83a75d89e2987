import numpy as np
import pytest
from support.stores import blobs, make_row, make_store

from medcyclegan.model.training_set import TrainingSet, describe_patients, describe_training_set
from medcyclegan.slicing.measures import histogram_of


def test_a_domain_is_described(tmp_path):
    rows = make_store(tmp_path, {"t1": [blobs(5, 32, seed) for seed in range(3)]})
    described = TrainingSet.from_dict(describe_training_set(rows, tmp_path))
    assert described.volumes == 3
    assert described.pixel_mm == described.slice_mm == (1.0, 1.0)
    assert described.acquisitions == {"axial": 3}
    own = histogram_of(blobs(5, 32, 0))
    other = histogram_of(blobs(5, 32, 0, inverted=True))
    assert described.histogram_distance(own) <= described.histogram_spread + 1e-3
    assert described.histogram_distance(other) > 5 * described.histogram_spread
    assert described.to_dict() == TrainingSet.from_dict(described.to_dict()).to_dict()


def test_spacings_are_those_of_the_axial_plane(tmp_path):
    make_store(tmp_path, {"t1": [blobs(4, 32, 0)]})
    sagittal = ((0.0, 0.0, 5.0, 0.0), (1.5, 0.0, 0.0, 0.0), (0.0, -2.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    described = describe_training_set([make_row("t1", 0, (4, 32, 32), affine=sagittal)], tmp_path)
    assert described["pixel_mm"] == (1.5, 5.0)
    assert described["slice_mm"] == (2.0, 2.0)
    assert described["acquisitions"] == {"sagittal": 1}


@pytest.mark.parametrize(("value", "counts"), [(-0.951, False), (-0.949, True)])
def test_the_foreground_of_a_histogram_begins_above_air(value, counts):
    scaled = np.array([-1.0, *[value] * 20, *[0.5] * 20])
    assert histogram_of(scaled)[0] == pytest.approx(value if counts else 0.5)


def test_patients_are_counted_by_split_and_source():
    rows = [
        make_row("t1", n, (2, 32, 32), patient_source="name", split="test" if n == 3 else "train") for n in range(4)
    ]
    rows += [make_row("t1", n, (2, 32, 32), patient_source="PatientID", patient="0" * 16) for n in (4, 5)]
    assert describe_patients(rows) == {
        "splits": {"train": 4, "validation": 0, "test": 1}, "sources": {"PatientID": 2, "name": 4},
    }  # fmt: skip


def test_air_has_no_histogram():
    assert histogram_of(np.full((2, 3, 3), -1.0)) is None


@pytest.mark.parametrize("change", [{"histogram": [0.0]}, {"pixel_mm": []}, {"volumes": "many"}, {"acquisitions": 3}])
def test_a_damaged_description_is_refused(change, tmp_path):
    rows = make_store(tmp_path, {"t1": [blobs(2, 32, 0)]})
    with pytest.raises((KeyError, TypeError, ValueError, IndexError, AttributeError)):
        TrainingSet.from_dict({**describe_training_set(rows, tmp_path), **change})
