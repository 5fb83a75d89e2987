"""Training: the step, what it minimises, and the run around it."""

from medcyclegan.training.train import train
from medcyclegan.training.update.step import CycleGANStep, build_step

__all__ = ["CycleGANStep", "build_step", "train"]
