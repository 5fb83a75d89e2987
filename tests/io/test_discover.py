"""Discovery lists every volume of a tree once, named after its path, including unreadable files."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import dicom_phantoms as made
from support import phantoms

from medcyclegan.errors import ReadError
from medcyclegan.io import ReadOptions, anonymous_reason, find_volumes, read_found_volume, read_volume


def save_series(folder, seed="series", **how):
    return made.save(made.slices_of(made.placed_volume(), seed=seed), folder, **how)


def found_in(root, **options):
    return find_volumes(root, ReadOptions(**options))


def test_a_mixed_tree(tmp_path):
    save_series(tmp_path / "case2" / "ct", seed="two")
    save_series(tmp_path / "case1", seed="one", name=lambda number: f"{number}")
    phantoms.write_nifti(phantoms.head_mr((8, 8, 4)), tmp_path / "sub-3" / "anat" / "sub-3_T1w.nii.gz")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.PNG")
    for name in ("sub-3/anat/sub-3_T1w.json", "case1/DICOMDIR", "case1/notes.txt", ".hidden.nii", ".tmp-12ab-x.nii"):
        (tmp_path / name).write_text("{}")
    found = found_in(tmp_path)
    assert [(volume.name, volume.kind, volume.patient) for volume in found] == [
        ("a", "image", None),
        ("case1", "dicom", "P-one"),
        ("case2/ct", "dicom", "P-two"),
        ("sub-3/anat/sub-3_T1w", "nifti", None),
    ]
    assert found[1].path == tmp_path / "case1"
    assert found[3].relative_path.as_posix() == "sub-3/anat/sub-3_T1w.nii.gz"
    assert all(volume.refused is None for volume in found)
    assert found == found_in(tmp_path)


def test_series_of_one_folder_are_numbered_by_series_number(tmp_path):
    slices = []
    for number, seed in ((9, "nine"), (10, "ten"), (2, "two")):
        for dataset in made.slices_of(made.placed_volume(), seed=seed):
            dataset.SeriesNumber = number
            slices.append(dataset)
    made.save(slices, tmp_path / "pacs")
    found = found_in(tmp_path)
    assert [(volume.name, volume.patient) for volume in found] == [
        ("pacs#1", "P-two"),
        ("pacs#2", "P-nine"),
        ("pacs#3", "P-ten"),
    ]
    for volume in found:
        assert read_volume(volume.path, series=volume.series_uid).source.patient_id == volume.patient
        assert read_found_volume(volume, ReadOptions()).source.patient_id == volume.patient


def test_a_series_spread_over_folders_is_one(tmp_path):
    save_series(tmp_path / "export", name=lambda number: f"DIR{number % 3}/IM{number}")
    (volume,) = found_in(tmp_path)
    assert (volume.path, volume.name, len(volume.files)) == (tmp_path / "export", "export", 10)
    assert read_found_volume(volume, ReadOptions()).shape == (12, 14, 10)


def test_copies_of_a_series_in_two_folders_are_two(tmp_path):
    save_series(tmp_path / "a")
    save_series(tmp_path / "b")
    found = found_in(tmp_path)
    assert [(volume.name, len(volume.files)) for volume in found] == [("a", 10), ("b", 10)]
    assert read_found_volume(found[1], ReadOptions()).shape == (12, 14, 10)


def test_a_spread_series_with_copies_of_some_images_is_one(tmp_path):
    """As in a shuffled export that contains some images twice; the images of one folder would miss slices."""
    save_series(tmp_path / "export", name=lambda number: f"DIR{number % 3}/IM{number}")
    for number in (2, 3):
        there = tmp_path / "export" / f"DIR{number % 3}" / f"IM{number}"
        (tmp_path / "export" / "DIR1" / f"AGAIN{number}").write_bytes(there.read_bytes())
    (volume,) = found_in(tmp_path)
    assert (volume.path, len(volume.files)) == (tmp_path / "export", 12)
    assert read_found_volume(volume, ReadOptions()).shape == (12, 14, 10)


def test_a_refusal_of_a_spread_series_names_the_folder_of_the_damaged_image(tmp_path):
    """Folders of an export have files of the same names."""
    save_series(tmp_path / "export", name=lambda number: f"DIR{number % 2}/IM{number // 2}")
    file = tmp_path / "export/DIR1/IM3"
    file.write_bytes(file.read_bytes()[:-40])
    (volume,) = found_in(tmp_path)
    assert volume.refused.startswith("DIR1/IM3 is cut short")
    assert "DIR1" not in anonymous_reason(volume.refused, volume)
    with pytest.raises(ReadError, match="/export: DIR1/IM3 is cut short"):
        read_volume(tmp_path / "export")


def test_a_complete_copy_next_to_a_spread_one(tmp_path):
    save_series(tmp_path / "a")
    save_series(tmp_path / "export", name=lambda number: f"DIR{number % 3}/IM{number}")
    found = found_in(tmp_path)
    assert [(volume.name, len(volume.files)) for volume in found] == [("a", 10), ("export", 10)]


def test_localizers_and_reports_are_left_out_with_a_warning(tmp_path, caplog):
    save_series(tmp_path / "ct")
    made.save([made.localizer(made.placed_volume(), "scout")], tmp_path / "ct", name=lambda number: "scout.dcm")
    made.save([made.localizer(made.placed_volume(), "other")], tmp_path / "scout")
    with caplog.at_level(logging.WARNING):
        (volume,) = found_in(tmp_path)
    assert volume.name == "ct"
    assert caplog.text.count("left out: a localizer") == 2


def test_a_damaged_slice_refuses_its_series_with_the_reader_s_sentence(tmp_path):
    paths = save_series(tmp_path / "bad")
    paths[4].write_bytes(paths[4].read_bytes()[:-50])
    save_series(tmp_path / "good", seed="good")
    bad, good = found_in(tmp_path)
    assert good.refused is None
    assert "IM0005.dcm is cut short" in bad.refused
    with pytest.raises(ReadError) as caught:
        read_volume(bad.path, series=bad.series_uid)
    assert str(caught.value).endswith(bad.refused)
    with pytest.raises(ReadError, match=r"IM0005.dcm is cut short"):
        read_found_volume(bad, ReadOptions())


def test_a_damaged_file_of_no_series_refuses_its_neighbours(tmp_path):
    save_series(tmp_path / "ct")
    (tmp_path / "ct" / "lost.dcm").write_bytes(bytes(128) + b"DICM" + b"nothing that parses")
    (volume,) = found_in(tmp_path)
    assert "lost.dcm" in volume.refused


def test_a_damaged_file_alone_is_found_and_refused(tmp_path):
    (tmp_path / "lost.dcm").write_bytes(bytes(128) + b"DICM")
    save_series(tmp_path / "ct")
    ct, lost = found_in(tmp_path)
    assert (ct.name, ct.refused) == ("ct", None)
    assert (lost.name, lost.path) == ("lost", tmp_path / "lost.dcm")
    assert "ends before its pixel data" in lost.refused


def test_symbolic_links_are_followed_once(tmp_path):
    save_series(tmp_path / "data" / "ct")
    root = tmp_path / "volumes"
    root.mkdir()
    (root / "case").symlink_to(tmp_path / "data" / "ct")
    (root / "loop").symlink_to(root)
    assert [volume.name for volume in found_in(root)] == ["case"]


def test_a_series_right_below_the_root_has_its_name(tmp_path):
    save_series(tmp_path / "case")
    (volume,) = found_in(tmp_path / "case")
    assert (volume.name, volume.path) == ("case", tmp_path / "case")


def test_one_file_is_inspected_alone(tmp_path):
    phantoms.write_nifti(phantoms.head_mr((8, 8, 4)), tmp_path / "a.nii.gz")
    phantoms.write_nifti(phantoms.head_mr((8, 8, 4)), tmp_path / "b.nii.gz")
    assert [volume.name for volume in found_in(tmp_path / "b.nii.gz")] == ["b"]


def test_one_series_can_be_selected(tmp_path):
    save_series(tmp_path, seed="a")
    other = save_series(tmp_path, seed="b", name=lambda number: f"b{number}")
    import pydicom

    uid = pydicom.dcmread(other[0]).SeriesInstanceUID
    assert [volume.series_uid for volume in found_in(tmp_path, series=uid)] == [uid]


def test_a_pair_is_refused_not_lost(tmp_path):
    (tmp_path / "a.hdr").write_bytes(bytes(348))
    (tmp_path / "a.img").write_bytes(bytes(10))
    (pair,) = found_in(tmp_path)
    assert "convert" in pair.refused


def test_nothing_there(tmp_path):
    with pytest.raises(ReadError, match=r"no such file or folder"):
        found_in(tmp_path / "absent")
    assert found_in(tmp_path) == []


def test_found_volumes_of_other_formats_are_read(tmp_path):
    head = phantoms.head_mr((8, 8, 4))
    phantoms.write_nifti(head, tmp_path / "a.nii.gz")
    (found,) = found_in(tmp_path)
    np.testing.assert_array_equal(read_found_volume(found, ReadOptions()).array, head.array)


def test_several_folders_are_searched_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slices = made.slices_of(made.placed_volume(), seed="spread")
    made.save(slices[::2], tmp_path / "x" / "DISK1")
    made.save(slices[1::2], tmp_path / "x" / "DISK2")
    for folder in ("x/DISK1", "x/DISK2"):
        phantoms.write_nifti(phantoms.head_mr((8, 8, 4)), tmp_path / folder / "a.nii")
    found = find_volumes([Path("x/DISK1"), Path("x/DISK2"), Path("x/DISK1/a.nii")], ReadOptions())
    assert [(volume.name, len(volume.files)) for volume in found] == [("DISK1/a", 1), ("DISK2/a", 1), ("x", 10)]
    assert read_found_volume(found[2], ReadOptions()).shape == made.placed_volume().shape
    (tmp_path / "y").mkdir()
    monkeypatch.chdir(tmp_path / "y")
    for roots in ((Path("../x/DISK1"), Path("../x/DISK2")), (tmp_path / "x/DISK1", Path("../x/DISK2"))):
        names = [volume.name for volume in find_volumes(roots, ReadOptions())]
        assert names == ["DISK1/a", "DISK2/a", "x"], "no name leads out of the folder"


def test_a_single_slice_named_with_another_input_is_refused(tmp_path):
    paths = save_series(tmp_path / "series")
    phantoms.write_nifti(phantoms.head_mr((8, 8, 4)), tmp_path / "a.nii")
    found = {volume.kind: volume for volume in find_volumes([paths[3], tmp_path / "a.nii"], ReadOptions())}
    assert "one slice of a series" in found["dicom"].refused
    assert found["nifti"].refused is None
