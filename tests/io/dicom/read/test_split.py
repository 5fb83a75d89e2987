"""How frames are assigned to volumes, and the order of the volumes."""

from __future__ import annotations

import copy

import pytest
from support import dicom_phantoms as made

from medcyclegan.errors import AmbiguousError
from medcyclegan.io.dicom.read.series import scan_files
from medcyclegan.io.dicom.read.split import split_volumes


def groups_of(folder, times, split_by=None):
    """Write one slice per entry ``(position, elements)``; return the name and instance numbers of each volume."""
    slices = []
    patterns = made.slices_of(made.placed_volume((4, 4, 3)))
    for number, (place, elements) in enumerate(times, start=1):
        dataset = copy.deepcopy(patterns[place])
        dataset.InstanceNumber = number
        dataset.SOPInstanceUID = f"1.2.{number}"
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        slices.append(dataset)
    made.save(slices, folder)
    frames = scan_files(sorted(folder.iterdir()), split_by).frames
    return [(g.name, [f.image.instance_number for f in g.frames]) for g in split_volumes(frames, split_by)]


def test_one_volume(tmp_path):
    assert groups_of(tmp_path, [(0, {}), (1, {}), (2, {})]) == [("the only volume", [1, 2, 3])]


def test_numbers_are_ordered_as_numbers(tmp_path):
    times = [(place, {"TriggerTime": time}) for time in (200, 0, 1000) for place in (0, 1, 2)]
    assert groups_of(tmp_path, times) == [
        ("TriggerTime 0.0", [4, 5, 6]),
        ("TriggerTime 200.0", [1, 2, 3]),
        ("TriggerTime 1000.0", [7, 8, 9]),
    ]


def test_texts_are_ordered_by_acquisition(tmp_path):
    times = [(place, {"ImageType": ["ORIGINAL", "PRIMARY", kind]}) for kind in "PM" for place in (0, 1, 2)]
    assert [name for name, _ in groups_of(tmp_path / "a", times)] == [
        "ImageType ORIGINAL\\PRIMARY\\P",
        "ImageType ORIGINAL\\PRIMARY\\M",
    ]
    for _place, elements in times:
        elements["AcquisitionTime"] = "120000" if elements["ImageType"][2] == "M" else "120100"
    assert groups_of(tmp_path / "b", times)[0][0].endswith("M")


def test_two_keywords_together(tmp_path):
    times = [
        (place, {"EchoTime": echo, "TemporalPositionIdentifier": time})
        for time in (1, 2)
        for place in (0, 1, 2)
        for echo in (10, 20)
    ]
    assert groups_of(tmp_path, times) == [
        ("EchoTime 10.0, TemporalPositionIdentifier 1", [1, 3, 5]),
        ("EchoTime 10.0, TemporalPositionIdentifier 2", [7, 9, 11]),
        ("EchoTime 20.0, TemporalPositionIdentifier 1", [2, 4, 6]),
        ("EchoTime 20.0, TemporalPositionIdentifier 2", [8, 10, 12]),
    ]


def test_a_keyword_that_numbers_slices_splits_nothing(tmp_path):
    times = [(place, {"AcquisitionNumber": place + 1}) for _ in (1, 2) for place in (0, 1, 2)]
    assert [numbers for _, numbers in groups_of(tmp_path, times)] == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("order", [(0, 1, 2, 0, 1, 2), (0, 0, 1, 1, 2, 2)])
def test_instance_numbers_by_volume_or_by_place(tmp_path, order):
    found = groups_of(tmp_path, [(place, {}) for place in order])
    assert [len(numbers) for _, numbers in found] == [3, 3]
    assert found[0][1] == ([1, 2, 3] if order[1] == 1 else [1, 3, 5])


def test_an_unclear_order_splits_nothing(tmp_path):
    assert len(groups_of(tmp_path, [(place, {}) for place in (0, 0, 1, 2, 1, 2)])) == 1


def test_the_last_time_point_may_be_incomplete(tmp_path):
    times = [(place, {"TemporalPositionIdentifier": time}) for time in (1, 2, 3) for place in (0, 1, 2)][:-1]
    assert [len(numbers) for _, numbers in groups_of(tmp_path, times)] == [3, 3, 2]


def test_any_keyword_may_be_named(tmp_path):
    times = [(place, {"FlipAngle": angle}) for angle in (5, 20) for place in (0, 1, 2)]
    assert [name for name, _ in groups_of(tmp_path / "a", times, "FlipAngle")] == ["FlipAngle 5.0", "FlipAngle 20.0"]
    with pytest.raises(AmbiguousError, match="no image has the keyword RepetitionTme"):
        groups_of(tmp_path / "b", times, "RepetitionTme")
