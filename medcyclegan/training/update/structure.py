"""Structure losses: terms that tie the edges of a fake to those of its input, independently of contrast.

With cycle consistency alone, a generator may displace anatomy, because the other one can undo the displacement.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from monai.losses.image_dissimilarity import GlobalMutualInformationLoss, LocalNormalizedCrossCorrelationLoss

__all__ = ["Structure", "gradient_field_loss", "local_correlation_loss", "mutual_information_loss", "structure_loss"]

Structure = Literal["gradient", "lncc", "mutual_information"]

#: Side of the windows of the local correlation, in pixels: that of Balakrishnan et al. 2019 (arXiv 1809.05231).
_WINDOW = 9
#: Contrast, as a fraction of half the scaled range, below which a window counts as flat.
_FLAT = 0.01
#: The smallest edge parameter, per pixel in units of the scaled range, for images without edges.
_LEAST_EDGE = 1e-3


def structure_loss(fake: torch.Tensor, real: torch.Tensor, form: Structure) -> torch.Tensor:
    """Return how much the structure of ``fake`` differs from that of its input ``real``, in float32 at least.

    Both ``(N, C, H, W)`` in [-1, 1]. All forms are invariant to inverted contrast.
    """
    loss = {
        "gradient": gradient_field_loss,
        "lncc": local_correlation_loss,
        "mutual_information": mutual_information_loss,
    }[form]
    wide = torch.promote_types(fake.dtype, torch.float32)
    with torch.autocast(fake.device.type, enabled=False):
        return loss(fake.to(wide), real.to(wide))


def gradient_field_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the distance of normalized gradient fields, 0 to 1, a mean over all pixels.

    Haber and Modersitzki 2006 (MICCAI, LNCS 4191, section 3): 1 - <n(fake), n(real)>^2, with the
    gradients divided by sqrt(|gradient|^2 + e^2) and e an image's mean gradient. As in later work
    (König and Rühaak 2014, ISBI) e is in the numerator too, so that an edge in only one image is penalized
    and two flat regions are not. Here the magnitude is used, since the sign of an edge depends on contrast.
    """
    (down_f, right_f), (down_r, right_r) = _gradient(fake), _gradient(real)
    square_f, square_r = down_f**2 + right_f**2, down_r**2 + right_r**2
    edge_f, edge_r = _edge_parameter(square_f), _edge_parameter(square_r)
    aligned = (down_f * down_r + right_f * right_r).abs() + edge_f * edge_r
    return (1.0 - aligned**2 / ((square_f + edge_f**2) * (square_r + edge_r**2))).mean()


def local_correlation_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return minus the squared correlation in windows of 9 x 9 pixels, -1 to 0, a mean over all windows.

    This is MONAI's loss with images shifted so that air is 0, where sums are exact, and with windows of less than 1 %
    contrast counted as flat. Without these changes, rounding in flat windows causes gradients.
    """
    return _local_correlation(fake.device)(fake + 1.0, real + 1.0)


def mutual_information_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return minus the mutual information of each image pair in nats, by MONAI's Parzen windows over [-1, 1]."""
    return _mutual_information(fake.device)((fake + 1.0) / 2.0, (real + 1.0) / 2.0)


def _gradient(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return forward differences along rows and columns, ``(N, C, H - 1, W - 1)``; they detect a checkerboard."""
    corner = image[..., :-1, :-1]
    return image[..., 1:, :-1] - corner, image[..., :-1, 1:] - corner


def _edge_parameter(squared_gradient: torch.Tensor) -> torch.Tensor:
    """Return each channel's mean gradient magnitude as a constant; gradients well below it are noise."""
    mean = squared_gradient.detach().sqrt().mean(dim=(-2, -1), keepdim=True)
    return mean.clamp_min(_LEAST_EDGE)


@functools.cache
def _local_correlation(device: torch.device) -> LocalNormalizedCrossCorrelationLoss:
    loss = LocalNormalizedCrossCorrelationLoss(spatial_dims=2, kernel_size=_WINDOW)
    # A constant on the host would make the device wait and could not be captured as a CUDA graph.
    loss.smooth_dr = torch.tensor((_WINDOW * _FLAT) ** 2, device=device)
    return loss.to(device)


@functools.cache
def _mutual_information(device: torch.device) -> GlobalMutualInformationLoss:
    return GlobalMutualInformationLoss().to(device)
