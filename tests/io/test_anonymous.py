"""The stored reason of a refusal names no file, folder or series, but keeps its numbers and its text."""

from pathlib import Path

import pytest

from medcyclegan.io import FoundVolume, anonymous_reason

UID = "1.2.840.113619.2.55.3"


def series(folder, *names, uid=UID):
    relative = Path(folder)
    path = Path("/data/Smith_J") / relative
    return FoundVolume(path, "dicom", relative.as_posix(), relative, uid, "X", files=tuple(path / n for n in names))


def nifti(name, tree="/data/volumes"):
    path = Path(tree) / name
    stem = Path(name.removesuffix(".gz"))
    return FoundVolume(path, "nifti", stem.with_suffix("").as_posix(), Path(name), files=(path,))


NUMBERED = series("ct/4711", *map(str, range(28)))


@pytest.mark.parametrize(
    "reason",
    [
        "slice spacing varies from 0 to 27 mm: export the complete series, or pass --allow-gap",
        "slice spacing varies from 1.08 to 7 mm and 4.00 mm",
        "27 of 28 slices have another RescaleSlope than the rest",
        "2 volumes of 5 slices",
        "a header of 512 x 512 x 27 = 7077888 voxels, over the limit of 4",
    ],
)
def test_files_that_are_numbers_take_no_number_along(reason):
    assert anonymous_reason(reason, NUMBERED) == reason


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("27 ends before its pixel data: damaged", "… ends before its pixel data: damaged"),
        ("4 files are refused, the first: 4 does not parse", "4 files are refused, the first: … does not parse"),
        ("27: 524288 bytes of pixel data where 27 frames are 4", "…: 524288 bytes of pixel data where 27 frames are 4"),
        ("/data/Smith_J/ct/4711/27 cannot be read", "… cannot be read"),
        ("4711/27 cannot be read", "…/… cannot be read"),
        ("/data/Smith_J/ct/4711: 28 files are refused", "…: 28 files are refused"),
        ("/data/Smith_J/ct: nothing here", "…: nothing here"),
        (f"no series {UID} here: choose one", "no series … here: choose one"),
        (f"series …{UID[-8:]}: a slice is missing", "series …: a slice is missing"),
        ("27.json is no JSON, 27.5 mm", "….json is no JSON, 27.5 mm"),
    ],
)
def test_numbers_are_hidden_where_they_are_names(reason, kept):
    assert anonymous_reason(reason, NUMBERED) == kept


@pytest.mark.parametrize(
    ("name", "reason", "kept"),
    [
        ("a.nii.gz", "a.nii.gz: a slice is missing", "…: a slice is missing"),
        ("a.nii.gz", "a.json cannot be read: a JSON file", "….json cannot be read: a JSON file"),
        ("CT/slice.nii", "a CT whose darkest voxels: slice 4 of CT", "a CT whose darkest voxels: slice 4 of CT"),
        ("CT/slice.nii", "CT/slice.nii holds a slice of a CT", "… holds a slice of a CT"),
        ("smith/x.nii", "smith: 3 files", "…: 3 files"),
        ("P01_T1.nii.gz", "the file P01_T1 is not P01_T12", "the file … is not P01_T12"),
        ("P01_T1.nii.gz", "P01_T1.nii.gz, P01_T1.json and /x/P01_T1/y", "…, ….json and /x/…/y"),
        ("123456.nii", "the volume 123456 has 1234567 bytes", "the volume … has 1234567 bytes"),
        ("John Doe 1.nii", "John Doe 1.nii: not NIfTI", "…: not NIfTI"),
        ("Zoë.nii", "Zoë.nii: (Zoë) is 'Zoë' but Zoëlle stays", "…: … is … but Zoëlle stays"),
        ("a\nb1.nii", "a b1.nii: refused", "…: refused"),
    ],
)
def test_whole_components_only(name, reason, kept):
    assert anonymous_reason(reason, nifti(name)) == kept


def test_texts_of_headers_go():
    reason = "Modality is 'QZMARK7' and \"QZMARK7\" (QZMARK7 7): export the series again"
    assert anonymous_reason(reason, NUMBERED) == "Modality is … and … …: export the series again"


@pytest.mark.parametrize("tree", [".", "volumes", "../volumes", "/data/Smith_J"])
def test_the_path_of_the_input_is_removed_however_it_was_named(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = nifti("ct/P01.nii.gz", tree)
    for path in (found.path, found.path.resolve(), found.path.parent.resolve()):
        kept = anonymous_reason(f"{path} cannot be opened: 2 volumes, 1 slice", found)
        assert kept == "… cannot be opened: 2 volumes, 1 slice"
