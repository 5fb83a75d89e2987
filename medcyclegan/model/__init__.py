"""The model folder: its contents, its description, and the import of weights trained with other code.

Names are imported on first use, so that finding a model by its name does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medcyclegan.model.bundle import Direction, DomainModel, ModelBundle, target_scaling
    from medcyclegan.model.training_set import describe_training_set

__all__ = ["Direction", "DomainModel", "ModelBundle", "describe_training_set", "target_scaling"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "training_set" if name == "describe_training_set" else "bundle"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
