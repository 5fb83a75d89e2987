"""The model folder: what it holds, how it is described, and models made from other programs' weights."""

from medcyclegan.model.bundle import DomainModel, ModelBundle, target_scaling
from medcyclegan.model.training_set import describe_training_set

__all__ = ["DomainModel", "ModelBundle", "describe_training_set", "target_scaling"]
