"""Slices in the memory of a device equal those of the files."""

import numpy as np
import pytest
import torch
from support.stores import blobs, make_store

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


def test_batches_are_those_from_files(rows, tmp_path):
    from_files = batches(rows, tmp_path)
    resident = batches(rows, open_reader(tmp_path, rows, CPU, "on"))
    for one, other in zip(from_files, resident, strict=True):
        assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(one, other, strict=True))


def test_it_needs_no_file_once_it_is_made(rows, tmp_path):
    reader = open_reader(tmp_path, rows, CPU, "on")
    expected = StackReader(tmp_path).read(rows[0], 2)
    for row in rows:
        (tmp_path / row.file).unlink()
    assert np.array_equal(reader.read_image(rows[0], 2)[0], expected)


@pytest.mark.parametrize(("wish", "kind"), [("auto", StackReader), ("off", StackReader), ("on", ResidentStacks)])
def test_a_cpu_reads_files_by_default(rows, tmp_path, wish, kind):
    reader = open_reader(tmp_path, rows, CPU, wish)
    assert type(reader) is kind
    assert torch.equal(reader.read_image(rows[1], 1), StackReader(tmp_path).read_image(rows[1], 1))


def test_slices_are_on_the_given_device(rows, tmp_path):
    reader = open_reader(tmp_path, rows, torch.device("meta"), "on")
    assert reader.read_image(rows[0], 1).device.type == "meta"


@pytest.mark.parametrize(("free", "kind"), [(4 * 12 * 2048, ResidentStacks), (4 * 12 * 2048 - 4, StackReader)])
def test_a_cuda_device_holds_what_fits_in_a_quarter_of_its_free_memory(rows, tmp_path, monkeypatch, caplog, free, kind):
    """The store has 12 slices of 2,048 bytes; the tensors stay on the CPU."""
    caplog.set_level("INFO")
    device, asked = torch.device("cuda", 3), []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda named: asked.append(named) or (free, 10**9))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: self)
    reader = open_reader(tmp_path, rows, device, "auto")
    assert type(reader) is kind
    assert reader.read_image(rows[0], 1).shape == (1, 32, 32)
    assert asked == [device]
    (said,) = caplog.messages
    assert said == (
        "the slices are kept in the memory of cuda:3: 0.000 GiB"
        if kind is ResidentStacks
        else "the slices take 0.00 GiB, too much for cuda:3: reading them from files"
    )


def test_on_refuses_what_does_not_fit(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 10**9))
    monkeypatch.setattr("medcyclegan.data.resident._SHARE", 1e-9)
    message = r"slices_on_device = on: the slices take 0.00 GiB and cuda has 3.00 GiB free, .*: use auto or off"
    with pytest.raises(TrainingError, match=message):
        open_reader(tmp_path, rows, torch.device("cuda"), "on")


def test_a_damaged_stack_is_refused_by_name(rows, tmp_path):
    (tmp_path / rows[1].file).write_bytes(b"no")
    with pytest.raises(StoreError, match=rows[1].case):
        open_reader(tmp_path, rows, CPU, "on")
