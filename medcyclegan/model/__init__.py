"""The model folder: its contents, its description, and the import of weights trained with other code."""

from medcyclegan.model.bundle import Direction, DomainModel, ModelBundle, target_scaling
from medcyclegan.model.domains import choose_target, unfit_reason
from medcyclegan.model.training_set import describe_training_set

__all__ = [
    "Direction",
    "DomainModel",
    "ModelBundle",
    "choose_target",
    "describe_training_set",
    "target_scaling",
    "unfit_reason",
]
