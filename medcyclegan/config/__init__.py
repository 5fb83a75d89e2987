"""The configuration: its schema, and reading it from files.

A YAML file sets some of the values; all others keep their defaults. An unknown key is an error with a
suggestion. ``configs/`` holds the shipped files.
Names are imported on first use, so that a translation does not import what reads files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medcyclegan.lazy import imported_on_use

if TYPE_CHECKING:
    from medcyclegan.config.load import (
        load_config,
        load_serving,
        parse_config,
        shipped_configs,
        to_yaml,
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

_HOME = {
    "Config": "schema",
    "Discriminator": "schema",
    "Domain": "schema",
    "Generator": "schema",
    "Limits": "serving",
    "Losses": "schema",
    "Networks": "schema",
    "Pretraining": "schema",
    "Rule": "serving",
    "Scaling": "schema",
    "Serving": "serving",
    "Slicing": "schema",
    "Training": "schema",
    "Validation": "schema",
    "Waiting": "serving",
    "load_config": "load",
    "load_serving": "load",
    "parse_config": "load",
    "shipped_configs": "load",
    "to_yaml": "load",
}

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
]


__getattr__ = imported_on_use(__name__, _HOME)
