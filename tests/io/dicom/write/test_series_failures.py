"""Series that are refused, damaged on the way to the disk, or interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from support import dicom_phantoms as made
from support.hospital_series import STACKS, series
from support.phantoms import TILTED_GRID, Grid

from medcyclegan.errors import WriteError
from medcyclegan.io import read_volume, write_volume
from medcyclegan.io.dicom.write import series as dicom_write


@pytest.mark.parametrize(
    ("value", "modality", "reason"),
    [
        (float("nan"), "MR", "not finite"),
        (float("inf"), "CT", "not finite"),
        (40000.0, "CT", "int16"),
        (1.0, "PT", "only CT and MR"),
        (1.0, None, "only CT and MR"),
    ],
)
def test_values_and_modalities_that_are_refused(value: float, modality: str, reason: str, tmp_path: Path) -> None:
    volume = read_volume(series(tmp_path / "in"))
    array = np.zeros(volume.shape)
    array[3, 2, 1] = value
    with pytest.raises(WriteError, match=reason):
        write_volume(volume.replace(array=array, modality=modality), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_volume_off_the_grid_of_its_headers_is_refused(tmp_path: Path) -> None:
    volume = read_volume(series(tmp_path / "in"))
    moved = volume.affine.copy()
    moved[0, 3] += 0.1
    for changed in (volume.replace(affine=moved), volume.replace(array=volume.array[..., 1:])):
        with pytest.raises(WriteError, match=r"replace\(source=None\), and name a template"):
            write_volume(changed, tmp_path / "out")


def test_images_of_two_studies_are_refused(tmp_path: Path) -> None:
    source = series(tmp_path / "in")
    last = max(source.iterdir())
    dataset = pydicom.dcmread(last)
    dataset.StudyInstanceUID = "1.2.3"
    dataset.save_as(last)
    with pytest.raises(WriteError, match="2 different values of StudyInstanceUID"):
        write_volume(read_volume(source), tmp_path / "out")


def test_an_existing_folder_is_replaced_only_if_it_is_ours(tmp_path: Path) -> None:
    source = series(tmp_path / "in", TILTED_GRID)
    volume = read_volume(source)
    out = tmp_path / "out"
    out.mkdir()
    write_volume(volume, out, overwrite=True)
    write_volume(volume.replace(array=volume.array + 1), out, overwrite=True)
    np.testing.assert_array_equal(read_volume(out).array, volume.array + 1)
    (out / "report.pdf").write_text("precious")
    with pytest.raises(WriteError, match=r"report\.pdf.*never replaced"):
        write_volume(volume, out, overwrite=True)
    assert (out / "report.pdf").read_text() == "precious"
    scanner = tmp_path / "scanner"
    made.save(made.slices_of(made.placed_volume()), scanner, name=lambda number: f"{number:04d}.dcm")
    with pytest.raises(WriteError, match=r"0001\.dcm, which is not an image of a synthetic series"):
        write_volume(volume, scanner)
    assert len(list(scanner.iterdir())) == 10
    (tmp_path / "file").write_text("precious")
    with pytest.raises(WriteError, match="is a file"):
        write_volume(volume, tmp_path / "file")


def shifted(image: Dataset) -> None:
    image.ImagePositionPatient[0] = f"{float(image.ImagePositionPatient[0]) + 0.001:.6f}"


def flipped_bit(image: Dataset) -> None:
    image.PixelData = bytes([image.PixelData[0] ^ 1]) + image.PixelData[1:]


@pytest.mark.parametrize(("fault", "reason"), [(shifted, "off by"), (flipped_bit, "1[0-9]* voxels differ")])
def test_a_fault_on_the_way_to_the_disk_is_found(
    fault: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = read_volume(series(tmp_path / "in"))
    true_build = dicom_write.build_image

    def faulty(*arguments: Any) -> Dataset:
        image = true_build(*arguments)
        fault(image)
        return image

    monkeypatch.setattr(dicom_write, "build_image", faulty)
    with pytest.raises(WriteError, match=reason):
        write_volume(volume, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


_WRITE = """
import resource, signal, sys
import numpy as np
from medcyclegan.errors import MedCycleGANError
from medcyclegan.io import read_volume, write_volume
volume = read_volume(sys.argv[1])
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
print("go", flush=True)
try:
    write_volume(volume, sys.argv[2])
except MedCycleGANError as error:
    print(error)
"""


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: writing fails in the middle of an image."""
    source = series(tmp_path / "in", Grid((40, 40, 6), STACKS["oblique"].affine))
    command = [sys.executable, "-c", _WRITE, str(source), str(tmp_path / "out"), "3000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.fullmatch(
        r"go\n.*/out cannot be written: File too large: raise the limit of file sizes.*\n", done.stdout
    ), done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_killed_while_writing_leaves_no_folder(tmp_path: Path) -> None:
    source = series(tmp_path / "in", Grid((96, 96, 120), STACKS["oblique"].affine))
    command = [sys.executable, "-c", _WRITE, str(source), str(tmp_path / "out")]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "go\n"
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".tmp-*/*.dcm")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(writer.pid, signal.SIGKILL)
    writer.stdout.close()
    writer.wait(timeout=20)
    assert not (tmp_path / "out").exists()
    write_volume(read_volume(source), tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 120
