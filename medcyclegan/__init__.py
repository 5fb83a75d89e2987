"""Translate whole medical volumes from one contrast to another with a CycleGAN.

Reads DICOM and NIfTI and writes NIfTI and DICOM, on exactly the same grid and at the same position as the input.
Research software, not a medical device: every output is marked as synthetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medcyclegan.lazy import imported_on_use

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
    "ModelBundle": "model",
    "Volume": "volume",
    "evaluate_volumes": "evaluation",
    "read_volume": "io",
    "slice_volumes": "slicing",
    "train": "training",
    "translate_volume": "inference",
    "write_volume": "io",
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


__getattr__ = imported_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
