"""The options for reading a volume."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from medcyclegan.errors import UsageError
from medcyclegan.io.axes import are_axis_codes

__all__ = ["ALLOWED_GAP_MM", "MAX_VOXELS", "ReadOptions", "option_texts"]

#: Larger volumes are refused before memory is allocated, unless ``max_voxels`` allows them: a whole-body
#: CT of 512 x 512 x 2000 has 5.2e8 voxels, a damaged or hostile header may claim any number.
MAX_VOXELS = 2**31
#: The largest gap that ``allow_gap`` interpolates across: a missing slice of 5 mm is a gap of 10
#: mm, and across more, anatomy would be invented.
ALLOWED_GAP_MM = 10.0


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """The reading options, the same for all commands; all but ``allow_synthetic`` are off by default.

    ``series``
        DICOM: the SeriesInstanceUID to read from a folder that contains several; its beginning or its end is enough.
    ``split_by``
        DICOM: the keyword (``"EchoTime"``, ``"AcquisitionNumber"``, …) that distinguishes the slices of
        several volumes in one series.
    ``volume``
        The volume to take from a 4-D file or series, 0-based, in acquisition order.
    ``resample_tilt``
        DICOM: resample a series with a tilted gantry to an upright grid.
    ``allow_gap``
        DICOM: accept uneven slice gaps, by resampling to an even grid, if neighboring slices are at most
        10 mm apart.
    ``allow_gap_mm``
        DICOM: the same, with this distance in mm as the limit.
    ``assume_axes``
        The patient directions in which array indices grow (``"LAS"``), for NIfTI, MetaImage and NRRD files whose
        header does not state them; a header is never overruled.
    ``allow_synthetic``
        Read a volume that is marked as synthetic. Slicing and translation set this to False by default.
    ``nan``
        ``"fill"``: replace voxels that are not finite by the smallest finite value of the volume.
    ``max_voxels``
        The largest number of voxels that a header may claim, over all axes, checked before anything is read.

    Raises :class:`~medcyclegan.errors.UsageError` for a value that is invalid for any volume.
    """

    series: str | None = None
    split_by: str | None = None
    volume: int | None = None
    resample_tilt: bool = False
    allow_gap: bool = False
    allow_gap_mm: float | None = None
    assume_axes: str | None = None
    allow_synthetic: bool = True
    nan: Literal["fill"] | None = None
    max_voxels: int = MAX_VOXELS

    def __post_init__(self) -> None:
        if self.volume is not None and self.volume < 0:
            raise UsageError(f"--volume {self.volume}: volumes are counted from 0", remedy="give 0 for the first")
        if self.allow_gap_mm is not None and not 0 < self.allow_gap_mm < math.inf:
            raise UsageError(
                f"--allow-gap-mm {self.allow_gap_mm:g}: a distance between slices", remedy="give mm above 0"
            )
        if self.assume_axes is not None and not are_axis_codes(self.assume_axes):
            raise UsageError(
                f"--assume-axes {self.assume_axes}",
                remedy="three letters, one each of R or L, A or P, S or I, such as LAS",
            )
        if self.nan not in (None, "fill"):
            raise UsageError(f"--nan {self.nan}", remedy="the only remedy for voxels that are not finite is --nan fill")
        if self.max_voxels < 1:
            raise UsageError(
                f"--max-voxels {self.max_voxels}: a volume has at least 1 voxel", remedy="give a positive number"
            )

    def for_acquired(self, *, allow_synthetic: bool) -> ReadOptions:
        """Return these options for work on acquired volumes: synthetic ones are read only if ``allow_synthetic``."""
        return dataclasses.replace(self, allow_synthetic=self.allow_synthetic and allow_synthetic)

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, by name."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }

    @property
    def largest_gap_mm(self) -> float:
        """The largest gap of an uneven stack, in mm; 0 if uneven stacks are not accepted."""
        if self.allow_gap_mm is not None:
            return self.allow_gap_mm
        return ALLOWED_GAP_MM if self.allow_gap else 0.0


#: Options whose value the user has to choose, as they are printed.
_CHOSEN_BY_USER = {"volume": "--volume N", "allow_gap_mm": "--allow-gap-mm N"}


def option_texts(options: Mapping[str, object]) -> tuple[str, ...]:
    """Return options as they are written on the command line.

    >>> option_texts({"split_by": "EchoTime", "volume": 0, "allow_gap": True})
    ('--split-by EchoTime', '--volume N', '--allow-gap')
    """
    flags = {name: f"--{name.replace('_', '-')}" for name in options}
    return tuple(
        _CHOSEN_BY_USER.get(name, flags[name] if value is True else f"{flags[name]} {value}")
        for name, value in options.items()
    )
