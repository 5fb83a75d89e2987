"""The model folder: its contents, its description, and the import of weights trained with other code.

Its names are imported on first use, so that listing the shipped models does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medcyclegan.lazy import imported_on_use

if TYPE_CHECKING:
    from medcyclegan.model.bundle import Direction, DomainModel, ModelBundle, direction_to, target_scaling
    from medcyclegan.model.domains import choose_target, unfit_reason
    from medcyclegan.model.training_set import describe_training_set

#: Public name -> the module that defines it.
_HOME = {
    "Direction": "bundle",
    "DomainModel": "bundle",
    "ModelBundle": "bundle",
    "choose_target": "domains",
    "describe_training_set": "training_set",
    "direction_to": "bundle",
    "target_scaling": "bundle",
    "unfit_reason": "domains",
}

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

__getattr__ = imported_on_use(__name__, _HOME)
