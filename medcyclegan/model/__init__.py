"""The model folder: its contents, its description, and the import of weights trained with other code.

Its names are imported on first use, so that listing the shipped models does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medcyclegan.model.bundle import Direction, DomainModel, ModelBundle, direction_to, target_scaling
    from medcyclegan.model.domains import choose_target, unfit_reason
    from medcyclegan.model.training_set import describe_training_set

__all__ = [
    "Direction",
    "DomainModel",
    "ModelBundle",
    "choose_target",
    "describe_training_set",
    "direction_to",
    "target_scaling",
    "unfit_reason",
]
#: The modules of the names that are not in ``bundle``.
_ELSEWHERE = {"describe_training_set": "training_set", "choose_target": "domains", "unfit_reason": "domains"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ELSEWHERE.get(name, 'bundle')}"), name)
