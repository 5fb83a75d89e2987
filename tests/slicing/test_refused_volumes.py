"""Volumes, folders and simultaneous calls that slice_volumes refuses."""

import json
import os
import subprocess
import sys

import pytest
from support import dicom_phantoms as made
from support.phantoms import head_ct, head_mr, make_affine, write_nifti
from support.volume_folders import SMALL, make_volumes

from medcyclegan.errors import ReadError, StoreError, UsageError
from medcyclegan.manifest import load_manifest
from medcyclegan.slicing import slice_volumes

#: Holds the lock that its argument names until it is killed.
HOLD_A_LOCK = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_refused_volume_does_not_stop_the_rest(tmp_path, caplog):
    volumes, store = make_volumes(tmp_path / "volumes"), tmp_path / "slices"
    broken = volumes / "t1" / "JohnDoe.nii.gz"
    broken.write_text("not NIfTI")
    result = slice_volumes(volumes, store, config=SMALL)
    assert len(result.refused) == 1
    assert len(load_manifest(store)) == 4
    assert "JohnDoe.nii.gz refused" in caplog.text
    (line,) = (store / "refused.jsonl").read_text().splitlines()
    assert "JohnDoe" not in line
    assert json.loads(line)["reason"]
    broken.unlink()
    write_nifti(head_mr(seed=7), broken)
    assert not slice_volumes(volumes, store, config=SMALL).refused
    assert (store / "refused.jsonl").read_text() == ""


def test_a_refusal_keeps_its_numbers_where_files_are_numbers(tmp_path):
    slices = made.slices_of(head_ct((40, 48, 28), make_affine("LPS", (5.0, 5.0, 4.0))))
    del slices[12]
    made.save(slices, tmp_path / "volumes" / "ct" / "7", name=lambda number: str(number - 1))
    slice_volumes(tmp_path / "volumes", tmp_path / "slices", config=SMALL)
    (line,) = (tmp_path / "slices" / "refused.jsonl").read_text().splitlines()
    reason = json.loads(line)["reason"]
    spacing = "slice spacing varies from 4.0 to 8.0 mm"
    assert reason == f"series …: {spacing} …: export the complete series, or pass --allow-gap"


def test_refusals_have_the_names_of_their_volumes_whichever_worker_ends_first(tmp_path, monkeypatch):
    volumes = make_volumes(tmp_path / "volumes")
    (volumes / "t1" / "p0_t1.nii.gz").write_bytes(b"not a volume")

    def the_last_ends_first(work, jobs, workers, killed):
        return reversed([(number, work(job)) for number, job in enumerate(jobs)])

    monkeypatch.setattr("medcyclegan.slicing.volumes.run_in_processes", the_last_ends_first)
    result = slice_volumes(volumes, tmp_path / "slices", config=SMALL, workers=2)
    assert [found.name for found in result.refused_volumes] == ["p0_t1"]
    assert len(result.sliced) == 3


def test_a_ct_that_is_not_in_hu_is_refused_by_name(tmp_path, caplog):
    ct = head_ct()
    write_nifti(ct.replace(array=ct.array + 1024), tmp_path / "v" / "ct" / "a.nii.gz")
    result = slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
    assert "not in HU" in result.refused[0].reason
    assert "a.nii.gz" in caplog.text


@pytest.mark.parametrize(
    ("prepare", "arguments", "error", "message"),
    [
        (lambda p: None, {}, ReadError, "no such file or folder"),
        (lambda p: (p / "v").mkdir(), {}, ReadError, "holds no folders"),
        (lambda p: (p / "v" / "t1").mkdir(parents=True), {}, ReadError, "no volumes found"),
        (lambda p: (p / "v").write_text("x"), {}, ReadError, "is a file"),
        (lambda p: make_volumes(p / "v"), {"shard": (2, 2)}, UsageError, "count from 0"),
        (lambda p: make_volumes(p / "v"), {"workers": 0}, UsageError, "at least 1"),
        (lambda p: make_volumes(p / "v"), {"domain": "../x"}, UsageError, "domain name"),
        (lambda p: write_nifti(head_mr(), p / "v" / "bad name" / "a.nii"), {}, ReadError, "domain name"),
    ],
)
def test_wrong_inputs_are_a_line(tmp_path, prepare, arguments, error, message):
    prepare(tmp_path)
    with pytest.raises(error, match=message):
        slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL, **arguments)
    assert not (tmp_path / "s").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    make_volumes(tmp_path / "v")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.txt").write_text("x")
    with pytest.raises(StoreError, match="holds other files"):
        slice_volumes(tmp_path / "v", tmp_path / "s", config=SMALL)
    assert os.listdir(tmp_path / "s") == ["thesis.txt"]


def test_a_second_simultaneous_call_is_refused(tmp_path):
    volumes, store = make_volumes(tmp_path / "v"), tmp_path / "s"
    slice_volumes(volumes, store, config=SMALL)
    holder = subprocess.Popen(
        [sys.executable, "-c",
         HOLD_A_LOCK,
         str(store / ".locks" / "shard-0-of-1")],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        holder.stdout.readline()
        with pytest.raises(StoreError, match="another slice-volumes"):
            slice_volumes(volumes, store, config=SMALL)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    slice_volumes(volumes, store, config=SMALL)
