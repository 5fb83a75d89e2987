"""The disk space of a node: what is reserved for results, and what a full disk refuses."""

import errno
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from pydicom.filebase import DicomBytesIO
from support.arriving_images import build, caller, finished_after, image, release
from support.dicom_studies import make_study

from medcyclegan.config import Waiting
from medcyclegan.errors import WriteError
from medcyclegan.io.dicom.network.receive import Status
from medcyclegan.service import queue as queue_module
from medcyclegan.service.durable import move_durably
from medcyclegan.service.queue import Queue
from medcyclegan.service.space import ReservedSpace


def test_a_disk_that_is_nearly_full_refuses_and_leaves_nothing(queue):
    intake = build(queue, keep_free_mb=10_000_000)
    assert intake.store(image(), caller()) == Status.OUT_OF_RESOURCES == 0xA700
    assert queue.names("receiving") == []


def test_space_for_the_results_of_accepted_images_is_not_given_to_others(queue, monkeypatch):
    """Otherwise no accepted study could be translated once the disk is full, and it would stay full."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000_000))
    intake, peer = build(queue, Waiting(settle_s=0, quiet_s=60), keep_free_mb=10), caller()
    large = {"pixels": 20_000_000, "content": bytes(400_000)}  # results of 40 MB each
    assert intake.store(image("1.2.1", "1.2.1.1", **large), peer) == Status.SUCCESS
    assert intake.store(image("1.2.1", "1.2.1.1", **large), peer) == Status.SUCCESS, "it replaces the first"
    assert intake.store(image("1.2.2", "1.2.2.1", **large), peer) == Status.SUCCESS
    assert intake.store(image("1.2.3", "1.2.3.1", **large), peer) == Status.OUT_OF_RESOURCES
    release(peer)
    first, second = finished_after(intake, 0.1)
    assert intake.store(image("1.2.3", "1.2.3.1", **large), caller()) == Status.OUT_OF_RESOURCES, "they wait"
    queue.translated(first, [])
    assert intake.store(image("1.2.3", "1.2.3.1", **large), caller()) == Status.SUCCESS
    queue.fail("waiting", second)
    assert intake.store(image("1.2.4", "1.2.4.1", **large), caller()) == Status.SUCCESS


def test_a_small_object_cannot_reserve_the_whole_disk(queue, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000_000))
    intake = build(queue, keep_free_mb=10)
    assert intake.store(image("1.2.1", "1.2.1.1", pixels=44_000_000), caller()) == Status.SUCCESS
    received = image("1.2.2", "1.2.2.1", pixels=1_000_000, content=bytes(2_000_000))
    assert intake.store(received, caller("OTHER")) == Status.SUCCESS


def test_a_restart_reserves_the_same_space(queue):
    intake, peer = build(queue, Waiting(settle_s=0, quiet_s=60)), caller()
    for seed in ("arriving", "complete"):
        for each in make_study(seed, slices=3, side=64):
            content = DicomBytesIO()
            each.save_as(content, enforce_file_format=True)
            size = each.Rows * each.Columns
            received = image(each.StudyInstanceUID, each.SOPInstanceUID, content=content.getvalue(), pixels=size)
            assert intake.store(received, peer) == Status.SUCCESS
        if seed == "arriving":
            queue.complete(queue.hash("SCANNER", each.StudyInstanceUID))
    before = queue.reserved.total()
    assert before > 6 * 2 * 64 * 68
    queue.close()
    again = Queue(queue.folder)
    assert again.reserved.total() == before
    again.close()


def test_a_study_that_is_done_as_soon_as_it_waits_leaves_no_space_reserved(queue, monkeypatch):
    """Nothing may be left reserved: it would refuse images until the next start."""
    intake, peer = build(queue, Waiting(settle_s=0, quiet_s=60)), caller()
    assert intake.store(image(pixels=1_000_000), peer) == Status.SUCCESS
    release(peer)

    def moved_and_ignored(source, target):
        move_durably(source, target)
        if target.parent.name == "waiting":
            queue.remove("waiting", target.name)  # as the thread that translates, if no rule matches

    monkeypatch.setattr(queue_module, "move_durably", moved_and_ignored)
    assert len(finished_after(intake, 0.1)) == 1
    assert queue.reserved.total() == 0


def test_a_study_that_cannot_be_moved_keeps_its_space(queue, monkeypatch):
    intake, peer = build(queue, Waiting(settle_s=0, quiet_s=60)), caller()
    assert intake.store(image(pixels=1_000_000), peer) == Status.SUCCESS
    before = queue.reserved.total()

    def fails(_source, _target):
        raise WriteError("no space")

    study = queue.hash("SCANNER", "1.2.3")
    monkeypatch.setattr(queue_module, "move_durably", fails)
    with pytest.raises(WriteError):
        queue.complete(study)
    assert queue.reserved.total() == before
    monkeypatch.undo()
    queue.remove("receiving", study)
    assert queue.reserved.total() == 0


def test_space_that_threads_reserve_at_once_is_counted_whole():
    """Several associations may send images of one study."""

    class Slow(dict):
        def get(self, *key):
            found = super().get(*key)
            time.sleep(0.001)
            return found

    space = ReservedSpace()
    space._bytes = Slow()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: space.add("study", 1), range(40)))
    assert space.total() == 40


def test_a_full_disk_refuses_and_leaves_nothing(queue, monkeypatch):
    def full(_study, _image, _content):
        raise WriteError("queue/receiving/x cannot be written") from OSError(errno.ENOSPC, "No space left on device")

    intake, peer = build(queue), caller()
    monkeypatch.setattr(queue, "add", full)
    assert intake.store(image(), peer) == Status.OUT_OF_RESOURCES
    assert queue.names("receiving") == []
    monkeypatch.undo()
    assert intake.store(image(), peer) == Status.SUCCESS
