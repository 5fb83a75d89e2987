"""Discriminators: a PatchGAN, and a classifier of whole images."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from medcyclegan.errors import ConfigError
from medcyclegan.networks.normalization import InstanceNorm

__all__ = ["ClassifierDiscriminator", "PatchDiscriminator"]


class PatchDiscriminator(nn.Module):
    """The PatchGAN C64-C128-C256-C512 (Isola et al. 2017): a map of logits, one per patch.

    MONAI's network with instance normalization and LeakyReLU 0.2. With 3 ``layers`` each logit has a receptive
    field of 70 x 70 pixels, and 256 x 256 pixels give 30 x 30 logits. ``size`` is the smallest slice that it
    must read. Raises :class:`~medcyclegan.errors.ConfigError` if no output pixel would be left at that size.
    """

    def __init__(self, size: int, filters: int = 64, layers: int = 3) -> None:
        super().__init__()
        _check_patch_layers(size, layers)
        # Imported here so that translation, which needs no discriminator, does not import MONAI's networks.
        from monai.networks.nets.patchgan_discriminator import PatchDiscriminator as MonaiPatchDiscriminator

        self.layers = MonaiPatchDiscriminator(
            spatial_dims=2,
            channels=filters,
            in_channels=1,
            out_channels=1,
            num_layers_d=layers,
            norm="INSTANCE",
        )
        _exchange_norms(self.layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(N, 1, h, w)`` of ``image`` ``(N, 1, H, W)``: positive means real."""
        for layer in self.layers.children():
            image = layer(image)
        return image


class ClassifierDiscriminator(nn.Module):
    """A CNN classifier with one logit per image: ``(N, 1, H, W)`` to ``(N, 1)``.

    Strided 4 x 4 convolutions reduce ``size`` to at most 8 x 8 pixels (5 layers at 256). The number of channels
    starts at ``filters`` (64) and doubles up to eight times that. Each has instance normalization, except the
    first, and LeakyReLU 0.2. Then the mean over the pixels and one linear layer, so larger images are accepted too.
    """

    def __init__(self, size: int, filters: int = 64) -> None:
        super().__init__()
        depth = max(2, (max(size, 8) - 1).bit_length() - 3)
        widths = [filters * min(8, 2**level) for level in range(depth)]
        layers: list[nn.Module] = [
            nn.Conv2d(1, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for narrow, wide in itertools.pairwise(widths):
            layers.append(nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False))
            layers += [InstanceNorm(wide), nn.LeakyReLU(0.2, inplace=True)]
        self.features = nn.Sequential(*layers)
        self.logit = nn.Linear(widths[-1], 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(N, 1)`` of ``image`` ``(N, 1, H, W)``: positive means real."""
        return self.logit(self.features(image).mean(dim=(2, 3)))


def _check_patch_layers(size: int, layers: int) -> None:
    """Reject more strided layers than ``size`` pixels allow: the last normalization needs two pixels."""
    left = size // 2**layers - 1
    if left < 2:
        raise ConfigError(
            f"networks.discriminator.layers = {layers} leaves nothing of slices of {size} pixels: "
            f"use fewer layers, or slices of {3 * 2**layers} pixels or more"
        )


def _exchange_norms(network: nn.Module) -> None:
    """Replace torch's instance normalization, which is slower, by :class:`InstanceNorm`."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.InstanceNorm2d):
                setattr(parent, name, InstanceNorm(child.num_features, child.eps))
