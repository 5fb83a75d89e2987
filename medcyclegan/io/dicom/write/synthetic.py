"""Write a synthetic volume as a classic DICOM series, as a scanner would have sent it.

For the demo and for tests. A translation of a patient is written by another module, as a derived series.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid

from medcyclegan.errors import WriteError
from medcyclegan.io.dicom.write.coding import file_meta_of
from medcyclegan.storage import atomic_folder
from medcyclegan.volume import LPS_RAS, Volume

__all__ = ["write_made_series"]

_LPS_RAS = LPS_RAS[:3, :3]
_SHEAR_DEGREES = 1e-3
#: Stored value = HU - this; unsigned, as most scanners store CT.
_CT_INTERCEPT = -1024


def write_made_series(volume: Volume, folder: Path, *, number: int, description: str) -> None:
    """Write ``volume`` ``(I, J, K)``, CT or MR, into ``folder`` as single-frame images, one a slice.

    The columns of a slice are the first array index, its rows the second; positions and orientation come
    from the affine. ``number`` distinguishes patients: it makes their id (``MADE-0001``) and all UIDs, so
    the same call writes the same bytes. ``description`` is the SeriesDescription. SyntheticData (0008,001C) is
    YES, and the patient's name says that there is no patient. MR values are stored rounded, CT in whole HU.

    Raises :class:`~medcyclegan.errors.WriteError` for another modality, a sheared grid, values that 16 bits
    cannot hold, or a folder that exists.
    """
    if volume.modality not in ("CT", "MR"):
        raise WriteError(f"a synthetic series of modality {volume.modality}", remedy="only CT and MR are written")
    if volume.shear_degrees > _SHEAR_DEGREES:
        raise WriteError(
            f"axes {volume.shear_degrees:.3g} degrees from perpendicular", remedy="a slice stack cannot represent them"
        )
    stored = np.rint(volume.array - (_CT_INTERCEPT if volume.modality == "CT" else 0))
    if not np.isfinite(stored).all() or stored.min() < 0 or stored.max() > 65535:
        raise WriteError(
            f"stored values from {stored.min():g} to {stored.max():g}",
            remedy="16 bits hold 0 to 65535; rescale the volume",
        )
    shared = _series(volume, number, description)
    with atomic_folder(folder) as temporary:
        for k in range(volume.shape[2]):
            image = _image(shared, volume, k, stored[:, :, k].T.astype(np.uint16))
            image.save_as(temporary / f"slice-{k + 1:04d}.dcm", enforce_file_format=True)


def _series(volume: Volume, number: int, description: str) -> Dataset:
    """Return the attributes that all images share: patient, study, series, equipment, pixel format."""
    shared = Dataset()
    shared.SOPClassUID = CTImageStorage if volume.modality == "CT" else MRImageStorage
    shared.Modality = volume.modality
    shared.SyntheticData = "YES"
    shared.PatientName = f"Made^Phantom {number}"
    shared.PatientID = f"MADE-{number:04d}"
    shared.PatientBirthDate = shared.PatientSex = ""
    shared.StudyInstanceUID = _uid(number, "study")
    shared.StudyDate, shared.StudyTime = "20000101", "120000"
    shared.ReferringPhysicianName = shared.AccessionNumber = ""
    shared.StudyID = str(number)
    shared.SeriesInstanceUID = _uid(number, "series", str(volume.modality), description)
    shared.SeriesNumber = 1
    shared.SeriesDescription = description
    shared.FrameOfReferenceUID = _uid(number, "frame of reference")
    shared.PositionReferenceIndicator = ""
    shared.BodyPartExamined, shared.PatientPosition = "HEAD", "HFS"
    shared.Manufacturer = "medcyclegan (synthetic phantom)"
    shared.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if volume.modality == "CT" else "OTHER"]
    shared.AcquisitionNumber = 1
    if volume.modality == "CT":
        shared.KVP = ""
        shared.RescaleIntercept, shared.RescaleSlope, shared.RescaleType = _CT_INTERCEPT, 1, "HU"
    else:
        shared.ScanningSequence, shared.SequenceVariant, shared.MRAcquisitionType = "SE", "NONE", "2D"
        shared.ScanOptions = shared.EchoTime = shared.RepetitionTime = shared.EchoTrainLength = ""
    shared.SamplesPerPixel, shared.PhotometricInterpretation = 1, "MONOCHROME2"
    shared.Rows, shared.Columns = volume.shape[1], volume.shape[0]
    shared.BitsAllocated, shared.BitsStored, shared.HighBit, shared.PixelRepresentation = 16, 16, 15, 0
    spacing = volume.spacing_mm
    shared.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    shared.SliceThickness = _decimal(spacing[2])
    directions = _LPS_RAS @ (volume.affine[:3, :3] / np.array(spacing))
    shared.ImageOrientationPatient = [_decimal(value) for value in (*directions[:, 0], *directions[:, 1])]
    return shared


def _image(shared: Dataset, volume: Volume, k: int, pixels: NDArray[np.uint16]) -> Dataset:
    image = Dataset()
    image.update(shared)
    image.SOPInstanceUID = f"{shared.SeriesInstanceUID}.{k + 1}"
    image.InstanceNumber = k + 1
    position = _LPS_RAS @ (volume.affine @ (0, 0, k, 1))[:3]
    image.ImagePositionPatient = [_decimal(value) for value in position]
    image.PixelData = pixels.tobytes()
    image.file_meta = file_meta_of(image)
    return image


def _uid(number: int, *parts: str) -> str:
    # Leave space for a slice's number: a UID has at most 64 characters.
    return str(generate_uid(entropy_srcs=["medcyclegan synthetic series", str(number), *parts]))[:57]


def _decimal(value: float) -> str:
    """Return a decimal string of at most 16 characters, as required by DICOM's DS, to 1e-9 at least below 1000 mm."""
    return f"{value + 0.0:.10f}"[:16]
