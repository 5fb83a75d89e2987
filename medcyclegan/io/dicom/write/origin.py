"""Find the series that a DICOM output is derived from, the input's or a template's, and their common geometry."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medcyclegan.errors import AmbiguousError, VolumeError, WriteError
from medcyclegan.io.dicom.geometry import SAME_PLACE_MM
from medcyclegan.io.dicom.read.enhanced import is_multi_frame
from medcyclegan.io.dicom.read.headers import walk_files
from medcyclegan.io.dicom.read.mosaic import is_mosaic
from medcyclegan.io.dicom.read.plan import plan_series
from medcyclegan.io.dicom.read.series import choose_series, scan_files
from medcyclegan.io.dicom.read.volume import DicomSource
from medcyclegan.io.dicom.values import items, text, vector
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ReadOptions
from medcyclegan.volume import LPS_RAS, Volume

__all__ = ["Origin", "SourceImage", "find_origin"]

_LPS_RAS = LPS_RAS[:3, :3]
#: In-plane axes whose cosine is above this cannot be rows and columns of an image.
_SQUARE = 1e-4
#: The radiological display of a stack, by the patient axis that its slices follow.
_DISPLAY = {"S": "LPS", "I": "LPS", "A": "LIP", "P": "LIP", "R": "PIR", "L": "PIR"}


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """A source image in a reference: its SOP class and instance, the frame (from 1; None in a single-frame image).

    ``is_tile``: one of the slices of a mosaic, whose positions differ from that of the whole image.
    """

    sop_class: str
    instance_uid: str
    frame: int | None
    is_tile: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """The source series of an output.

    ``header``
        The header from which patient and study are copied.
    ``images``
        The source image of each of its slices, in the order of ``k``; none if they cannot be referenced.
    ``positions_mm``
        ``(K, 3)``, LPS+: the position of each source slice; None if unknown.
    ``normal``
        Of the source slices, LPS+.
    ``in_place``
        The output's slices are the source's, one by one.
    ``shares_frame``
        The output has the source's frame of reference.
    ``is_template``
        The input was not DICOM; only patient and study of the series are used.
    ``burned_in``
        BurnedInAnnotation of the images that the output was made from: ``"YES"`` if it is YES in one of
        them, ``"NO"`` if it is NO in all, else empty.
    """

    header: Dataset
    series_uid: str
    images: tuple[SourceImage, ...]
    positions_mm: NDArray[np.float64] | None
    normal: NDArray[np.float64] | None
    in_place: bool
    shares_frame: bool
    is_template: bool
    burned_in: str = ""

    def images_of(self, volume: Volume, k: int) -> tuple[SourceImage, ...]:
        """Return the source images that slice ``k`` was made from; for a resampled one, those on both sides of it."""
        if not self.images or not self.shares_frame:
            return ()
        if self.in_place or self.positions_mm is None or self.normal is None:
            return self.images[k : k + 1] if self.in_place else self.images
        columns, rows, _ = volume.shape
        corners = np.array([[i, j, k, 1] for i in (0, columns - 1) for j in (0, rows - 1)])
        touched = corners @ volume.affine[:3].T @ _LPS_RAS @ self.normal
        heights = self.positions_mm @ self.normal
        first = int(np.searchsorted(heights, touched.min() + SAME_PLACE_MM, "right")) - 1
        last = int(np.searchsorted(heights, touched.max() - SAME_PLACE_MM, "left"))
        return self.images[max(first, 0) : min(last, len(heights) - 1) + 1]


def find_origin(volume: Volume, template: Path | None, notes: Notes) -> tuple[Volume, Origin]:
    """Return the volume with its axes as DICOM images need them, and the series that its output refers to.

    A volume from DICOM stays as it is. Another one, which needs ``template``, has its axes flipped or swapped, never
    resampled: to the grid of the template if it has that grid, else to the usual display of its plane. Raises
    :class:`~medcyclegan.errors.WriteError`.
    """
    if isinstance(volume.source, DicomSource):
        if template is not None:
            raise WriteError(
                f"{template}: the input is DICOM and has its own patient and study",
                remedy="leave --dicom-template out",
            )
        return volume, _origin_of_source(volume, volume.source)
    if template is None:
        raise WriteError(
            "DICOM needs a patient and a study, which this input does not have",
            remedy=(
                "name a folder with a DICOM series of that patient with --dicom-template, or a .nii.gz file as output"
            ),
        )
    return _origin_of_template(volume, template, notes)


def _origin_of_source(volume: Volume, source: DicomSource) -> Origin:
    _check_one_study(source.headers)
    on_grid = len(source.headers) == volume.shape[2] and _distance_mm(volume, source.affine) < SAME_PLACE_MM
    if not source.resampled and not on_grid:
        raise WriteError(
            f"a volume of shape {volume.shape} that is not on the grid of the {len(source.headers)} slices it was read "
            "from",
            remedy="drop their headers, volume.replace(source=None), and name a template",
        )
    return Origin(
        header=source.headers[0],
        series_uid=source.series_uid,
        images=_source_images(source.headers, source.frame_numbers),
        positions_mm=_positions(source),
        normal=_normal(source.affine),
        in_place=not source.resampled,
        shares_frame=True,
        is_template=False,
        burned_in=_burned_in(source.headers),
    )


def _origin_of_template(volume: Volume, template: Path, notes: Notes) -> tuple[Volume, Origin]:
    """Return the volume turned for display, and its origin in the template.

    The template's images are its source images only if it has their grid and was made from their modality.
    """
    headers, frames, shape, affine, series_uid = _read_template(volume, template, notes)
    _check_one_study(headers)
    turned = _turn(volume, nib.orientations.io_orientation(affine))
    shared = turned.shape == shape and _distance_mm(turned, affine) < SAME_PLACE_MM
    if not shared:
        turned = _turn(volume, nib.orientations.axcodes2ornt(_DISPLAY[volume.orientation[2]]))
        if np.linalg.det(turned.affine[:3, :3]) < 0:  # so oblique that its letters do not determine its handedness
            turned = _turn(turned, nib.orientations.io_orientation(turned.affine) * [[1, 1], [1, 1], [1, -1]])
        notes.warn(
            "the volume does not have the template's grid: it gets a new frame of reference, so that no viewer "
            "overlays it on the template's images"
        )
    _check_rows_and_columns(turned)
    made_from = volume.derivation and volume.derivation.source_modality
    is_source = shared and made_from in (None, text(headers[0], "Modality"))
    images = _source_images(headers, frames) if is_source else ()
    return turned, Origin(
        header=headers[0],
        series_uid=series_uid,
        images=images,
        positions_mm=None,
        normal=None,
        in_place=shared,
        shares_frame=shared,
        is_template=True,
        burned_in=_burned_in(headers) if is_source else "",
    )


def _read_template(
    volume: Volume, template: Path, notes: Notes
) -> tuple[tuple[Dataset, ...], tuple[int, ...], tuple[int, int, int] | None, NDArray[np.float64], str]:
    """Return the template's headers and frame numbers in slice order, its shape, its affine, and its series' UID.

    If the template is not a volume, the shape is missing and the affine is that of ``volume``.
    """
    silent = Notes(None, "")
    try:
        if not template.exists():
            raise WriteError("no such folder")
        scan = scan_files(walk_files(template) if template.is_dir() else [template], keep_datasets=True)
        series = choose_series(scan, None, silent)
    except AmbiguousError as error:
        raise WriteError(
            f"--dicom-template {template}: it contains more than one series",
            remedy=("name the folder, or one file, of the series whose patient and study the output belongs to"),
        ) from error
    except VolumeError as error:
        raise WriteError.from_error(f"--dicom-template {template}: ", error) from error
    except WriteError as error:
        raise WriteError(
            f"--dicom-template {template}: {error}", remedy="name a folder with one DICOM series"
        ) from error
    try:
        plan = plan_series(series, ReadOptions(), silent)
        frames, shape, affine = plan.frames, plan.shape, plan.stack.affine
    except VolumeError as error:
        notes.warn(f"the template is not a volume ({error}): only its patient and study are used")
        frames, shape, affine = series.frames, None, volume.affine
    headers = tuple(frame.image.dataset for frame in frames if frame.image.dataset is not None)
    return headers, tuple(frame.index for frame in frames), shape, affine, series.uid


def _burned_in(headers: tuple[Dataset, ...]) -> str:
    """Return BurnedInAnnotation of a volume made from all these images; empty if one lacks it and no other is YES."""
    statements = {
        text(header, "BurnedInAnnotation").upper() for header in {id(header): header for header in headers}.values()
    }
    return "YES" if "YES" in statements else "NO" if statements == {"NO"} else ""


def _check_one_study(headers: tuple[Dataset, ...]) -> None:
    for keyword in ("PatientID", "StudyInstanceUID"):
        found = {text(header, keyword) for header in {id(header): header for header in headers}.values()}
        if len(found) > 1:
            raise WriteError(
                f"the source's images have {len(found)} different values of {keyword}",
                remedy=("the patient is not certain, export the series again or write NIfTI"),
            )


def _source_images(headers: tuple[Dataset, ...], frames: tuple[int, ...]) -> tuple[SourceImage, ...]:
    images = []
    for header, frame in zip(headers, frames, strict=True):
        sop_class, instance = text(header, "SOPClassUID"), text(header, "SOPInstanceUID")
        # a reference to an invalid UID would make the output invalid
        if not (UID(sop_class).is_valid and UID(instance).is_valid and sop_class and instance):
            return ()
        number = frame + 1 if is_multi_frame(header) else None
        images.append(SourceImage(sop_class, instance, number, is_mosaic(header)))
    return tuple(images)


def _positions(source: DicomSource) -> NDArray[np.float64]:
    """Return ImagePositionPatient of each source slice, or its position by the affine if the header lacks it."""
    along = np.arange(len(source.headers))[:, None]
    expected = (source.affine[:3, 3] + along * source.affine[:3, 2]) @ _LPS_RAS
    groups: dict[int, list[Dataset]] = {}
    stated = []
    for header, frame in zip(source.headers, source.frame_numbers, strict=True):
        if is_mosaic(header):
            return expected
        holder: Dataset | None = header
        if is_multi_frame(header):
            if id(header) not in groups:
                groups[id(header)] = items(header, "PerFrameFunctionalGroupsSequence")
            planes = items(groups[id(header)][frame], "PlanePositionSequence")
            holder = planes[0] if planes else None
        stated.append(vector(holder, "ImagePositionPatient", 3) if holder is not None else ())
    return np.array(stated, dtype=np.float64) if all(stated) else expected


def _normal(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    normal = np.cross(_LPS_RAS @ affine[:3, 0], _LPS_RAS @ affine[:3, 1])
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def _distance_mm(volume: Volume, affine: NDArray[np.float64]) -> float:
    """Return the largest distance between the corners of the volume by its own and by another affine."""
    ends = [(0, n - 1) for n in volume.shape]
    corners = np.array([[i, j, k, 1] for i in ends[0] for j in ends[1] for k in ends[2]])
    return float(np.linalg.norm(corners @ (volume.affine - affine)[:3].T, axis=1).max())


def _turn(volume: Volume, target: NDArray[np.float64]) -> Volume:
    """Return the volume with its axes flipped and swapped to an orientation (nibabel's ornt array)."""
    change = nib.orientations.ornt_transform(nib.orientations.io_orientation(volume.affine), target)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(change, volume.shape)
    return volume.replace(array=nib.orientations.apply_orientation(volume.array, change), affine=affine)


def _check_rows_and_columns(volume: Volume) -> None:
    columns, rows = (volume.affine[:3, axis] / volume.spacing_mm[axis] for axis in (0, 1))
    cosine = abs(float(columns @ rows))
    if cosine > _SQUARE:
        raise WriteError(
            f"rows and columns are {np.degrees(np.arcsin(min(cosine, 1.0))):.3g} degrees from perpendicular",
            remedy=("a DICOM image cannot represent that, write NIfTI"),
        )
