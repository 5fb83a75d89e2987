"""The queue on disk: states, recovery, permissions, and what is remembered."""

import os
import stat
import time

import pytest

from medcyclegan.errors import WriteError
from medcyclegan.service.queue import Delivery, Queue


def again(queue):
    """Return the queue as a new process finds it."""
    queue.close()
    return Queue(queue.folder)


def receive(queue, study="0123456789abcdef", images=("a", "b"), sender="SCANNER"):
    queue.begin(study, sender)
    for image in images:
        queue.add(study, image, image.encode())
    return study


def test_a_study_passes_through_its_states(queue):
    name = queue.complete(receive(queue))
    assert name == "00000001-0123456789abcdef"
    assert queue.sender("waiting", name) == "SCANNER"
    assert [path.read_bytes() for path in sorted((queue.path("waiting", name) / "in").iterdir())] == [b"a", b"b"]
    sent = [Delivery("out/s", "dicom://PACS@host:104", "digest"), Delivery("out/s-note", "dicom://P@h:1", "", True)]
    queue.translated(name, sent)
    assert queue.names("waiting") == []
    assert queue.deliveries(name) == sent
    assert not (queue.path("sending", name) / "in").exists()
    queue.remove("sending", name)
    assert not any(queue.names(state) for state in ("receiving", "waiting", "sending", "failed", "removed"))


def test_only_the_owner_can_read_anything(queue):
    name = queue.complete(receive(queue))
    queue.translated(name, [])
    queue.remember("digest")
    receive(queue)
    for path in [queue.folder, *queue.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_numbers_continue_after_a_restart(queue):
    first, second = (queue.complete(receive(queue, study)) for study in ("a" * 16, "b" * 16))
    queue.fail("waiting", second)
    queue = again(queue)
    third = queue.complete(receive(queue, "c" * 16))
    assert queue.names("waiting") == [first, third]
    assert third.startswith("00000003-")
    queue.close()


def test_what_a_killed_process_left_is_finished(queue):
    kept = receive(queue)
    (queue.path("receiving", kept) / "in" / ".tmp-12345678-c.dcm").write_bytes(b"half an image")
    os.utime(queue.path("receiving", kept) / "in" / ".tmp-12345678-c.dcm", (0, 0))
    empty = receive(queue, "e" * 16, images=())
    name = queue.complete(receive(queue, "d" * 16))
    queue.translated(name, [])
    (queue.path("sending", name) / "in").mkdir()
    (queue.path("removed", "x") / "in").mkdir(parents=True)
    queue = again(queue)
    assert queue.names("receiving") == [kept] != [empty]
    assert sorted(path.name for path in (queue.path("receiving", kept) / "in").iterdir()) == ["a.dcm", "b.dcm"]
    assert not (queue.path("sending", name) / "in").exists()
    assert queue.names("removed") == []
    queue.close()


def test_hashes_need_the_key_of_the_queue(queue, tmp_path):
    other = Queue(tmp_path / "other")
    assert queue.hash("1.2.3") != other.hash("1.2.3")
    assert again(queue).hash("1.2.3") == queue.hash("1.2.3")
    other.close()


def test_a_series_is_remembered_while_it_is_sent_and_afterwards(queue):
    assert not queue.is_remembered("digest", 30)
    name = queue.complete(receive(queue))
    queue.translated(name, [Delivery("out/s", "dicom://PACS@host:104", "digest")])
    assert queue.is_remembered("digest", 30)
    queue.remember("digest")
    queue.remove("sending", name)
    assert queue.is_remembered("digest", 30)
    assert not queue.is_remembered("digest", 0)
    old = time.time() - 31 * 86_400
    os.utime(queue.folder / "sent" / "digest", (old, old))
    assert not queue.is_remembered("digest", 30)
    queue.prune(7, 30)
    assert not list((queue.folder / "sent").iterdir())


def test_failed_studies_are_deleted_after_some_days(queue):
    name = queue.complete(receive(queue))
    queue.fail("waiting", name)
    queue.prune(7, 30)
    assert queue.names("failed") == [name]
    os.utime(queue.path("failed", name), (time.time() - 8 * 86_400,) * 2)
    queue.prune(7, 30)
    assert queue.names("failed") == []


def test_one_process_holds_a_queue(queue):
    with pytest.raises(WriteError, match="is in use by another process"):
        Queue(queue.folder)


def test_a_folder_that_others_can_read_is_refused(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(WriteError, match=r"can be read by other users.*--queue"):
        Queue(tmp_path / "open")
