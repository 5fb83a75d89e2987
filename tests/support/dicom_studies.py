"""Small studies for the DICOM node, how to send them, and rules files with short waiting times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from support import dicom_phantoms
from support.phantoms import head_ct, head_mr, make_affine

from medcyclegan.io.dicom.network.library import keep_responses

#: Seconds after which a study is complete in tests.
WAITING = {"settle_s": 0.3, "quiet_s": 3.0}
LIMITS = {"keep_free_mb": 0}


def make_study(seed: str, modality: str = "CT", slices: int = 4, side: int = 24) -> list[Dataset]:
    """Return the images of a study with one series of a head; equal seeds give equal UIDs."""
    head = head_ct if modality == "CT" else head_mr
    volume = head((side, side + 4, slices), make_affine("LPS", (9.0, 9.0, 9.0))).replace(modality=modality)
    images = dicom_phantoms.slices_of(volume, seed=seed)
    for image in images:
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.PatientID, image.PatientName = f"ID-{seed}", f"Secret^Name^{seed}"
        image.SeriesDescription = f"SECRETDESCRIPTION {seed}"
        image.BodyPartExamined = "HEAD"
    return images


def send(
    port: int,
    images: Iterable[Dataset],
    *,
    calling: str = "SCANNER",
    called: str = "MEDCYCLEGAN",
    tls: Any = None,
    before: Callable[[int], None] = lambda number: None,
) -> list[int | None]:
    """Send images in one association; return their statuses, or an empty list if it is rejected.

    The first image without an answer is the last one that is sent; its status is None.
    """
    from pynetdicom import AE

    images = list(images)
    entity = AE(ae_title=calling)
    entity.connection_timeout, entity.acse_timeout, entity.dimse_timeout = 5, 30, 60
    for sop_class in {image.SOPClassUID for image in images}:
        entity.add_requested_context(sop_class)
    association = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)
    if not association.is_established:
        return []
    keep_responses(association)
    statuses: list[int | None] = []
    for number, image in enumerate(images):
        before(number)
        try:
            statuses.append(association.send_c_store(image).get("Status"))
        except (RuntimeError, ValueError):
            statuses.append(None)
        if statuses[-1] is None:
            break
    association.release()
    return statuses


def write_rules(path: Path, rules: Sequence[dict[str, Any]] = ({},), **sections: Any) -> Path:
    """Write a rules file with short waiting times; ``sections`` replace or extend the others."""
    limits, waiting = LIMITS | sections.pop("limits", {}), WAITING | sections.pop("waiting", {})
    path.write_text(yaml.safe_dump({"rules": list(rules), "limits": limits, "waiting": waiting, **sections}))
    return path


def wait_until(condition: Callable[[], Any], seconds: float = 240.0) -> None:
    """Wait until ``condition`` holds; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)


def is_empty(queue: Path) -> bool:
    """Whether no study is in the queue."""
    states = ("receiving", "waiting", "sending", "failed")
    return not any(path for state in states for path in (queue / state).iterdir())
