"""What a scanner does to an image: blur, receiver bias, gamma, noise; in CT, noise and streaks."""

from __future__ import annotations

import dataclasses
import math

import torch

from medcyclegan.synthesis.deform import Grid
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.fields import SmoothField

__all__ = ["Acquisition", "blurred", "draw_acquisition", "scan_ct", "scan_mr"]

#: The width over which a coil's sensitivity falls off.
_FADE_MM = 22.0
#: The values that a CT scanner stores, in HU.
_LOWEST_HU, _HIGHEST_HU = -1024.0, 3071.0


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """How one contrast's image differs from the tissues' values.

    ``blur_mm``: the standard deviation of the point spread, besides the voxels'. ``noise``: of MR, the noise of each
    channel relative to white matter; of CT, in HU. ``noise_blur``: its correlation, as a standard deviation in voxels.
    ``bias``: standard deviation of the logarithm of the receiver's sensitivity, ``bias_knots_mm`` its scale.
    ``surface``: how much the sensitivity grows towards the surface, as of coil arrays (logarithm at 90 mm from the
    centre). ``fade_mm``: how far from the brain's centre, towards the face and neck, the sensitivity begins to fall to
    nothing, as outside a head coil; None: it does not. ``gamma``: exponent of the intensities. ``floor``: what is
    subtracted, in standard deviations of the noise, as scanners do to make the background black. ``gain``: of white
    matter in the file's units. ``seed`` draws the bias and the noise.
    """

    blur_mm: float
    noise: float
    noise_blur: float
    bias: float
    bias_knots_mm: float
    surface: float
    fade_mm: float | None
    gamma: float
    floor: float
    gain: float
    seed: int


def draw_acquisition(draws: Draws, name: str, seed: int) -> Acquisition:
    """Return how the contrast ``name`` is scanned."""
    if name == "ct":
        noise, noise_blur = draws.log_uniform(2, 20), draws.uniform(0.3, 1.0)
        return Acquisition(draws.uniform(0.3, 0.7), noise, noise_blur, 0.0, 100.0, 0.0, None, 1.0, 0.0, 1.0, seed)
    return Acquisition(
        blur_mm=draws.uniform(0.3, 0.75),
        noise=1 / draws.log_uniform(18, 110),
        noise_blur=draws.choice([(0.4, 0.0), (0.6, draws.uniform(0.3, 0.8))]),
        bias=draws.uniform(0.0, 0.16),
        bias_knots_mm=draws.uniform(55, 110),
        surface=draws.choice([(0.3, 0.0), (0.7, draws.uniform(0.0, 1.2))]),
        fade_mm=draws.choice([(0.5, None), (0.5, draws.uniform(75, 125))]),
        gamma=draws.factor(0.17),
        floor=draws.choice([(0.6, 0.0), (0.4, draws.uniform(1.0, 3.0))]),
        gain=draws.log_uniform(150, 2500),
        seed=seed,
    )


def blurred(image: torch.Tensor, deviations: tuple[float, ...]) -> torch.Tensor:
    """Return ``(X, Y, Z)`` after a Gaussian of these standard deviations in voxels; the border's values continue."""
    for axis, deviation in enumerate(deviations):
        radius = min(math.ceil(2.5 * deviation), image.shape[axis] - 1)
        if radius < 1 or deviation < 0.15:
            continue
        weights = [math.exp(-0.5 * (n / deviation) ** 2) for n in range(radius + 1)]
        total = weights[0] + 2 * sum(weights[1:])
        ends = [image.narrow(axis, 0, 1), image.narrow(axis, image.shape[axis] - 1, 1)]
        sizes = [radius if n == axis else -1 for n in range(3)]
        wide = torch.cat([ends[0].expand(sizes), image, ends[1].expand(sizes)], dim=axis)
        length = image.shape[axis]
        image = image * (weights[0] / total)
        for n in range(1, radius + 1):
            both = wide.narrow(axis, radius - n, length) + wide.narrow(axis, radius + n, length)
            image.add_(both, alpha=weights[n] / total)
    return image


def scan_mr(image: torch.Tensor, grid: Grid, acquisition: Acquisition, white: float) -> torch.Tensor:
    """Return the magnitude image ``(X, Y, Z)`` of tissue signals whose white matter is ``white``.

    Rician noise (Gudbjartsson and Patz 1995, Magn Reson Med 34:910); arbitrary units, white matter about
    ``acquisition.gain`` at the brain's centre.
    """
    scaled = image.clamp(min=0.0) / white
    if acquisition.gamma != 1.0:
        scaled = scaled**acquisition.gamma
    scaled = scaled * _sensitivity(grid, acquisition, image.device)
    real, imaginary = (_noise(grid, acquisition, name, image.device) for name in ("real", "imaginary"))
    magnitude = torch.hypot(scaled + real * acquisition.noise, imaginary * acquisition.noise)
    if acquisition.floor:
        magnitude = (magnitude - acquisition.floor * acquisition.noise).clamp(min=0.0)
    return magnitude * acquisition.gain


def scan_ct(image: torch.Tensor, grid: Grid, acquisition: Acquisition) -> torch.Tensor:
    """Return the CT image ``(X, Y, Z)`` in HU: Gaussian noise of the reconstruction, and a scanner's range."""
    noisy = image + _noise(grid, acquisition, "ct", image.device) * acquisition.noise
    return noisy.clamp(_LOWEST_HU, _HIGHEST_HU)


def _sensitivity(grid: Grid, acquisition: Acquisition, device: torch.device) -> torch.Tensor:
    axes = grid.axes_mm(device)
    field = SmoothField(Draws(acquisition.seed, "bias"), (acquisition.bias_knots_mm,) * 3)
    logarithm = field.on_grid(axes)[0] * acquisition.bias
    if acquisition.surface:
        for axis in range(3):
            squared = acquisition.surface * (axes[axis] / 90.0) ** 2
            logarithm += squared.clamp(max=2 * acquisition.surface).view([-1 if n == axis else 1 for n in range(3)])
    if acquisition.fade_mm is not None:
        # Towards the face and the neck, half and half.
        towards = (axes[1][None, :, None] - axes[2][None, None, :]) * math.sqrt(0.5)
        logarithm -= ((towards - acquisition.fade_mm).clamp(min=0.0) / _FADE_MM) ** 2
    return logarithm.exp_()


def _noise(grid: Grid, acquisition: Acquisition, name: str, device: torch.device) -> torch.Tensor:
    """Return noise of unit variance: drawn on the device, for it is as large as the image."""
    seed = Draws(acquisition.seed, "noise", name).integer(0, 2**31 - 1)
    generator = torch.Generator(device).manual_seed(seed)
    noise = torch.randn(grid.shape, generator=generator, device=device)
    deviation = acquisition.noise_blur
    if deviation < 0.15:
        return noise
    noise = blurred(noise, (deviation, deviation, 0.0))
    return noise / noise.std()
