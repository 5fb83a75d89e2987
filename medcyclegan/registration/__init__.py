"""Compare, resample and register the grids of volumes."""

from medcyclegan.registration.grids import apart_mm, mean_on_grid, on_grid, same_grid
from medcyclegan.registration.rigid import Motion, register_rigid

__all__ = ["Motion", "apart_mm", "mean_on_grid", "on_grid", "register_rigid", "same_grid"]
