"""The coding of DICOM files that are written: 16-bit pixels, CT in whole HU, MR as plain numbers without a rescale."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medcyclegan.errors import WriteError
from medcyclegan.io.stored import check_int16
from medcyclegan.volume import Volume

__all__ = ["PixelCoding", "file_meta_of", "find_coding"]

_INT16 = np.iinfo(np.int16)
_UINT16 = np.iinfo(np.uint16)
#: An MR whose largest value is below this would lose its contrast by rounding.
_COARSE = 100.0
#: The display window is calculated from every N-th row and column.
_SAMPLED = 3


@dataclasses.dataclass(frozen=True)
class PixelCoding:
    """One coding for all slices of a volume.

    ``signed``
        int16 rather than uint16.
    ``exponent``
        The stored value is the value x 10 ** exponent, rounded half to even; 0 for CT and for most MR.
    ``window``
        Center and width of a display window, in stored values.
    """

    signed: bool
    exponent: int
    window: tuple[float, float]

    def to_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the stored values of an array of any shape: little-endian int16 or uint16."""
        if self.exponent:
            values = values * np.float64(10.0) ** self.exponent
        return np.rint(values).astype("<i2" if self.signed else "<u2")


def file_meta_of(dataset: Dataset) -> FileMetaDataset:
    """Return the file meta information of ``dataset``, which is written as Explicit VR Little Endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def find_coding(volume: Volume) -> PixelCoding:
    """Return how the values of a CT or MR volume are stored.

    CT: int16, HU. MR: unsigned, signed if there are negative values; if the largest value is below 100, or does not fit
    into 16 bits, all are multiplied by a power of ten. Raises :class:`~medcyclegan.errors.WriteError` for another
    modality, values that are not finite, and a CT beyond int16.
    """
    if volume.modality not in ("CT", "MR"):
        raise WriteError(
            f"a volume of modality {volume.modality or 'unknown'}",
            remedy=("as DICOM only CT and MR are written, name a .nii.gz file"),
        )
    lowest, highest = math.inf, -math.inf
    whole = True
    for k in range(volume.shape[2]):
        values = volume.array[:, :, k]
        if not np.isfinite(values).all():
            raise WriteError(
                "the volume to write has voxels that are not finite", remedy="find their cause, or replace them"
            )
        lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
        whole = whole and (values.dtype.kind in "iub" or bool((values == np.rint(values)).all()))
    if volume.modality == "CT":
        check_int16(lowest, highest, remedy="if these are not HU, it is not a CT")
        return PixelCoding(signed=True, exponent=0, window=(40.0, 400.0))
    peak = max(abs(lowest), abs(highest))
    exponent = _mr_exponent(peak, _UINT16.max, whole)
    signed = bool(np.rint(lowest * 10.0**exponent) < 0)
    if signed:
        exponent = _mr_exponent(peak, _INT16.max, whole)
    sample = volume.array[::_SAMPLED, ::_SAMPLED]
    low, high = (float(np.percentile(sample, share)) * 10.0**exponent for share in (0.5, 99.5))
    width = max(round(high - low), 1)
    return PixelCoding(signed, exponent, (round(low + width / 2, 1), float(width)))


def _mr_exponent(peak: float, limit: int, whole: bool) -> int:
    """Return the power of ten for values up to ``peak``: 0 if they fit and rounding loses little."""
    if peak == 0 or (peak <= limit and (whole or peak >= _COARSE)):
        return 0
    return math.floor(math.log10(limit / peak))
