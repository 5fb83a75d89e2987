"""Files in a tree are images, other files or damaged images."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian
from support import dicom_phantoms as made
from support.phantoms import head_ct

from medcyclegan import read_volume
from medcyclegan.errors import ReadError
from medcyclegan.io.dicom.read import headers as dicom_headers
from medcyclegan.io.dicom.read.headers import DamagedFile, DicomFile, OtherFile, is_dicom, read_header, walk_files


@pytest.fixture
def image(tmp_path):
    return made.save(made.slices_of(made.placed_volume((12, 14, 1))), tmp_path)[0]


def test_an_image(image):
    found = read_header(image)
    assert isinstance(found, DicomFile)
    assert found.pixel_length == 336
    assert image.read_bytes()[found.pixel_offset :] == made.slices_of(made.placed_volume((12, 14, 1)))[0].PixelData
    assert "PixelData" not in found.dataset
    assert is_dicom(image)


@pytest.mark.parametrize("content", [b"", b"DICM", b"\x89PNG\r\n" + bytes(200), b"1.2.840.10008.1.2 in a text " * 20])
def test_junk(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert read_header(path) == OtherFile(path, "not DICOM")
    assert not is_dicom(path)


@pytest.mark.parametrize("keep", [132, 140, 200, 400, -337, -336, -1])
def test_cut_short(image, keep):
    image.write_bytes(image.read_bytes()[:keep])
    found = read_header(image)
    assert isinstance(found, DamagedFile)
    assert found.reason.startswith(image.name)
    assert found.reason.endswith("export it again or remove it")


def test_a_damaged_file_still_names_its_series(image):
    image.write_bytes(image.read_bytes()[:-1])
    assert read_header(image).series_uid == made.slices_of(made.placed_volume((12, 14, 1)))[0].SeriesInstanceUID


def test_dicom_without_its_mark(image):
    data = image.read_bytes()
    for content in (data[132:], data[:128] + b"XXXX" + data[132:], data[:100] + data[120:]):
        image.write_bytes(content)
        assert "without the DICM mark" in read_header(image).reason


def test_what_cannot_be_opened(tmp_path):
    assert isinstance(read_header(tmp_path / "absent"), DamagedFile)
    assert not is_dicom(tmp_path / "absent")


def test_a_deflated_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_headers, "_MOST_HEADER", 900)
    monkeypatch.setattr(dicom_headers, "_MOST_INFLATED", 1000)
    paths = made.save(made.slices_of(made.placed_volume((12, 14, 1))), tmp_path, syntax=DeflatedExplicitVRLittleEndian)
    assert "over 1000 bytes" in read_header(paths[0]).reason


@pytest.mark.parametrize(
    ("header", "behind", "right"),
    [(1 << 26, 0, True), (2000, 0, True), (2000, 64, True), (2000, 1 << 24, False), (1 << 26, 1 << 28, False)],
)
def test_no_more_is_inflated_than_the_pixels_need(tmp_path, monkeypatch, header, behind, right):
    """``behind``: bytes of trailing padding; the pixels take 2 MB."""
    monkeypatch.setattr(dicom_headers, "_MOST_HEADER", header)
    volume = head_ct((1024, 1024, 1))
    (dataset,) = made.slices_of(volume)
    if behind:
        dataset.DataSetTrailingPadding = bytes(behind)
    (path,) = made.save([dataset], tmp_path, syntax=DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 1 << 21, "packed"
    tracemalloc.start()
    found = read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, DicomFile if right else DamagedFile)
    if right:
        assert np.array_equal(read_volume(tmp_path).array, volume.array)
    else:
        assert "more than its pixel data" in found.reason
    assert peak < 3 * (header + (1 << 22))


def test_walking_is_sorted_and_ends(tmp_path):
    for name in ("b/2", "b/1", "a/3", ".hidden/4", "c/.dot", "c/.tmp-12ab-x", "c/5"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "d").symlink_to(tmp_path / "a")
    (tmp_path / "dead").symlink_to(tmp_path / "nothing")
    found = [path.relative_to(tmp_path).as_posix() for path in walk_files(tmp_path)]
    assert found == ["a/3", "b/1", "b/2", "c/5", "dead"], "d leads to a, which was looked at"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_cannot_be_listed(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(ReadError, match="cannot be listed"):
        list(walk_files(tmp_path))
