"""The queue of studies on disk, which survives a kill and a power failure at any moment.

::

    QUEUE/
      lock, key               one service per queue; the key of the hashes that name everything here
      receiving/STUDY/        a study whose images are arriving: in/IMAGE.dcm, and the sender's title
      waiting/NUMBER-STUDY/   complete, to be translated in the order of the numbers
      sending/NUMBER-STUDY/   translated: out/, and deliveries.json, which says what is sent where
      failed/NUMBER-STUDY/    given up, with the input or the results; deleted after some days
      removed/                studies that are being deleted
      sent/DIGEST             an empty file for each series that was sent, to recognize it if it comes again

A study changes its state by one atomic rename of its folder. Names are keyed hashes, never text of headers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from medcyclegan.errors import ReadError, WriteError
from medcyclegan.provenance import keyed_hash
from medcyclegan.service.durable import make_private_folder, move_durably
from medcyclegan.service.space import ReservedSpace
from medcyclegan.storage import atomic_write, exclusive_lock, remove_leftovers

__all__ = ["Delivery", "Queue"]

_log = logging.getLogger(__name__)

_STATES = ("receiving", "waiting", "sending", "failed", "removed", "sent")
_SENDER, _DELIVERIES = "sender", "deliveries.json"
_DAY_S = 86_400
_DIGITS = 8


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One series to send: its folder below the study's, the address, and the digest by which it is remembered.

    ``is_note``: it is a text note instead of images, and is not remembered.
    """

    folder: str
    address: str
    digest: str
    is_note: bool = False


class Queue:
    """The queue in ``folder``, locked for this process until :meth:`close`.

    Raises :class:`~medcyclegan.errors.WriteError` if another process holds it, or if it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held = contextlib.ExitStack()
        make_private_folder(folder)
        if folder.stat().st_mode & 0o077:
            raise WriteError(
                f"{folder} can be read by other users, and would hold data of patients",
                remedy=f"name a new folder with --queue, or run chmod 700 {folder}",
            )
        try:
            self._held.enter_context(exclusive_lock(folder / "lock", wait=False, mode=0o600))
        except BlockingIOError:
            raise WriteError(
                f"{folder} is in use by another process", remedy="stop it, or name another folder with --queue"
            ) from None
        #: Space for the results of the studies in ``receiving`` and ``waiting``.
        self.reserved = ReservedSpace()
        try:
            for state in _STATES:
                make_private_folder(folder / state)
            self._key = self._load_key()
            self._recover()
        except BaseException:
            self.close()
            raise
        self._last_number = max((int(name[:_DIGITS]) for name in self._numbered()), default=0)

    def close(self) -> None:
        """Release the lock."""
        self._held.close()

    def hash(self, *parts: str) -> str:
        """Return the keyed hash that stands for ``parts`` in names and messages."""
        return keyed_hash(self._key, *parts)

    def path(self, state: str, name: str) -> Path:
        """Return the folder of the study ``name`` in a state."""
        return self.folder / state / name

    def names(self, state: str) -> list[str]:
        """Return the studies in a state, sorted: the oldest first, except for ``receiving``."""
        return sorted(path.name for path in (self.folder / state).iterdir() if path.is_dir())

    def sender(self, state: str, name: str) -> str:
        """Return the title of the node that sent a study; empty if it is unknown."""
        try:
            return (self.path(state, name) / _SENDER).read_text("ascii", errors="replace")
        except FileNotFoundError:
            return ""

    def begin(self, study: str, sender: str) -> None:
        """Create the folder of a new study. Raises :class:`~medcyclegan.errors.WriteError`."""
        folder = self.path("receiving", study)
        make_private_folder(folder)
        make_private_folder(folder / "in")
        with atomic_write(folder / _SENDER, mode=0o600) as file:
            file.write(sender.encode("ascii", "replace"))

    def add(self, study: str, image: str, content: bytes) -> None:
        """Store an image; when this returns, it survives a power failure. An image of the same name is replaced.

        Raises :class:`~medcyclegan.errors.WriteError`.
        """
        with atomic_write(self.path("receiving", study) / "in" / f"{image}.dcm", mode=0o600) as file:
            file.write(content)

    def complete(self, study: str) -> str:
        """Move a study from ``receiving`` to the end of ``waiting``; return its name there."""
        self._last_number += 1
        name = f"{self._last_number:0{_DIGITS}d}-{study}"
        # Before the move: once it is in waiting, another thread may translate it and release its space.
        self.reserved.rename(study, name)
        try:
            move_durably(self.path("receiving", study), self.path("waiting", name))
        except WriteError:
            self.reserved.rename(name, study)
            raise
        return name

    def translated(self, name: str, deliveries: Iterable[Delivery]) -> None:
        """Move a study from ``waiting`` to ``sending``, and delete its input."""
        folder = self.path("waiting", name)
        with atomic_write(folder / _DELIVERIES, mode=0o600) as file:
            file.write(json.dumps([dataclasses.asdict(delivery) for delivery in deliveries]).encode())
        move_durably(folder, self.path("sending", name))
        self.reserved.drop(name)
        shutil.rmtree(self.path("sending", name) / "in", ignore_errors=True)

    def deliveries(self, name: str) -> list[Delivery]:
        """Return what is sent of a study in ``sending``. Raises :class:`~medcyclegan.errors.ReadError`."""
        try:
            values = json.loads((self.path("sending", name) / _DELIVERIES).read_bytes())
            return [Delivery(**value) for value in values]
        except (OSError, ValueError, TypeError) as error:
            raise ReadError(f"study {name}: its list of deliveries cannot be read ({type(error).__name__})") from error

    def remember(self, digest: str) -> None:
        """Record that a series was sent."""
        with atomic_write(self.folder / "sent" / digest, mode=0o600):
            pass

    def is_remembered(self, digest: str, days: float) -> bool:
        """Whether a series was sent in the last ``days``, or is about to be sent."""
        if not days:
            return False
        for name in self.names("sending"):  # first, because sending it ends with the record
            with contextlib.suppress(ReadError):
                if any(digest == each.digest for each in self.deliveries(name)):
                    return True
        marker = self.folder / "sent" / digest
        return marker.exists() and time.time() - marker.stat().st_mtime < days * _DAY_S

    def remove(self, state: str, name: str) -> None:
        """Delete a study; it leaves its state at once."""
        gone = self.path("removed", f"{name}-{secrets.token_hex(4)}")
        move_durably(self.path(state, name), gone)
        self.reserved.drop(name)
        shutil.rmtree(gone, ignore_errors=True)

    def fail(self, state: str, name: str) -> None:
        """Move a study to ``failed``."""
        move_durably(self.path(state, name), self.path("failed", name))
        self.reserved.drop(name)
        self.path("failed", name).touch()

    def prune(self, failed_days: float, remember_days: float) -> None:
        """Delete studies that failed, and records of what was sent, that are older than the given days."""
        now = time.time()
        for name in self.names("failed"):
            if now - self.path("failed", name).stat().st_mtime > failed_days * _DAY_S:
                _log.info("study %s: deleted %g days after it failed", name, failed_days)
                self.remove("failed", name)
        for marker in (self.folder / "sent").iterdir():
            if now - marker.stat().st_mtime > remember_days * _DAY_S:
                marker.unlink(missing_ok=True)

    def _numbered(self) -> list[str]:
        names = [name for state in ("waiting", "sending", "failed") for name in self.names(state)]
        return [name for name in names if name[:_DIGITS].isdecimal()]

    def _load_key(self) -> bytes:
        file = self.folder / "key"
        if not file.exists():
            with atomic_write(file, mode=0o600) as stream:
                stream.write(secrets.token_bytes(32))
        return file.read_bytes()

    def _recover(self) -> None:
        """Finish what a killed process had begun to write, move or delete."""
        for gone in (self.folder / "removed").iterdir():
            shutil.rmtree(gone, ignore_errors=True)
        for name in self.names("sending"):
            shutil.rmtree(self.path("sending", name) / "in", ignore_errors=True)
        for folder in (self.folder / "receiving").iterdir():
            remove_leftovers(folder / "in")
            remove_leftovers(folder)
            if not any((folder / "in").glob("*.dcm")):  # nothing of it was accepted
                shutil.rmtree(folder)
        for state in ("receiving", "waiting"):
            for name in self.names(state):
                self.reserved.add_folder(name, self.path(state, name) / "in")
