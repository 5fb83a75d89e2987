"""Split one series into volumes: echoes, phases, time points, stacks, in acquisition order.

A series may image every position several times. Its frames are distinguished by the first keywords that separate them
completely, or by the one that the user names; if there is no such keyword, nothing is guessed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from medcyclegan.errors import AmbiguousError
from medcyclegan.io.dicom.geometry import SAME_PLACE_MM, plane_axes, same_orientation
from medcyclegan.io.dicom.read.frames import SPLIT_KEYWORDS, Frame

__all__ = ["FrameGroup", "place_numbers", "split_volumes"]

#: Keywords whose numbers increase during the acquisition; the values of others are sorted in order of acquisition.
_GROWING = (
    "EchoTime",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "TriggerTime",
    "InversionTime",
    "StackID",
)


@dataclasses.dataclass(frozen=True)
class FrameGroup:
    """The frames of one volume, and the keyword values that identify it (none if the series is one volume)."""

    frames: tuple[Frame, ...]
    label: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Its label as text, such as ``EchoTime 80``."""
        return ", ".join(f"{keyword} {value}" for keyword, value in self.label) or "the only volume"


def split_volumes(frames: Sequence[Frame], split_by: str | None) -> list[FrameGroup]:
    """Return the volumes of a series in acquisition order.

    ``split_by`` is a DICOM keyword whose values distinguish volumes. Without it, frames are split if a position occurs
    more than once, and by the standard's StackID. Raises
    :class:`~medcyclegan.errors.AmbiguousError` for a keyword that no frame has, and for positions that occur several
    times if nothing distinguishes the frames.
    """
    groups = [FrameGroup(tuple(frames))]
    if split_by is not None:
        if not any(split_by in frame.attributes for frame in frames):
            raise AmbiguousError(
                f"no image has the keyword {split_by}, so it cannot split them", remedy="name another one"
            )
        groups = _split(groups[0], split_by)
    found = []
    for group in groups:
        for stack in _stacks(group):
            found.extend(_split_repeated(stack))
    return found


def place_numbers(frames: Sequence[Frame]) -> list[int]:
    """Return the position number of each frame: frames within 0.01 mm of each other share one."""
    positions = np.array([frame.position for frame in frames])
    _, _, normal = plane_axes(frames[0].orientation)
    heights = positions @ normal
    numbers = [0] * len(frames)
    known: list[tuple[float, np.ndarray, int]] = []
    for index in np.argsort(heights, kind="stable"):
        for height, position, number in reversed(known):
            if heights[index] - height > SAME_PLACE_MM:
                known_number = len(known)
                break
            if np.abs(positions[index] - position).max() <= SAME_PLACE_MM:
                known_number = number
                break
        else:
            known_number = len(known)
        if known_number == len(known):
            known.append((heights[index], positions[index], known_number))
        numbers[index] = known_number
    return numbers


def _split(group: FrameGroup, keyword: str) -> list[FrameGroup]:
    """Split by one keyword, in the order of its values if they are numbers, else in order of acquisition."""
    by_value: dict[str, list[Frame]] = defaultdict(list)
    for frame in group.frames:
        by_value[frame.attributes.get(keyword, "absent")].append(frame)
    if len(by_value) == 1:
        return [group]
    ranks = _ranks(keyword, by_value)
    values = sorted(by_value, key=lambda value: ranks[value])
    return [FrameGroup(tuple(by_value[value]), (*group.label, (keyword, value))) for value in values]


def _ranks(keyword: str, by_value: dict[str, list[Frame]]) -> dict[str, tuple[object, ...]]:
    """Return a sort key for each value."""
    if keyword in _GROWING:
        try:
            # an echo time of 0 is a map calculated from the echoes
            return {value: (keyword == "EchoTime" and float(value) == 0, float(value)) for value in by_value}
        except ValueError:
            pass
    return {value: (*_first_acquired(frames), value) for value, frames in by_value.items()}


def _first_acquired(frames: Sequence[Frame]) -> tuple[str, int, int]:
    """Order by acquisition time, else by instance and frame number."""
    times = [frame.attributes.get("AcquisitionTime", "") for frame in frames]
    numbers = [(frame.image.instance_number or 0, frame.index) for frame in frames]
    return (min(times), *min(numbers))


def _stacks(group: FrameGroup) -> list[FrameGroup]:
    """Split by StackID (PS3.3 C.7.6.16.2.2), if there are several, and not a separate one for each slice."""
    stacks = _split(group, "StackID") if any("StackID" in frame.attributes for frame in group.frames) else [group]
    return stacks if any(len(stack.frames) > 1 for stack in stacks) else [group]


def _split_repeated(group: FrameGroup) -> list[FrameGroup]:
    """Split a group in which positions occur several times, by the fewest keywords that leave each position once."""
    frames = group.frames
    if any(len(frame.position) != 3 or len(frame.orientation) != 6 for frame in frames):
        return [group]
    if not all(same_orientation(frame.orientation, frames[0].orientation) for frame in frames):
        return [group]
    place = dict(zip(map(id, frames), place_numbers(frames), strict=True))
    repeats = _repeats(frames, place)
    groups = [group]
    for keyword in (*SPLIT_KEYWORDS, *_dimensions(frames)):
        left = max(_repeats(part.frames, place) for part in groups)
        if left == 1:
            return groups
        finer = [part for whole in groups for part in _split(whole, keyword)]
        # a keyword that numbers the slices would make many groups and remove no repeat
        if len(finer) <= repeats and max(_repeats(part.frames, place) for part in finer) < left:
            groups = finer
    if max(_repeats(part.frames, place) for part in groups) == 1:
        return groups
    return _split_by_instance(frames, place, repeats) or [group]


def _repeats(frames: Sequence[Frame], place: dict[int, int]) -> int:
    """Return the number of times that the most frequent position occurs."""
    return max(Counter(place[id(frame)] for frame in frames).values())


def _dimensions(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Return the dimensions of an enhanced object, tried last: they have no keyword that a user would know."""
    return tuple(sorted({name for frame in frames for name in frame.attributes if name.startswith("Dimension ")}))


def _split_by_instance(frames: Sequence[Frame], place: dict[int, int], repeats: int) -> list[FrameGroup]:
    """Split by InstanceNumber if it counts volume by volume, or position by position; else return nothing."""
    numbers = [(frame.image.instance_number, frame.index, frame.tile or ()) for frame in frames]
    if any(number[0] is None for number in numbers) or len(set(numbers)) != len(numbers):
        return []
    ordered = [frames[index] for index in sorted(range(len(frames)), key=lambda index: numbers[index])]
    places = len(set(place.values()))
    if len(ordered) != places * repeats:
        return []
    by_volume = [tuple(ordered[start : start + places]) for start in range(0, len(ordered), places)]
    by_place = [tuple(ordered[start::repeats]) for start in range(repeats)]
    for parts in (by_volume, by_place):
        if all(_repeats(part, place) == 1 for part in parts):
            return [FrameGroup(part, (("InstanceNumber", _first_number(part)),)) for part in parts]
    return []


def _first_number(frames: Sequence[Frame]) -> str:
    return f"from {min(frame.image.instance_number or 0 for frame in frames)}"
