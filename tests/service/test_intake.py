"""When a study is complete, and when an image is refused."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.arriving_images import Association, abort, build, caller, finished_after, image, release

from medcyclegan.config import Waiting
from medcyclegan.errors import WriteError
from medcyclegan.io.dicom.network.receive import Peer, Status


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
