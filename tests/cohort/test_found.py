"""The list of volumes that all jobs of a cohort read."""

import os
from pathlib import Path

import pytest
from support.phantoms import head_mr, write_nifti

from medcyclegan.cohort import load_found, save_found, select_volumes
from medcyclegan.errors import ReadError
from medcyclegan.io import FoundVolume
from medcyclegan.slicing import slice_volumes

SHAPE = (16, 18, 8)


def test_a_list_comes_back_as_it_was(tmp_path):
    odd = os.fsdecode(b"m\xfcller\xe2\x80\xa8 1")
    series = FoundVolume(
        Path("tree", odd), "dicom", f"{odd}#2", Path(odd), "1.2.3", "M\u00fcller\x85", "cut short",
        (Path("tree", odd, "1.dcm"), Path("tree", odd, "more", "2.dcm")),
    )  # fmt: skip
    one = FoundVolume(
        Path("/data/a_T1w.nii.gz"), "nifti", "a_T1w", Path("a_T1w.nii.gz"), files=(Path("/data/a_T1w.nii.gz"),)
    )
    file = save_found(tmp_path / "logs", {"ct": [series], "mr": [one, series]})
    assert load_found(file, ["ct", "mr"]) == {"ct": [series], "mr": [one, series]}
    assert file.stat().st_mode & 0o077 == 0
    assert save_found(tmp_path / "logs", {"ct": [series], "mr": [one, series]}) == file
    assert save_found(tmp_path / "logs", {"ct": [series], "mr": [one]}) != file


@pytest.mark.parametrize(
    "text", ["{}\n", "[1, 2, 3]\n", '["ct", {}]\n', "not JSON", '["mr", {"files": [1]}]', "\u00e9"]
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "list").write_text(text)
    with pytest.raises(ReadError, match="is not a list of these volumes"):
        load_found(tmp_path / "list", ["mr"])
    with pytest.raises(ReadError, match="is not a list of these volumes"):
        load_found(tmp_path / "nowhere", ["mr"])


def test_a_shard_checks_its_own_files_only(tmp_path, monkeypatch):
    """Of the other volumes, it needs only the names, for the split."""
    for n in range(6):
        write_nifti(head_mr(SHAPE, seed=n), tmp_path / "mr" / f"p{n}.nii.gz")
    volumes = {"mr": select_volumes(tmp_path / "mr")}
    looked, stat = set(), Path.stat

    def watched(path, **options):
        if path.suffix == ".gz":
            looked.add(path.name)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", watched)
    result = slice_volumes(volumes, tmp_path / "slices", shard=(1, 3))
    assert len(result.sliced) == 2
    assert looked == {"p1.nii.gz", "p4.nii.gz"}
