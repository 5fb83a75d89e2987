"""One DICOM file of a series is never read as a volume of one slice without a warning."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from support import dicom_phantoms as made
from support.models import tiny_model

from medcyclegan.errors import AmbiguousError
from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.io import ReadOptions, find_volumes, read_found_volume, read_volume, write_volume
from medcyclegan.io.inspect import inspect_paths
from medcyclegan.slicing import slice_volumes

REFUSED = "IM0004.dcm is one slice of a series of which 9 other file.s. are in its folder: name the folder to read"


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return made.save(made.slices_of(made.placed_volume()), tmp_path / "pacs" / "ct")


def test_a_slice_of_a_series_is_refused_wherever_volumes_are_read(series: list[Path], tmp_path: Path) -> None:
    with pytest.raises(AmbiguousError, match=REFUSED):
        read_volume(series[3])
    (found,) = find_volumes(series[3], ReadOptions())
    assert found.refused is not None
    assert REFUSED.partition(" of ")[0] in found.refused
    (row,) = inspect_paths([series[3]], ReadOptions()).volumes
    assert (row.verdict, row.reason) == ("refused", found.refused)
    sliced = slice_volumes(series[3], tmp_path / "slices", domain="ct")
    assert sliced.refused[0].reason.startswith("… is one slice of a series")
    model = tiny_model().save(tmp_path / "model")
    with pytest.raises(AmbiguousError, match=REFUSED):
        translate_file(series[3], tmp_path / "out.nii.gz", model, TranslationOptions(to="mr"))


def test_a_slice_alone_in_its_folder_is_read(series: list[Path], tmp_path: Path) -> None:
    """Files of other series, copies, localizers and other files in the same folder do not count."""
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("one.dcm", "copy.dcm"):
        shutil.copy(series[3], alone / name)
    made.save(made.slices_of(made.placed_volume(), seed="other"), alone)
    made.save([made.localizer(made.placed_volume(), "series")], alone, name=lambda number: "scout.dcm")
    (alone / "notes.txt").write_text("junk")
    (alone / "DICOMDIR").write_bytes(b"junk")
    assert read_volume(alone / "one.dcm").shape == (12, 14, 1)
    (found,) = find_volumes(alone / "one.dcm", ReadOptions())
    assert read_found_volume(found, ReadOptions()).shape == (12, 14, 1)
    (row,) = inspect_paths([alone / "one.dcm"], ReadOptions()).volumes
    assert (row.verdict, row.slices) == ("ok", 1)


def test_among_several_series_the_advice_names_the_right_one(series: list[Path]) -> None:
    made.save(made.slices_of(made.placed_volume(), seed="other"), series[0].parent, name=lambda number: f"b{number}")
    with pytest.raises(AmbiguousError, match=r"name the folder with --series 1[.]2[.]") as refusal:
        read_volume(series[3])
    uid = str(refusal.value).partition("--series ")[2].split()[0]
    assert read_volume(series[3].parent, series=uid).shape == (12, 14, 10)


def test_damaged_siblings_count(series: list[Path]) -> None:
    for path in series[1:]:
        path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(AmbiguousError, match="9 other file"):
        read_volume(series[0])


def test_all_files_of_a_series_named_one_by_one_are_inspected_as_one(series: list[Path]) -> None:
    (row,) = inspect_paths(series, ReadOptions()).volumes
    assert (row.verdict, row.slices) == ("ok", 10)


def test_a_multi_frame_file_is_read_and_its_siblings_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (made.enhanced_of(made.placed_volume()) for _ in range(2))
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    paths = made.save([first, second], tmp_path / "in")
    said = "1 other file(s) of the same series in its folder are not read: name the folder for all"
    for path in paths:
        with caplog.at_level(logging.WARNING):
            found = read_volume(path)
        assert found.shape == (12, 14, 10)
        assert said in found.notes
        assert said in caplog.text
        caplog.clear()
        (row,) = inspect_paths([path], ReadOptions()).volumes
        assert (row.verdict, row.notes) == ("ok", (said,))
    with caplog.at_level(logging.WARNING):
        (listed,) = find_volumes(paths[0], ReadOptions())
    assert said in caplog.text
    assert listed.refused is None
    paths[1].unlink()
    assert read_volume(paths[0]).notes == ()


def test_one_file_of_a_template_is_enough(series: list[Path], tmp_path: Path) -> None:
    """Patient and study are copied from a template, so one of its files is enough."""
    volume = made.placed_volume()
    write_volume(volume, tmp_path / "out", template=series[3])
    assert len(list((tmp_path / "out").iterdir())) == 10
