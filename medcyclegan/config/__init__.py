"""The configuration: its schema, and reading it from files.

A YAML file sets some of the values; all others keep their defaults. An unknown key is an error with a
suggestion. ``configs/`` holds the shipped files.
"""

from medcyclegan.config.load import (
    load_config,
    load_serving,
    parse_config,
    shipped_configs,
    to_yaml,
    without_removed,
)
from medcyclegan.config.schema import (
    Config,
    Discriminator,
    Domain,
    Generator,
    Losses,
    Networks,
    Pretraining,
    Scaling,
    Slicing,
    Training,
    Validation,
)
from medcyclegan.config.serving import Limits, Rule, Serving, Waiting

__all__ = [
    "Config",
    "Discriminator",
    "Domain",
    "Generator",
    "Limits",
    "Losses",
    "Networks",
    "Pretraining",
    "Rule",
    "Scaling",
    "Serving",
    "Slicing",
    "Training",
    "Validation",
    "Waiting",
    "load_config",
    "load_serving",
    "parse_config",
    "shipped_configs",
    "to_yaml",
    "without_removed",
]
