"""Cut volumes into axial slices: the public MONAI transforms and the slice store.

Names are imported on first use, so that importing this package does not load MONAI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medcyclegan.lazy import imported_on_use

if TYPE_CHECKING:
    from medcyclegan.slicing.folds import save_fold
    from medcyclegan.slicing.held_out import HeldOutVolume, find_held_out
    from medcyclegan.slicing.template import save_split_file
    from medcyclegan.slicing.transforms import AxialOrientationd, AxialSlicesd, PlaneFitd, ScaleToMinusOneOned
    from medcyclegan.slicing.volumes import SlicingResult, slice_volumes

_HOME = {
    "AxialOrientationd": "transforms",
    "AxialSlicesd": "transforms",
    "HeldOutVolume": "held_out",
    "PlaneFitd": "transforms",
    "SlicingResult": "volumes",
    "ScaleToMinusOneOned": "transforms",
    "find_held_out": "held_out",
    "save_fold": "folds",
    "save_split_file": "template",
    "slice_volumes": "volumes",
}

__all__ = [
    "AxialOrientationd",
    "AxialSlicesd",
    "HeldOutVolume",
    "PlaneFitd",
    "SlicingResult",
    "ScaleToMinusOneOned",
    "find_held_out",
    "save_fold",
    "save_split_file",
    "slice_volumes",
]


__getattr__ = imported_on_use(__name__, _HOME)
