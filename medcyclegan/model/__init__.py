"""The model folder: its contents, its description, and the import of weights trained with other code."""

from medcyclegan.model.bundle import Direction, DomainModel, ModelBundle, target_scaling
from medcyclegan.model.training_set import describe_training_set

__all__ = ["Direction", "DomainModel", "ModelBundle", "describe_training_set", "target_scaling"]
