"""Put received images into the queue, and decide when a study is complete."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import threading
import time
from collections.abc import Iterator, Set

from medcyclegan.config import Limits, Waiting
from medcyclegan.errors import WriteError
from medcyclegan.io.dicom.network.receive import Peer, ReceivedObject, Status
from medcyclegan.service.queue import Queue
from medcyclegan.service.space import result_bytes

__all__ = ["Intake"]

_log = logging.getLogger(__name__)

_MB = 1_000_000


@dataclasses.dataclass
class _Arriving:
    """A study that is arriving: its images, when the last one came, and the associations from which they come.

    ``peers``: the open associations. ``regular``: whether all others were released. ``ended``: when the last one ended.
    ``writers``: how many images are being written.
    """

    images: set[str]
    last: float
    regular: bool = True
    peers: set[Peer] = dataclasses.field(default_factory=set)
    writers: int = 0
    ended: float | None = None

    def drop_closed(self, opened: Set[Peer], now: float) -> None:
        """Forget associations that have ended, of which there may be one for each image; ``opened``: all others."""
        closed = self.peers - opened
        if closed:
            self.regular &= all(peer.was_released() for peer in closed)
            self.peers -= closed
            self.ended = now

    def is_complete(self, waiting: Waiting, opened: Set[Peer], now: float) -> bool:
        """Whether all associations ended in the regular way some time ago, or nothing came for longer."""
        if self.writers:
            return False
        self.drop_closed(opened, now)
        if now - self.last >= waiting.quiet_s:
            return True
        done = self.regular and not self.peers and self.ended is not None
        return done and now - max(self.ended or now, self.last) >= waiting.settle_s


class Intake:
    """Stores images in the queue; ``store`` is called by many threads at once.

    A study that was arriving when the process ended is complete after the quiet time: its sender may send the rest.
    """

    def __init__(self, queue: Queue, waiting: Waiting, limits: Limits) -> None:
        self._queue, self._waiting, self._limits = queue, waiting, limits
        self._lock = threading.Condition()
        self._arriving: dict[str, _Arriving] = {}
        #: Studies whose folder is being created, moved or deleted.
        self._changing: set[str] = set()
        self.refused_images = 0
        now = time.monotonic()
        folders = [(queue.path("receiving", name), name) for name in queue.names("receiving")]
        for place, (folder, name) in enumerate(sorted(folders, key=lambda pair: (pair[0] / "in").stat().st_mtime_ns)):
            images = {path.stem for path in (folder / "in").glob("*.dcm")}
            self._arriving[name] = _Arriving(images, now + place * 1e-6)

    def store(self, received: ReceivedObject, peer: Peer) -> Status:
        """Store an image and return SUCCESS once it is on disk; refuse it if a limit is reached or the disk is full.

        An object that is not a CT or MR image is ignored: it is counted, and the answer is SUCCESS.
        """
        study = self._queue.hash(peer.title, received.study_uid)
        if not received.is_image:
            _log.info("study %s: ignored an object that is not a CT or MR image", study)
            return Status.SUCCESS
        image = self._queue.hash(received.instance_uid)
        try:
            with self._counted(study, image, peer) as arriving:
                needed = 0 if image in arriving.images else result_bytes(len(received.content), received.pixels)
                self._check_space(len(received.content) + needed)
                self._queue.add(study, image, received.content)
                self._queue.reserved.add(study, needed)
        except WriteError as error:
            self.refused_images += 1
            _log.error("study %s: refused an image of %s: %s", study, peer.title, _without_path(error))
            return Status.OUT_OF_RESOURCES
        return Status.SUCCESS

    def finish_studies(self) -> list[str]:
        """Move complete studies to ``waiting``, in the order in which they were received; return their names there."""
        now = time.monotonic()
        done = []
        with self._lock:
            # once for all: an association that ends meanwhile must not complete its last studies before its first
            opened = _opened({peer for arriving in self._arriving.values() for peer in arriving.peers})
            complete = [
                study
                for study, arriving in sorted(self._arriving.items(), key=lambda pair: pair[1].last)
                if study not in self._changing and arriving.is_complete(self._waiting, opened, now)
            ]
            with self._unlocked(*complete):
                for study in complete:
                    done.append(self._queue.complete(study))
                    with self._lock:
                        arriving = self._arriving.pop(study)
                    _log.info("study %s: received, %d images", done[-1], len(arriving.images))
        return done

    @contextlib.contextmanager
    def _counted(self, study: str, image: str, peer: Peer) -> Iterator[_Arriving]:
        """Keep the study from being completed while an image of it is written."""
        with self._lock:
            while study in self._changing:
                self._lock.wait()
            arriving = self._arriving.get(study)
            new = arriving is None
            if arriving is None:
                self._check_number()
                arriving = self._arriving[study] = _Arriving(set(), time.monotonic())
            if image not in arriving.images and len(arriving.images) >= self._limits.images_per_study:
                raise WriteError(f"the study has more than {self._limits.images_per_study} images")
            arriving.drop_closed(_opened(arriving.peers), time.monotonic())
            arriving.writers += 1
            arriving.peers.add(peer)
            try:
                if new:
                    with self._unlocked(study):
                        self._queue.begin(study, peer.title)
            except BaseException:
                self._end_writing(study, arriving)
                raise
        try:
            yield arriving
            arriving.images.add(image)
        finally:
            with self._lock:
                self._end_writing(study, arriving)

    def _end_writing(self, study: str, arriving: _Arriving) -> None:
        """Count a writer less; delete the study if nothing of it was accepted. The caller holds the lock."""
        arriving.writers -= 1
        arriving.last = time.monotonic()
        if not arriving.images and not arriving.writers:
            del self._arriving[study]
            if self._queue.path("receiving", study).is_dir():
                with self._unlocked(study):
                    self._queue.remove("receiving", study)

    @contextlib.contextmanager
    def _unlocked(self, *studies: str) -> Iterator[None]:
        """Release the lock in the block, which changes the folders of ``studies``; their images wait for its end.

        A slow disk then delays only these studies, not the answers to all senders.
        """
        self._changing.update(studies)
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
            self._changing.difference_update(studies)
            self._lock.notify_all()

    def _check_number(self) -> None:
        held = len(self._arriving) + sum(len(self._queue.names(state)) for state in ("waiting", "sending"))
        if held >= self._limits.studies:
            raise WriteError(f"the queue has {held} studies, the largest number")

    def _check_space(self, size: int) -> None:
        free, reserved = shutil.disk_usage(self._queue.folder).free, self._queue.reserved.total()
        if free - reserved - size < self._limits.keep_free_mb * _MB:
            raise WriteError(
                f"{free / _MB:.0f} MB are free, {reserved / _MB:.0f} MB of these for results of accepted images, "
                f"and {self._limits.keep_free_mb:.0f} MB must stay free"
            )


def _opened(peers: Set[Peer]) -> set[Peer]:
    return {peer for peer in peers if peer.is_open()}


def _without_path(error: WriteError) -> str:
    """Return the reason of an operating system's error without the path, which repeats the hash of the study."""
    cause = error.__cause__
    return str(cause.strerror) if isinstance(cause, OSError) and cause.strerror else str(error)
