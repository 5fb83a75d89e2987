"""The gzip stream of a written file, and reading a file back while it is being written."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from medcyclegan import Volume, write_volume
from medcyclegan.errors import WriteError
from medcyclegan.io import streams
from medcyclegan.io.nifti import write as nifti_write
from medcyclegan.io.stored import to_stored
from medcyclegan.io.streams import GrowingFile


def noise(modality: str | None = "CT") -> Volume:
    """Return a volume of several compressed blocks, most of which are stored without compression."""
    values = np.random.default_rng(0).integers(-1000, 3000, (128, 128, 150), np.int16)
    dtype = np.int16 if modality == "CT" else np.float32
    return Volume(np.asfortranarray(values, dtype), np.eye(4), modality=modality)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("modality", ["CT", None])
def test_a_written_file_is_one_gzip_member(
    tmp_path: Path, fast: bool, modality: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some readers, such as the browser's, stop after the first member."""
    if not fast:
        monkeypatch.setattr(streams, "fast_gzip", None)
    volume = noise(modality)
    write_volume(volume, tmp_path / "a.nii.gz")
    inflate = zlib.decompressobj(31)
    content = inflate.decompress((tmp_path / "a.nii.gz").read_bytes())
    assert inflate.eof
    assert inflate.unused_data == b""
    assert content[352:] == volume.array.tobytes(order="F")


def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores in (1, 2, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        write_volume(noise(), tmp_path / f"{cores}.nii.gz")
    contents = {(tmp_path / f"{cores}.nii.gz").read_bytes() for cores in (1, 2, 3)}
    assert len(contents) == 1


def test_a_slab_of_the_stored_type_is_not_copied() -> None:
    for volume, dtype in ((noise(), "<i2"), (noise(None), "<f4")):
        assert to_stored(volume.array, np.dtype(dtype)) is volume.array
    values = np.array([[[0.5, 1.5, -2.5]]])
    assert to_stored(values, np.dtype("<i2")).tolist() == [[[0, 2, -2]]]


@pytest.mark.parametrize("place", ["start", "end"])
def test_a_byte_that_changes_on_the_way_is_found(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is compared while it is written: what is wrong in its first block and in its checksum is found."""
    true_writer = nifti_write.open_gzip_writer

    class Faulty:
        def __init__(self, file):
            self._file = file

        def write(self, content):
            wrong = bytearray(content)
            if (place == "start" and self._file.tell() > 10) or (place == "end" and len(content) == 8):
                wrong[len(wrong) // 2] ^= 1
            return self._file.write(wrong)

        def flush(self):
            self._file.flush()

    monkeypatch.setattr(nifti_write, "open_gzip_writer", lambda file: true_writer(Faulty(file)))
    with pytest.raises(WriteError, match=r"read back before it got its name|voxels differ"):
        write_volume(noise(), tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_growing_file_is_read_to_its_end(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(300_000)
    with (tmp_path / "a").open("w+b") as file:
        growing = GrowingFile(file.fileno())

        def write() -> None:
            for first in range(0, len(content), 70_000):
                file.write(content[first : first + 70_000])
                file.flush()
            growing.complete()

        writer = threading.Thread(target=write)
        writer.start()
        assert growing.readall() == content
        writer.join()
        assert growing.read(1) == b""


def test_a_full_disk_ends_the_write_and_the_check(tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy as np; from medcyclegan import Volume, write_volume\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "values = np.random.default_rng(0).integers(-1000, 3000, (128, 128, 300), np.int16)\n"
        "write_volume(Volume(values, np.eye(4), modality='CT'), sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.nii.gz")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "WriteError" in done.stderr
    assert "ulimit -f" in done.stderr
    assert list(tmp_path.iterdir()) == []
