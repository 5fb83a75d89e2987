"""Plan the reading of a series from its headers alone; reading and inspection share these checks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence

import numpy as np

from medcyclegan.errors import AmbiguousError, GeometryError, ReadError
from medcyclegan.io.dicom.geometry import SAME_PLACE_MM, Stack, even_step, stack_slices
from medcyclegan.io.dicom.read.checks import (
    check_alike,
    check_one_volume,
    check_placed,
    check_rescale,
    check_sequence,
)
from medcyclegan.io.dicom.read.frames import Frame
from medcyclegan.io.dicom.read.pixels import check_readable, same_pixels
from medcyclegan.io.dicom.read.series import Series
from medcyclegan.io.dicom.read.split import FrameGroup, place_numbers, split_volumes
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ALLOWED_GAP_MM, ReadOptions

__all__ = ["SeriesPlan", "plan_series"]

#: A stack that leans by more is reported as tilted.
_TILT_SAID_DEGREES = 0.1
_JITTER_SAID_MM = 0.005
#: An even grid with more slices than this multiple of the stored ones would consist of interpolated slices.
_MOST_REFINED = 20
#: The number of choices that a refusal lists.
_LISTED = 4


@dataclasses.dataclass(frozen=True, eq=False)
class SeriesPlan:
    """The slices to read, in order of their position, and their geometry.

    ``volumes``
        The number of volumes in the series; ``label`` names the chosen one.
    ``fill_gaps``, ``upright``
        Whether the slices are resampled to an even grid, and to an upright one.
    """

    frames: tuple[Frame, ...]
    stack: Stack
    volumes: int
    label: str
    fill_gaps: bool
    upright: bool

    @property
    def is_synthetic(self) -> bool:
        """Whether an image of the volume is marked as synthetic."""
        return any(frame.image.is_synthetic for frame in self.frames)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices as stored, before any resampling."""
        return self.frames[0].columns, self.frames[0].rows, len(self.frames)


def plan_series(series: Series, options: ReadOptions, notes: Notes) -> SeriesPlan:
    """Choose, check and sort the slices of one volume; pixels are read only to compare two images at one position.

    Raises a subclass of
    :class:`~medcyclegan.errors.VolumeError` if the volume or its geometry is ambiguous.
    """
    frames = _without_localizers(series.frames, notes)
    check_placed(frames)
    frames = _without_copies(frames, notes)
    groups = split_volumes(frames, options.split_by)
    group = _choose_group(groups, options)
    check_alike(group.frames, notes)
    chosen = _without_repeats(group.frames, notes)
    check_one_volume(chosen)
    check_rescale(chosen, notes)
    if {(frame.slope, frame.intercept) for frame in frames} != {(frame.slope, frame.intercept) for frame in chosen}:
        notes.warn("other volumes of the series have another RescaleSlope or RescaleIntercept: each keeps its own")
    size = len(chosen) * chosen[0].rows * chosen[0].columns
    if size > options.max_voxels:
        raise ReadError(
            f"{size} voxels, over the limit of {options.max_voxels}", remedy=f"raise it with --max-voxels {size}"
        )
    for image in {frame.image.path: frame.image for frame in chosen}.values():
        check_readable(image)
    if any(frame.image.has_text for frame in chosen):
        notes.warn("BurnedInAnnotation is YES: text in the pixels may name the patient, and every output may show it")
    stack = _stack(chosen, options, notes)
    ordered = tuple(chosen[index] for index in stack.order)
    check_sequence(ordered)
    tilted = stack.tilt_degrees > _TILT_SAID_DEGREES
    return SeriesPlan(
        ordered, stack, len(groups), group.name, bool(stack.uneven), upright=tilted and options.resample_tilt
    )


def _without_localizers(frames: Sequence[Frame], notes: Notes) -> list[Frame]:
    kept = [frame for frame in frames if not frame.image.is_localizer]
    if not kept or len(kept) == len(frames):
        return list(frames)
    notes.warn(f"{len(frames) - len(kept)} localizer image(s) in the series are left out")
    return kept


def _without_copies(frames: list[Frame], notes: Notes) -> list[Frame]:
    """Drop files that are copies of each other: the same SOP instance, position and pixels."""
    kept: dict[Hashable, Frame] = {}
    copies = 0
    for number, frame in enumerate(frames):
        uid = frame.image.instance_uid
        key: Hashable = (uid, frame.index, frame.tile, frame.position, frame.orientation) if uid else number
        if key in kept and _alike(kept[key], frame) and same_pixels(kept[key], frame):
            copies += 1
        else:
            kept[key if key not in kept else number] = frame
    if copies:
        notes.warn(f"images that are copies of another file of the series are left out: {copies}")
    return list(kept.values())


def _without_repeats(frames: Sequence[Frame], notes: Notes) -> list[Frame]:
    """Drop images that repeat another at the same position, voxel for voxel; refuse different images there."""
    kept: dict[int, Frame] = {}
    dropped = 0
    for frame, place in zip(frames, place_numbers(frames), strict=True):
        if place not in kept:
            kept[place] = frame
        elif _alike(kept[place], frame) and same_pixels(kept[place], frame):
            dropped += 1
        else:
            x, y, z = (f"{value:g}" for value in frame.position)
            raise AmbiguousError(
                f"several different images at one position (ImagePositionPatient {x}\\{y}\\{z}) and nothing in their "
                "headers distinguishes them",
                remedy="name a keyword that does with --split-by, or remove the extra images",
            )
    if dropped:
        notes.warn(f"images that repeat another one at the same position, voxel for voxel, are left out: {dropped}")
    return list(kept.values())


def _alike(first: Frame, second: Frame) -> bool:
    """Whether two frames code their pixels alike and map them to the same values."""
    return (
        (first.slope, first.intercept, first.tile) == (second.slope, second.intercept, second.tile)
        and first.image.pixel_format == second.image.pixel_format
        and first.pixel_spacing == second.pixel_spacing
    )


def _choose_group(groups: list[FrameGroup], options: ReadOptions) -> FrameGroup:
    """Return the volume that the options name, or the only one."""
    if options.volume is not None:
        if options.volume >= len(groups):
            raise AmbiguousError(
                f"--volume {options.volume}: the series holds {len(groups)} volume(s), counted from 0",
                remedy=f"give at most {len(groups) - 1}",
            )
        return groups[options.volume]
    if len(groups) == 1:
        return groups[0]
    keywords = [keyword for keyword, _ in groups[0].label]
    listed = [f"{number}: {group.name}" for number, group in enumerate(groups)]
    named = "; ".join(listed if len(listed) <= _LISTED else [*listed[:2], "…", listed[-1]])
    how = f"distinguished by {' and '.join(keywords)}" if keywords else ""
    sizes = sorted({len(group.frames) for group in groups})
    slices = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    raise AmbiguousError(
        f"{len(groups)} volumes of {slices} slice{'' if slices == '1' else 's'}, {how}",
        remedy=(f"choose one with --volume N ({named}), or name another keyword with --split-by"),
        options={"volume": 0},
    )


def _stack(frames: Sequence[Frame], options: ReadOptions, notes: Notes) -> Stack:
    """Stack the slices; refuse gaps unless they are allowed, and say what is unusual."""
    first = frames[0]
    single = first.slice_spacing or first.slice_thickness
    if len(frames) == 1:
        notes.info(f"one slice: {single:g} mm thick" if single else "one slice of unknown thickness: taken as 1 mm")
    positions = np.array([frame.position for frame in frames], dtype=np.float64)
    stack = stack_slices(positions, first.orientation, first.pixel_spacing, single or 1.0)
    if stack.uneven:
        _check_gap(float(np.diff(stack.distances_mm).max()), stack.uneven, options)
    if stack.uneven and even_step(stack.distances_mm)[1] > _MOST_REFINED * len(frames):
        raise GeometryError(
            f"the smallest gap of {len(frames)} slices is {np.diff(stack.distances_mm).min():.3g} mm, not a slice "
            "spacing but two volumes at nearly the same position",
            remedy="choose one with --split-by KEYWORD and --volume N",
        )
    if not stack.uneven and len(frames) > 1:
        _check_nominal_spacing(frames, stack, options, notes)
    if stack.jitter_mm > _JITTER_SAID_MM and not stack.uneven:
        notes.info(f"positions vary by up to {stack.jitter_mm:.2g} mm from an even stack")
    if stack.tilt_degrees > _TILT_SAID_DEGREES and not options.resample_tilt:
        notes.warn(
            f"the stack leans by {stack.tilt_degrees:.2f} degrees (a tilted gantry): kept exactly, as a sheared "
            "affine; --resample-tilt gives an upright grid"
        )
    return stack


def _check_gap(gap_mm: float, what: str, options: ReadOptions) -> None:
    """Refuse a gap between slices that the options do not accept; ``what`` describes it."""
    needed = math.ceil(gap_mm - SAME_PLACE_MM)
    if gap_mm <= options.largest_gap_mm + SAME_PLACE_MM:
        return
    if gap_mm <= ALLOWED_GAP_MM + SAME_PLACE_MM and options.allow_gap_mm is None:
        raise GeometryError(what, remedy="export the complete series, or pass --allow-gap", options={"allow_gap": True})
    filled = f" (--allow-gap fills {ALLOWED_GAP_MM:g} mm)" if options.allow_gap_mm is None else ""
    raise GeometryError(
        what,
        remedy=f"export the complete series, or, if you want {needed} mm interpolated, pass --allow-gap-mm {needed}"
        + filled,
        options={"allow_gap_mm": float(needed)},
    )


def _check_nominal_spacing(frames: Sequence[Frame], stack: Stack, options: ReadOptions, notes: Notes) -> None:
    """Compare the gaps with SpacingBetweenSlices, the only attribute that shows that every other slice is missing."""
    first = frames[0]
    gap = float(stack.distances_mm[-1]) / (len(frames) - 1)
    nominal = first.slice_spacing
    # some scanners write the gap between slices where the standard requires the distance between their centers
    if nominal is None or nominal < (first.slice_thickness or 0) or gap < 1.5 * nominal:
        return
    if len(frames) == 2:
        apart = f"two slices {gap:.4g} mm apart where SpacingBetweenSlices says {nominal:.4g} mm"
        _check_gap(gap, f"{apart} (a slice is missing between them)", options)
    notes.warn(f"slices are {gap:.4g} mm apart where SpacingBetweenSlices says {nominal:.4g} mm: some may be missing")
