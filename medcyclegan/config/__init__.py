"""The configuration: its schema and how files become one.

A YAML file holds some of the values; the rest keep their defaults. Unknown keys are errors with a
suggestion. ``configs/`` holds the shipped files.
"""

from medcyclegan.config.load import load_config, parse_config, shipped_configs, to_yaml
from medcyclegan.config.schema import (
    Config,
    Discriminator,
    Domain,
    Generator,
    Losses,
    Networks,
    Scaling,
    Slicing,
    Training,
    Validation,
)

__all__ = [
    "Config",
    "Discriminator",
    "Domain",
    "Generator",
    "Losses",
    "Networks",
    "Scaling",
    "Slicing",
    "Training",
    "Validation",
    "load_config",
    "parse_config",
    "shipped_configs",
    "to_yaml",
]
