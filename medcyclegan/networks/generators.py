"""Build generators from the configuration. Each class defines what depends on its architecture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, assert_never

from torch import nn

from medcyclegan.config import Generator
from medcyclegan.networks.resnet_generator import ResnetGenerator
from medcyclegan.networks.subpixel_unet_generator import SubpixelUnetGenerator
from medcyclegan.networks.unet_generator import UnetGenerator

__all__ = [
    "build_generator",
    "canvas_multiple",
    "generator_class",
    "levels_of_weights",
    "weight_levels",
    "weight_settings",
]


def generator_class(config: Generator) -> type[ResnetGenerator | UnetGenerator | SubpixelUnetGenerator]:
    """Return the class of a generator; an architecture without a class here raises AssertionError."""
    if config.kind == "unet":
        return UnetGenerator
    if config.kind == "subpixel_unet":
        return SubpixelUnetGenerator
    if config.kind == "resnet":
        return ResnetGenerator
    assert_never(config.kind)


def build_generator(config: Generator, size: int) -> nn.Module:
    """Build a generator for slices of ``size`` x ``size`` pixels: ``(N, 1, H, W)`` to the same shape.

    Larger canvases are accepted: multiples of 4 for ``resnet``, of 2**levels for ``unet`` (256) and ``subpixel_unet``
    (32). Raises :class:`~medcyclegan.errors.ConfigError` if ``size`` does not fit the network.
    """
    return generator_class(config).from_config(config, size)


def canvas_multiple(config: Generator, size: int) -> int:
    """Return the number of which rows and columns must be multiples for a generator for ``size`` pixels."""
    return generator_class(config).canvas_multiple(size)


def weight_settings(config: Generator, size: int) -> dict[str, Any]:
    """Return the settings that determine the names and shapes of a generator's weights, by their names."""
    shared = {name: getattr(config, name) for name in ("kind", "filters", "upsampling")}
    return shared | generator_class(config).own_settings(config, size)


def weight_levels(config: Generator, size: int) -> int | None:
    """Return the number of levels that follows from ``size``; None if the weights fit slices of any size."""
    return generator_class(config).weight_levels(size)


def levels_of_weights(config: Generator, names: Iterable[str]) -> int | None:
    """Return the number of levels of weights with these ``names``; None if they fit slices of any size."""
    return generator_class(config).levels_of_weights(names)
