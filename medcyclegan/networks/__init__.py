"""Generators and discriminators, and functions that build them from the configuration."""

from medcyclegan.networks.cyclegan import CycleGAN, build_cyclegan, build_discriminator
from medcyclegan.networks.discriminators import ClassifierDiscriminator, PatchDiscriminator
from medcyclegan.networks.error_head import ErrorHead
from medcyclegan.networks.generators import (
    build_generator,
    canvas_multiple,
    generator_class,
    levels_of_weights,
    weight_levels,
    weight_settings,
)
from medcyclegan.networks.normalization import InstanceNorm
from medcyclegan.networks.resnet_generator import ResnetGenerator, resnet_blocks
from medcyclegan.networks.subpixel_unet_generator import SubpixelUnetGenerator, subpixel_levels
from medcyclegan.networks.unet_generator import UnetGenerator, unet_levels

__all__ = [
    "ClassifierDiscriminator",
    "CycleGAN",
    "ErrorHead",
    "InstanceNorm",
    "PatchDiscriminator",
    "ResnetGenerator",
    "SubpixelUnetGenerator",
    "UnetGenerator",
    "build_cyclegan",
    "build_discriminator",
    "build_generator",
    "canvas_multiple",
    "generator_class",
    "levels_of_weights",
    "resnet_blocks",
    "subpixel_levels",
    "unet_levels",
    "weight_levels",
    "weight_settings",
]
