"""Images that arrive at the intake of a node, and the associations that send them."""

import dataclasses
import time

from medcyclegan.config import Limits, Waiting
from medcyclegan.io.dicom.network.receive import Peer, ReceivedObject
from medcyclegan.service.intake import Intake

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


def build(queue, waiting=WAITING, **limits):
    return Intake(queue, waiting, Limits(**{"keep_free_mb": 0, **limits}))


def finished_after(intake, seconds):
    """Return the names of the studies that are complete within ``seconds``."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        found += intake.finish_studies()
        time.sleep(0.01)
    return found
