"""Send the results of the queue to their nodes, in order, and again until each node has them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

from medcyclegan.config import Limits
from medcyclegan.errors import MedCycleGANError, ReadError, WriteError
from medcyclegan.io.dicom.network.address import DicomNode
from medcyclegan.io.dicom.network.send import check_node, send_series
from medcyclegan.service.queue import Delivery, Queue

__all__ = ["Deliverer"]

_log = logging.getLogger(__name__)

_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0


class Deliverer:
    """Sends the studies in ``sending``; a study that was sent is deleted.

    A node that does not answer is tried again after 1, 2, 4, ... at most 60 seconds, without end. A study that it
    refuses although it answers is tried as often as the limits say. Meanwhile later studies for this node wait, so
    that their order is kept; those for other nodes do not.
    """

    def __init__(self, queue: Queue, limits: Limits) -> None:
        self._queue, self._limits = queue, limits
        self._attempts: Counter[str] = Counter()
        self._delay_s: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._known: dict[str, list[Delivery]] = {}
        self._sent: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()
        #: Nodes that did not take what was sent, and why.
        self.unreachable: dict[str, str] = {}

    def run(self, stop: threading.Event) -> None:
        """Send until ``stop``."""
        # it reports each series without the name of its study
        logging.getLogger(send_series.__module__).setLevel(logging.WARNING)
        while not stop.wait(0.1):
            self.send_all(stop)

    def send_all(self, stop: threading.Event) -> None:
        """Try once to send each study whose nodes are not waiting for their next attempt."""
        blocked = {address for address, moment in self._next.items() if moment > time.monotonic()}
        for name in self._queue.names("sending"):
            if stop.is_set():
                return
            try:
                deliveries = self._known.get(name) or self._queue.deliveries(name)
                self._known[name] = deliveries
                left = [each for each in deliveries if (name, each.folder) not in self._sent]
                for delivery in left:
                    if delivery.address not in blocked and not self._send(name, delivery):
                        blocked.add(delivery.address)
                if all((name, each.folder) in self._sent for each in deliveries):
                    self._finish(name, deliveries)
                elif self._attempts[name] >= self._limits.sending_attempts:
                    if all(each.is_note or (name, each.folder) in self._sent for each in deliveries):
                        _log.warning("study %s: its node takes no text notes: not sent", name)
                        self._finish(name, deliveries)
                    else:
                        self._give_up(name, "refused too often")
            except ReadError as error:
                self._give_up(name, str(error))
            except WriteError as error:  # the queue's disk is full
                _log.error("study %s: %s", name, error)

    def _send(self, name: str, delivery: Delivery) -> bool:
        """Send one series; on a failure, set when its node is tried again."""
        node = DicomNode.parse(delivery.address)
        try:
            count = send_series(self._queue.path("sending", name) / delivery.folder, node, notes=delivery.is_note)
        except MedCycleGANError as error:
            answers = self._answers(node)
            self._attempts[name] += answers
            delay = self._delay_s[delivery.address] = min(
                2 * self._delay_s.get(delivery.address, _FIRST_DELAY_S / 2), _LONGEST_DELAY_S
            )
            self._next[delivery.address] = time.monotonic() + delay
            self.unreachable[str(node)] = str(error)
            _log.warning("study %s: not sent, next attempt in %g s: %s", name, delay, error)
            return False
        self._sent.add((name, delivery.folder))
        self._delay_s.pop(delivery.address, None)
        self._next.pop(delivery.address, None)
        self.unreachable.pop(str(node), None)
        self.counts["sent"] += 1
        _log.info("study %s: sent %d %s to %s", name, count, "note" if delivery.is_note else "images", node)
        return True

    def _answers(self, node: DicomNode) -> bool:
        """Whether the node accepts associations, so that a failure concerns what was sent."""
        try:
            check_node(node)
        except MedCycleGANError:
            return False
        return True

    def _finish(self, name: str, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            if not delivery.is_note:
                self._queue.remember(delivery.digest)
        self._queue.remove("sending", name)
        self._forget(name)

    def _give_up(self, name: str, reason: str) -> None:
        _log.error("study %s: %s; given up, see failed/", name, reason)
        self.counts["failed"] += 1
        self._queue.fail("sending", name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._attempts.pop(name, None)
        self._known.pop(name, None)
        self._sent = {pair for pair in self._sent if pair[0] != name}
