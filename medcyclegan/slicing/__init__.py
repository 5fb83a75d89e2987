"""From volumes to axial slices: the public MONAI transforms, the plane and its inverse, the slice store.

The names are imported on first use: the plane, which translation needs, does not load MONAI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medcyclegan.slicing.plane import PlaneFit, Preparation
    from medcyclegan.slicing.transforms import AxialOrientationd, AxialSlicesd, PlaneFitd, UnitRanged
    from medcyclegan.slicing.volumes import SlicingResult, slice_volumes

_HOME = {
    "AxialOrientationd": "transforms",
    "AxialSlicesd": "transforms",
    "PlaneFit": "plane",
    "PlaneFitd": "transforms",
    "Preparation": "plane",
    "SlicingResult": "volumes",
    "UnitRanged": "transforms",
    "slice_volumes": "volumes",
}

__all__ = [
    "AxialOrientationd",
    "AxialSlicesd",
    "PlaneFit",
    "PlaneFitd",
    "Preparation",
    "SlicingResult",
    "UnitRanged",
    "slice_volumes",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
