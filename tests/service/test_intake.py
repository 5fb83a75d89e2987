"""When a study is complete, and when an image is refused."""

import dataclasses
import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from pydicom.filebase import DicomBytesIO
from support.dicom_studies import make_study

from medcyclegan.config import Limits, Waiting
from medcyclegan.errors import WriteError
from medcyclegan.io.dicom.network.receive import Peer, ReceivedObject, Status
from medcyclegan.service import queue as queue_module
from medcyclegan.service.durable import move_durably
from medcyclegan.service.intake import Intake
from medcyclegan.service.queue import Queue
from medcyclegan.service.space import ReservedSpace

WAITING = Waiting(settle_s=0.1, quiet_s=0.4)


@dataclasses.dataclass(eq=False)
class Association:
    """The state of an association, as pynetdicom keeps it."""

    alive: bool = True
    is_released: bool = False

    def is_alive(self):
        return self.alive


def caller(title="SCANNER"):
    return Peer(title, Association())


def release(peer):
    peer.association.alive, peer.association.is_released = False, True


def abort(peer):
    peer.association.alive = False


def image(study="1.2.3", instance="1.2.3.4.5", *, is_image=True, content=b"image", pixels=0):
    return ReceivedObject(content, study, "1.2.3.4", instance, is_image=is_image, pixels=pixels)


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "queue")
    yield queue
    queue.close()


def build(queue, waiting=WAITING, **limits):
    return Intake(queue, waiting, Limits(**{"keep_free_mb": 0, **limits}))


def finished_after(intake, seconds):
    """Return the names of the studies that are complete within ``seconds``."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        found += intake.finish_studies()
        time.sleep(0.01)
    return found


def test_a_study_is_complete_when_its_association_ends_and_not_before(queue):
    intake, peer = build(queue, Waiting(settle_s=0.1, quiet_s=60)), caller()
    assert intake.store(image(), peer) == Status.SUCCESS
    assert finished_after(intake, 0.3) == []
    release(peer)
    assert finished_after(intake, 0.05) == []
    (name,) = finished_after(intake, 0.3)
    assert queue.names("waiting") == [name]


def test_a_study_that_comes_in_many_associations_stays_whole(queue):
    intake = build(queue, Waiting(settle_s=0.3, quiet_s=60))
    for number in range(6):
        peer = caller()
        intake.store(image(instance=f"1.2.3.{number}"), peer)
        release(peer)
        assert finished_after(intake, 0.1) == []
    (name,) = finished_after(intake, 0.6)
    assert len(list((queue.path("waiting", name) / "in").iterdir())) == 6


def test_an_aborted_association_completes_a_study_only_after_the_quiet_time(queue):
    intake, peer = build(queue), caller()
    intake.store(image(), peer)
    abort(peer)
    assert finished_after(intake, 0.25) == []
    assert len(finished_after(intake, 0.4)) == 1


def test_an_open_association_that_is_quiet_completes_a_study(queue):
    intake, peer = build(queue), caller()
    intake.store(image(), peer)
    assert len(finished_after(intake, 0.6)) == 1
    # what comes later is another study of the queue
    intake.store(image(instance="1.2.3.4.6"), peer)
    assert queue.names("receiving") == [queue.hash("SCANNER", "1.2.3")]


def test_a_study_of_a_killed_process_is_complete_after_the_quiet_time(queue):
    build(queue).store(image(), caller())
    intake = build(queue)
    assert finished_after(intake, 0.3) == []
    assert len(finished_after(intake, 0.3)) == 1


def test_studies_are_completed_in_the_order_in_which_they_came(queue):
    intake, peer = build(queue), caller()
    uids = [f"1.2.{number}" for number in (5, 3, 9, 1)]
    for uid in uids:
        intake.store(image(uid), peer)
    release(peer)
    names = finished_after(intake, 0.3)
    assert [name.split("-")[1] for name in names] == [queue.hash("SCANNER", uid) for uid in uids]
    assert queue.names("waiting") == names


def test_two_senders_of_one_study_are_two_studies(queue):
    intake = build(queue)
    for title in ("CT1", "CT2"):
        peer = caller(title)
        intake.store(image(), peer)
        release(peer)
    names = finished_after(intake, 0.3)
    assert {queue.sender("waiting", name) for name in names} == {"CT1", "CT2"}


def test_an_object_that_is_no_image_is_ignored_with_success(queue):
    assert build(queue).store(image(is_image=False), caller()) == Status.SUCCESS
    assert queue.names("receiving") == []


def test_limits_refuse_with_the_status_for_lack_of_resources(queue):
    intake, peer = build(queue, images_per_study=2, studies=2), caller()
    statuses = [intake.store(image(instance=f"1.2.3.{number}"), peer) for number in (1, 2, 3, 1)]
    assert statuses == [0, 0, Status.OUT_OF_RESOURCES, 0], "the last one replaces the first"
    assert intake.store(image("1.2.4"), peer) == 0
    assert intake.store(image("1.2.5"), peer) == Status.OUT_OF_RESOURCES
    assert intake.refused_images == 2
    assert len(queue.names("receiving")) == 2


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


def test_ended_associations_are_not_kept(queue):
    intake = build(queue, Waiting(settle_s=60, quiet_s=60))
    for number in range(50):
        peer = caller()
        intake.store(image(instance=f"1.2.3.{number}"), peer)
        release(peer)
    (arriving,) = intake._arriving.values()
    assert len(arriving.peers) <= 1
    assert arriving.regular


def test_one_aborted_association_among_others_waits_for_the_quiet_time(queue):
    intake = build(queue)
    for number, end in enumerate((release, abort, release)):
        peer = caller()
        intake.store(image(instance=f"1.2.3.{number}"), peer)
        end(peer)
    assert finished_after(intake, 0.25) == []
    assert len(finished_after(intake, 0.4)) == 1


@pytest.mark.parametrize("slow", ["begin", "complete", "remove"])
def test_a_slow_disk_delays_only_the_images_of_its_study(queue, monkeypatch, slow):
    intake, peer = build(queue, Waiting(settle_s=0, quiet_s=60)), caller()
    reached, released, work = threading.Event(), threading.Event(), getattr(queue, slow)

    def wait(*arguments):
        reached.set()
        assert released.wait(60)
        return work(*arguments)

    def refuse(*_):
        raise WriteError("no space")

    if slow == "complete":
        intake.store(image(), peer)
        release(peer)
    if slow == "remove":
        monkeypatch.setattr(queue, "add", refuse)
    monkeypatch.setattr(queue, slow, wait)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(intake.finish_studies if slow == "complete" else lambda: intake.store(image(), peer))
        assert reached.wait(60)
        monkeypatch.undo()
        same = pool.submit(intake.store, image(instance="1.2.3.4.6"), caller())
        other = pool.submit(intake.store, image("1.2.4"), caller())
        assert other.result(60) == Status.SUCCESS
        assert not same.done()
        assert not first.done()
        released.set()
        first.result(60)
        assert same.result(60) == Status.SUCCESS
    images = [path for path in queue.folder.glob("*/*/in/*.dcm") if queue.hash("SCANNER", "1.2.3") in str(path)]
    assert len(images) == (1 if slow == "remove" else 2)


def test_a_study_whose_folder_cannot_be_created_leaves_nothing(queue, monkeypatch):
    def refuse(*_, **__):
        raise WriteError("no space")

    intake = build(queue, studies=1)
    monkeypatch.setattr("medcyclegan.service.queue.atomic_write", refuse)
    assert intake.store(image(), caller()) == Status.OUT_OF_RESOURCES
    monkeypatch.undo()
    assert queue.names("receiving") == []
    assert intake.store(image("1.2.4"), caller()) == Status.SUCCESS


def test_an_association_that_ends_during_a_check_keeps_the_order(queue):
    """The first study must not see it open and the second one closed."""

    class Ending(Association):
        def is_alive(self):
            self.alive, self.is_released = False, True
            self.asked += 1
            return self.asked == 1

        asked = 0

    intake, peer = build(queue), Peer("SCANNER", Ending())
    uids = ["1.2.9", "1.2.5", "1.2.7"]
    for uid in uids:
        with intake._counted(queue.hash("SCANNER", uid), "i", peer):
            queue.add(queue.hash("SCANNER", uid), "i", b"image")
    peer.association.asked = 0
    names = finished_after(intake, 0.4)
    assert [name.split("-")[1] for name in names] == [queue.hash("SCANNER", uid) for uid in uids]
