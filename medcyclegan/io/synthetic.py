"""What says of a volume that its values were made by a program: a mark in its header, or the file beside it.

Whoever trains on translations, or translates one, must know it: what a network invented would be taken for data.
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
    """Return what says that the volume at ``path`` is synthetic, such as ``its descrip``; empty where nothing does.

    ``field`` names the part of its header that says so, if there is one; else the JSON file beside it is read.
    """
    if field:
        return f"its {field}"
    # without its name, which may be a patient's
    return "the JSON file beside it" if is_made_by_us(path) else ""


def check_synthetic(why: str, options: ReadOptions, name: str = "") -> bool:
    """Return whether a volume is synthetic, which :func:`why_synthetic` tells; refuse it unless ``options`` allow it.

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
