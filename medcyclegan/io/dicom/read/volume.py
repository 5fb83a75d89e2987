"""Read one DICOM series into a Volume, or refuse it with a reason and a remedy."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medcyclegan.errors import MedCycleGANError
from medcyclegan.io.dicom.read.headers import walk_files
from medcyclegan.io.dicom.read.pixels import read_frames, rescale_frames
from medcyclegan.io.dicom.read.plan import SeriesPlan, plan_series
from medcyclegan.io.dicom.read.resample import resample_even, resample_upright
from medcyclegan.io.dicom.read.series import check_whole_series, choose_series, scan_files, short_uid
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.synthetic import check_synthetic, why_synthetic
from medcyclegan.volume import Volume

__all__ = ["DicomSource", "read_dicom_files", "read_dicom_series"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class DicomSource:
    """The headers of a volume's DICOM files, for writing a derived series.

    ``headers``
        One data set without pixel data per slice, in the order of ``k`` as stored (before any resampling); several
        slices of one multi-frame file share theirs.
    ``frame_numbers``
        The 0-based frame of each slice within its file.
    ``affine``
        Of the slices as stored, voxel to RAS+ mm; ``resampled``: the affine of the volume is another.
    """

    headers: tuple[Dataset, ...]
    frame_numbers: tuple[int, ...]
    series_uid: str
    patient_id: str
    affine: NDArray[np.float64]
    resampled: bool


def read_dicom_series(path: Path, options: ReadOptions) -> Volume:
    """Read the one series in a folder (and the folders in it), or of one file.

    The array is ``(columns, rows, slices)``, slices ascending along their normal; values are stored value x slope +
    intercept. Raises a subclass of :class:`~medcyclegan.errors.VolumeError`, or
    :class:`~medcyclegan.errors.MissingExtraError` if the decoder of a compression is not installed.
    """
    if path.is_dir():
        return read_dicom_files(walk_files(path), options, str(path))
    return read_dicom_files([path], options, str(path), named_alone=True)


def read_dicom_files(files: Iterable[Path], options: ReadOptions, name: str, *, named_alone: bool = False) -> Volume:
    """Read the one series among ``files``; ``name`` is the path that the user named, and the start of an error message.

    ``named_alone``: there is one file, and the user named it rather than its folder.
    """
    scan = scan_files(files, options.split_by, keep_datasets=True)
    notes = Notes(_log, name)
    try:
        series = choose_series(scan, options.series, notes, Path(name))
        notes.set_name(f"{name}, series {short_uid(series.uid)}")
        if named_alone:
            check_whole_series(series, notes)
    except MedCycleGANError as error:
        raise type(error).from_error(f"{name}: ", error) from error
    del scan
    try:
        plan = plan_series(series, options, notes)
        why = why_synthetic(Path(name), "SyntheticData" if plan.is_synthetic else "")
        synthetic = check_synthetic(why, options)
        return _read_planned(plan, options, notes).replace(synthetic=synthetic)
    except MedCycleGANError as error:
        raise type(error).from_error(f"{name}: series {short_uid(series.uid)}: ", error) from error


def _read_planned(plan: SeriesPlan, options: ReadOptions, notes: Notes) -> Volume:
    """Read the pixels of a plan, and resample if it requires that."""
    array = rescale_frames(read_frames(plan.frames, notes), plan.frames).transpose(2, 1, 0)
    affine = plan.stack.affine
    if plan.fill_gaps:
        array, affine = resample_even(array, affine, plan.stack.distances_mm, options.max_voxels)
        spacing = float(np.linalg.norm(affine[:3, 2]))
        notes.warn(
            f"{plan.stack.uneven}: {len(plan.frames)} slices were resampled to {array.shape[2]}, "
            f"{spacing:.4g} mm apart, by linear interpolation"
        )
    if plan.upright:
        array, affine, outside = resample_upright(array, affine, options.max_voxels)
        notes.warn(
            f"the stack leans by {plan.stack.tilt_degrees:.2f} degrees (a tilted gantry): resampled to an upright "
            f"grid by linear interpolation; {outside:g} outside the stack"
        )
    first = plan.frames[0].image
    source = DicomSource(
        headers=tuple(frame.image.dataset for frame in plan.frames if frame.image.dataset is not None),
        frame_numbers=tuple(frame.index for frame in plan.frames),
        series_uid=first.series_uid,
        patient_id=first.patient_id,
        affine=plan.stack.affine,
        resampled=plan.fill_gaps or plan.upright,
    )
    return Volume(array, affine, modality=first.modality or None, source=source, notes=notes.sentences)
