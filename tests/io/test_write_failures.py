"""Writing that fails or is refused: damaged files, full disks, killed processes, unsuitable values and names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.phantoms import (
    GRIDS,
    head_ct,
    head_mr,
    linear_volume,
    write_nifti,
)

from medcyclegan.errors import WriteError
from medcyclegan.io import check_writable, read_volume, stored, write_volume
from medcyclegan.io.nifti import write as nifti_write
from medcyclegan.volume import Volume

BOX = GRIDS["axial_lps"]


@pytest.mark.parametrize(
    ("value", "modality", "reason"),
    [
        (40000.0, "CT", "int16"),
        (-32769.0, "CT", "int16"),
        (float("nan"), "CT", "not finite"),
        (float("nan"), "MR", "not finite"),
        (float("inf"), None, "not finite"),
        (1e300, None, "float32"),
    ],
)
@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_values_that_the_type_cannot_hold(
    tmp_path: Path, value: float, modality: str, reason: str, ending: str
) -> None:
    array = np.zeros((3, 4, 40))
    array[1, 2, 33] = value
    with pytest.raises(WriteError, match=reason):
        write_volume(Volume(array, np.eye(4), modality=modality), tmp_path / f"a{ending}")
    assert list(tmp_path.iterdir()) == []


def test_whole_numbers_that_float32_cannot_hold(tmp_path: Path) -> None:
    array = np.array([2**24 + 1, -(2**30) - 1]).reshape(2, 1, 1)
    write_volume(Volume(array, np.eye(4)), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, array)


def test_a_header_of_another_volume_is_refused(tmp_path: Path) -> None:
    found = read_volume(write_nifti(linear_volume(BOX.shape, BOX.affine), tmp_path / "in.nii"))
    moved = found.affine.copy()
    moved[0, 3] += 1
    for changed in (found.replace(array=found.array[1:]), found.replace(affine=moved)):
        with pytest.raises(WriteError, match=r"replace\(source=None\)"):
            write_volume(changed, tmp_path / "out.nii", overwrite=True)
        write_volume(changed.replace(source=None), tmp_path / "out.nii", overwrite=True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("out", "--dicom-template, or a .nii.gz file"),
        ("out.dcm", "not of a format that is written here"),
        ("out.mhd", "not of a format that is written here"),
        ("out.nii.zst", "not of a format that is written here"),
        ("out.png", "name a .nii.gz"),
    ],
)
def test_endings_that_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(WriteError, match=reason):
        write_volume(head_ct(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_template_serves_dicom_only(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="DICOM template"):
        write_volume(head_ct(), tmp_path / "a.nii.gz", template=tmp_path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha"])
def test_a_fault_on_the_way_to_the_disk_is_found(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check before the rename sees voxels that are not the volume's, and the old file stays."""
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"old")
    true_conversion = stored.to_stored

    def faulty(slab: np.ndarray, dtype: np.dtype) -> np.ndarray:
        wrong = true_conversion(slab, dtype).copy()
        wrong[0, 0, 0] += 1
        return wrong

    monkeypatch.setattr("medcyclegan.io.itk.write.to_stored", faulty)
    monkeypatch.setattr(nifti_write, "to_stored", faulty)
    for volume in (head_ct(), head_mr()):
        with pytest.raises(WriteError, match="voxels differ"):
            write_volume(volume, path, overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_affine_in_the_header_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_header = nifti_write._new_header

    def shifted(volume: Volume) -> Any:
        header = true_header(volume)
        header["srow_x"][3] += 0.01
        return header

    monkeypatch.setattr(nifti_write, "_new_header", shifted)
    with pytest.raises(WriteError, match="its header or affine is not the volume's"):
        write_volume(head_ct(), tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


def test_killed_while_writing_leaves_no_half_file(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from medcyclegan import Volume, write_volume\n"
        "volume = Volume(np.random.default_rng(0).normal(size=(200, 200, 200)).astype(np.float32), np.eye(4))\n"
        "print('go', flush=True)\n"
        "write_volume(volume, sys.argv[1])\n"
        "print('done', flush=True)\n"
    )
    path = tmp_path / "a.nii.gz"
    for delay in (0.02, 0.1, 0.2):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "go\n"
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read()
        writer.stdout.close()
        writer.wait(timeout=20)
        if path.exists():
            assert read_volume(path).shape == (200, 200, 200)
            path.unlink()
        else:
            assert rest == ""


@pytest.mark.parametrize(
    ("name", "free", "refused", "said"),
    [
        ("out.nii", 3 << 20, True, False),
        ("out.nii", 9 << 20, False, False),
        # 4 MB of voxels pack to some 4 kB at best, and not at all at worst
        ("out.nii.gz", 1 << 20, True, False),
        ("out.nii.gz", 3 << 20, False, True),
        ("out.mha", 3 << 20, False, True),
        ("out.nii.gz", 9 << 20, False, False),
    ],
)
def test_disk_space_is_checked_before_the_work(name, free, refused, said, tmp_path, monkeypatch, caplog):
    volume = head_mr((100, 100, 100))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    if refused:
        with pytest.raises(WriteError, match=rf"{name} needs .* MB, .* [kM]B more than .* has left: free that much"):
            check_writable(volume, tmp_path / name)
    else:
        check_writable(volume, tmp_path / name)
    assert ("takes up to 4.0 MB" in caplog.text and "it may not fit" in caplog.text) == said
