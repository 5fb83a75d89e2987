"""Translate whole medical volumes from one contrast to another with a CycleGAN.

Reads DICOM and NIfTI and writes NIfTI and DICOM, on exactly the same grid and at the same position as the input.
Research software, not a medical device: every output is marked as synthetic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medcyclegan.evaluation import evaluate_volumes
    from medcyclegan.inference import translate_volume
    from medcyclegan.io import read_volume, write_volume
    from medcyclegan.model import ModelBundle
    from medcyclegan.slicing import slice_volumes
    from medcyclegan.training.train import train
    from medcyclegan.volume import Volume

__version__ = "0.1.0"

#: Public name -> the module that defines it; imported on first use, so that ``import medcyclegan``
#: and ``medcyclegan --help`` load neither torch nor MONAI.
_HOME = {
    "ModelBundle": "medcyclegan.model",
    "Volume": "medcyclegan.volume",
    "evaluate_volumes": "medcyclegan.evaluation",
    "read_volume": "medcyclegan.io",
    "slice_volumes": "medcyclegan.slicing",
    "train": "medcyclegan.training",
    "translate_volume": "medcyclegan.inference",
    "write_volume": "medcyclegan.io",
}

__all__ = [
    "ModelBundle",
    "Volume",
    "evaluate_volumes",
    "read_volume",
    "slice_volumes",
    "train",
    "translate_volume",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
