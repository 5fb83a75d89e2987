"""Recognize volumes whose values were computed by a program, by a mark in the header or by the JSON sidecar.

A user who trains on translations, or translates one, must know it: a network's output would be taken as data.
"""

from __future__ import annotations

from pathlib import Path

from medcyclegan.errors import IntensityError
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.sidecar import is_made_by_us

__all__ = ["SYNTHETIC_MARK", "check_synthetic", "why_synthetic"]

#: Written into NIfTI's descrip, PNG's and JPEG's comment, and the Comment of MetaImage and NRRD.
SYNTHETIC_MARK = "medcyclegan synthetic"


def why_synthetic(path: Path, field: str = "") -> str:
    """Return what marks the volume at ``path`` as synthetic, such as ``its descrip``; empty if nothing does.

    ``field`` is the header field with the mark, if there is one; otherwise the JSON sidecar is read.
    """
    if field:
        return f"its {field}"
    # without the file name, which may be a patient's
    return "its JSON sidecar" if is_made_by_us(path) else ""


def check_synthetic(why: str, options: ReadOptions, name: str = "") -> bool:
    """Return whether ``why`` of :func:`why_synthetic` is set; refuse a synthetic volume unless ``options`` allow it.

    Raises :class:`~medcyclegan.errors.IntensityError`.
    """
    if why and not options.allow_synthetic:
        place = f"{name}: " if name else ""
        raise IntensityError(
            f"{place}{why} says that it is synthetic, not acquired",
            remedy="name the acquired volume, or pass --allow-synthetic",
            options={"allow_synthetic": True},
        )
    return bool(why)
