"""Training: the update step, its losses, and the run that repeats it."""

from medcyclegan.training.run.shipped_start import default_start
from medcyclegan.training.train import train
from medcyclegan.training.update.step import CycleGANStep, build_step

__all__ = ["CycleGANStep", "build_step", "default_start", "train"]
