"""The tissue class of each voxel, by the value of the output: the classes for which intervals are calibrated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medcyclegan.inference.translate import Translation
from medcyclegan.intensity import IntensityScaling
from medcyclegan.metrics import TISSUES_HU, head_mask
from medcyclegan.model.calibration import OUTSIDE
from medcyclegan.volume import Volume

__all__ = ["class_levels", "class_names", "classes_of", "patient_mask"]

#: The soft tissue of a CT is divided here, into fat and fluid, and tissue, in HU.
_SOFT_HU = 20.0
_CT_NAMES = ("air", "fat and fluid", "soft tissue", "bone")
_OTHER_NAMES = ("dark", "medium", "bright")


def class_names(scaling: IntensityScaling) -> tuple[str, ...]:
    """Return the names of the classes of outputs with this scaling; the first one is outside the patient."""
    return (OUTSIDE, *(_CT_NAMES if scaling.unit == "HU" else _OTHER_NAMES))


def class_levels(scaling: IntensityScaling, samples: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    """Return the boundaries of the classes inside the patient, in the scaled range [-1, 1].

    CT: -200, 20 and 200 HU. Others: the values that divide ``samples``, scaled outputs inside patients, into thirds.
    """
    if scaling.unit == "HU":
        lower, upper = TISSUES_HU["soft_tissue"]
        levels = scaling.normalize(np.array([lower, _SOFT_HU, upper], np.float32))
    else:
        levels = np.mean([np.quantile(sample, (1 / 3, 2 / 3)) for sample in samples], axis=0)
    return tuple(float(level) for level in levels)


def classes_of(done: Translation, inside: NDArray[np.bool_], levels: Sequence[float]) -> NDArray[np.uint8]:
    """Return the number of each voxel's class, ``(I, J, K)``; 0 is outside the patient (``inside``)."""
    scaled = done.direction.target.scaling.normalize(done.volume.array)
    classes = np.digitize(scaled, np.array(levels, np.float32)).astype(np.uint8) + np.uint8(1)
    return np.where(inside, classes, np.uint8(0))


def patient_mask(volume: Volume, done: Translation) -> NDArray[np.bool_]:
    """Return the mask of the patient in the input ``volume``, ``(I, J, K)``."""
    return head_mask(volume.replace(modality="CT" if done.scaling.kind == "window" else volume.modality))
