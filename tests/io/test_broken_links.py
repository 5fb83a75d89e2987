"""A symbolic link without a target is reported as a missing volume or slice."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import dicom_phantoms as made
from support import phantoms
from support.models import tiny_model

from medcyclegan.cli.main import main
from medcyclegan.errors import ReadError
from medcyclegan.io import ReadOptions, find_volumes, read_found_volume, read_volume
from medcyclegan.io.inspect import inspect_paths
from medcyclegan.io.inspected import InspectedVolume
from medcyclegan.slicing import slice_volumes

REASON = "a symbolic link whose target does not exist or cannot be reached: restore the target, or remove it"


def link(path: Path, target: str = "gone") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def rows_of(path: Path) -> dict[str, InspectedVolume]:
    return {row.path: row for row in inspect_paths([path], ReadOptions()).volumes}


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.png", "a.mha", "a.hdr", "a.dcm", "a", "IM.0001"])
@pytest.mark.parametrize("target", ["gone", None], ids=["gone", "circle"])
def test_a_missing_volume_is_found_and_refused(name: str, target: str | None, tmp_path: Path) -> None:
    path = link(tmp_path / "volumes" / name, target or name)
    phantoms.write_nifti(phantoms.head_mr((8, 8, 4)), tmp_path / "volumes" / "good.nii")
    refused, good = find_volumes(tmp_path / "volumes", ReadOptions())
    assert (refused.path, refused.refused) == (path, f"{name}: {REASON}")
    assert good.refused is None
    with pytest.raises(ReadError, match=REASON):
        read_found_volume(refused, ReadOptions())
    rows = rows_of(tmp_path / "volumes")
    assert len(rows) == 2
    assert (rows[path.as_posix()].verdict, rows[path.as_posix()].reason) == ("refused", refused.refused)
    for read in (lambda: read_volume(path), lambda: find_volumes(path, ReadOptions()), lambda: rows_of(path)):
        with pytest.raises(ReadError, match=f"{name}: {REASON}"):
            read()


@pytest.mark.parametrize("name", ["IM0010.dcm", "IM0010", "IM.5"])
def test_a_missing_slice_refuses_its_series(name: str, tmp_path: Path) -> None:
    """The stack is even without the slice; only the link shows that it is missing."""
    folder = tmp_path / "ct"
    made.save(made.slices_of(made.placed_volume())[:9], folder)
    link(folder / name)
    (found,) = find_volumes(tmp_path, ReadOptions())
    assert found.refused == f"{name}: {REASON}"
    (row,) = inspect_paths([tmp_path], ReadOptions()).volumes
    assert (row.verdict, row.reason) == ("refused", f"{name}: {REASON}")
    with pytest.raises(ReadError, match=REASON):
        read_volume(folder)
    (folder / name).unlink()
    assert read_volume(folder).shape == (12, 14, 9)


def test_a_slice_next_to_missing_ones_is_not_a_volume(tmp_path: Path) -> None:
    """As in a data set of which only one file was downloaded."""
    (path,) = made.save(made.slices_of(made.placed_volume())[:1], tmp_path)
    link(tmp_path / "IM0002.dcm")
    with pytest.raises(ReadError, match=f"IM0002.dcm: {REASON}"):
        read_volume(path)
    assert inspect_paths([path], ReadOptions()).volumes[0].verdict == "refused"
    assert f"IM0002.dcm: {REASON}" in str(find_volumes(path, ReadOptions())[0].refused)


def test_links_to_sidecars_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made.save(made.slices_of(made.placed_volume()), tmp_path / "in" / "ct")
    phantoms.write_nifti(phantoms.head_mr((8, 8, 4)), tmp_path / "in" / "mr.nii.gz")
    for name in ("mr.json", "ct/notes.txt"):
        link(tmp_path / "in" / name)
    with caplog.at_level(logging.WARNING):
        found = find_volumes(tmp_path / "in", ReadOptions())
    assert [(volume.name, volume.refused) for volume in found] == [("ct", None), ("mr", None)]
    assert caplog.text.count(REASON) == 2
    inspected = inspect_paths([tmp_path / "in"], ReadOptions())
    assert [row.verdict for row in inspected.volumes] == ["ok", "ok"]
    assert inspected.others == {"broken symbolic link (.json)": 1, "broken symbolic link (.txt)": 1}
    assert "its JSON sidecar cannot be read" in read_volume(tmp_path / "in" / "mr.nii.gz").notes[0]
    assert read_volume(tmp_path / "in" / "ct").shape == (12, 14, 10)


def test_slicing_counts_a_missing_volume_as_refused(tmp_path: Path) -> None:
    phantoms.write_nifti(phantoms.head_mr((24, 24, 8)), tmp_path / "volumes" / "mr" / "good.nii")
    link(tmp_path / "volumes" / "mr" / "gone.nii.gz")
    link(tmp_path / "volumes" / "mr" / "circle", "circle")
    result = slice_volumes(tmp_path / "volumes", tmp_path / "slices")
    assert len(result.sliced) == 1
    assert [refusal.reason for refusal in result.refused] == [f"…: {REASON}"] * 2
    for name in ("gone.nii.gz", "circle"):
        (tmp_path / "volumes" / "mr" / name).unlink()
    shutil.copy(tmp_path / "volumes" / "mr" / "good.nii", tmp_path / "volumes" / "mr" / "gone.nii.gz")
    again = slice_volumes(tmp_path / "volumes", tmp_path / "slices")
    assert (len(again.sliced), len(again.finished), again.refused) == (1, 1, ())


def test_a_missing_domain_is_refused(tmp_path: Path) -> None:
    phantoms.write_nifti(phantoms.head_mr((24, 24, 8)), tmp_path / "volumes" / "mr" / "good.nii")
    link(tmp_path / "volumes" / "ct")
    with pytest.raises(ReadError, match=f"ct: {REASON}"):
        slice_volumes(tmp_path / "volumes", tmp_path / "slices")


@pytest.mark.parametrize("name", ["in.nii.gz", "in"])
def test_on_the_command_line_it_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    link(tmp_path / name, name)
    tiny_model().save(tmp_path / "model")
    translate = ["translate-volume", name, "o.nii", "--model", "model", "--device", "cpu"]
    for command in (["inspect", name], ["slice-volumes", name, "--domain", "mr"], translate):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1
        assert result.stderr == f"Error: {name}: {REASON}\n"
