"""Disk space that the results of accepted studies will need, so that new images do not take it."""

from __future__ import annotations

import threading
from pathlib import Path

from medcyclegan.io.dicom.read.headers import DicomFile, read_header
from medcyclegan.io.dicom.summary import count_pixels

__all__ = ["ReservedSpace", "result_bytes"]

#: What is added to the header of a source: references to it, and how the image was derived.
_ADDED_BYTES = 1 << 14
#: The largest ratio of a result's size to its source's that is believed: a small object must not reserve the whole disk
#: by the number of pixels in its header. Only blank compressed images are smaller than a hundredth of their result.
_LARGEST_RATIO = 100


def result_bytes(size: int, pixels: int) -> int:
    """Return the largest size to expect of the result of an image of ``size`` bytes: uncompressed, 16 bits a pixel.

    ``pixels``: their number according to the header of the image.
    """
    return max(size, min(2 * pixels, _LARGEST_RATIO * size)) + _ADDED_BYTES


class ReservedSpace:
    """The space for the results of each study that is not translated yet; several threads may use it.

    It is counted until the study is translated: then the results are on the disk, and the input is deleted.
    """

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        self._lock = threading.Lock()

    def total(self) -> int:
        """Return the space for all studies, in bytes."""
        with self._lock:
            return sum(self._bytes.values())

    def add(self, study: str, count: int) -> None:
        """Reserve ``count`` more bytes for a study."""
        with self._lock:
            self._bytes[study] = self._bytes.get(study, 0) + count

    def add_folder(self, study: str, folder: Path) -> None:
        """Reserve the space for a study whose images are in ``folder``."""
        for path in folder.glob("*.dcm"):
            found = read_header(path)
            pixels = count_pixels(found.dataset) if isinstance(found, DicomFile) else 0
            self.add(study, result_bytes(path.stat().st_size, pixels))

    def rename(self, study: str, name: str) -> None:
        """Use a new name for a study."""
        with self._lock:
            self._bytes[name] = self._bytes.pop(study, 0)

    def drop(self, study: str) -> None:
        """Release the space of a study."""
        with self._lock:
            self._bytes.pop(study, None)
