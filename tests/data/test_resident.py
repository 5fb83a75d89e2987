"""Slices in a device's memory are those of the files."""

import numpy as np
import pytest
import torch
from stores import blobs, make_store

from medcyclegan.data import ResidentStacks, Sampling, StackReader, UnpairedSlices, open_reader, prefetched_batches
from medcyclegan.errors import StoreError, TrainingError

CPU = torch.device("cpu")


@pytest.fixture
def rows(tmp_path):
    return make_store(tmp_path, {"t1": [blobs(4, 32, 0), blobs(3, 32, 1)], "t2": [blobs(5, 32, 2)]})


def batches(rows, slices, **sampling):
    own = [[row for row in rows if row.domain == name] for name in ("t1", "t2")]
    unpaired = UnpairedSlices(*own, slices, Sampling(batch_size=3, flip_probability=0.5, **sampling))
    return list(prefetched_batches(unpaired.batch, 0, 4, pin=False))


@pytest.mark.parametrize("context", [1, 3])
def test_batches_are_those_from_files(rows, tmp_path, context):
    from_files = batches(rows, tmp_path, context=context)
    resident = batches(rows, open_reader(tmp_path, rows, CPU, "on"), context=context)
    for one, other in zip(from_files, resident, strict=True):
        assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(one, other, strict=True))


def test_it_needs_no_file_once_it_is_made(rows, tmp_path):
    reader = open_reader(tmp_path, rows, CPU, "on")
    expected = StackReader(tmp_path).read(rows[0], 2)
    for row in rows:
        (tmp_path / row.file).unlink()
    assert np.array_equal(reader.read_context(rows[0], 2)[0], expected)


@pytest.mark.parametrize(("wish", "kind"), [("auto", StackReader), ("off", StackReader), ("on", ResidentStacks)])
def test_a_cpu_reads_files_unless_told_otherwise(rows, tmp_path, wish, kind):
    assert type(open_reader(tmp_path, rows, CPU, wish)) is kind


@pytest.mark.parametrize(("free", "wish", "kind"), [(10**6, "auto", ResidentStacks), (9 * 10**4, "auto", StackReader)])
def test_a_cuda_device_holds_what_fits_in_a_quarter_of_its_free_memory(rows, tmp_path, monkeypatch, free, wish, kind):
    """The store has 12 slices of 2,048 bytes; the device is made believe, the tensors stay on the CPU."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: self)
    assert type(open_reader(tmp_path, rows, torch.device("cuda"), wish)) is kind


def test_on_refuses_what_does_not_fit(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**4, 10**9))
    with pytest.raises(TrainingError, match=r"slices_on_device = on: the slices take .* GiB .* take auto or off"):
        open_reader(tmp_path, rows, torch.device("cuda"), "on")


def test_a_damaged_stack_is_refused_by_name(rows, tmp_path):
    (tmp_path / rows[1].file).write_bytes(b"no")
    with pytest.raises(StoreError, match=rows[1].case):
        open_reader(tmp_path, rows, CPU, "on")
