"""Training: the step, what it minimises, and the run around it."""

from medcyclegan.training.step import CycleGANStep, build_step
from medcyclegan.training.train import train

__all__ = ["CycleGANStep", "build_step", "train"]
