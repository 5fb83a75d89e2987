"""The effects of a scanner on an image: blur, receiver bias, gamma and noise in MR; blur and noise in CT."""

from __future__ import annotations

import dataclasses
import math

import torch

from medcyclegan.synthesis.deform import Grid
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.fields import SmoothField

__all__ = ["DARKEST_FLUID", "Acquisition", "blurred", "draw_acquisition", "keep_above_noise", "scan_ct", "scan_mr"]

#: The darkest fluid in T1 images, relative to white matter, and its smallest distance from the mean background, in
#: standard deviations of the noise: fluid that is as black as air cannot be distinguished from it.
DARKEST_FLUID, _FLUID_ABOVE_AIR = 0.08, 3.0
#: The mean of Rician noise without a signal, in standard deviations of each channel.
_RAYLEIGH_MEAN = math.sqrt(math.pi / 2)

#: The distance over which a coil's sensitivity falls off.
_FADE_MM = 22.0
#: The values that a CT scanner stores, in HU.
_LOWEST_HU, _HIGHEST_HU = -1024.0, 3071.0


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """The scanner's effects on the image of one contrast.

    ``blur_mm``: the standard deviation of the point spread function, in addition to averaging over the voxel.
    ``noise``: in MR, the standard deviation in each channel, relative to white matter; in CT, in HU. ``noise_blur``:
    the correlation of the noise, as a standard deviation in voxels. ``bias``: the standard deviation of the logarithm
    of the receiver's sensitivity, ``bias_knots_mm`` its length scale. ``surface``: the increase of the sensitivity
    towards the surface, as with coil arrays (its logarithm at 90 mm from the center). ``fade_mm``: the distance from
    the brain's center, towards the face and neck, at which the sensitivity begins to fall to zero, as outside a head
    coil; None if it does not. ``gamma``: the exponent of the intensities. ``floor``: an offset that is subtracted, in
    standard deviations of the noise, as scanners do to make the background black. ``gain``: the value of white matter
    in the file's units. ``seed``: determines the bias and the noise. ``subtracted``: an offset that preprocessing
    subtracts after all of this, relative to white matter; what is darker becomes 0.
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
    subtracted: float = 0.0


def draw_acquisition(draws: Draws, name: str, seed: int, corrected: float = 0.2) -> Acquisition:
    """Draw the scanner's effects on the contrast ``name``.

    ``corrected``: the fraction of MR images whose sensitivity was divided out by the scanner or in preprocessing; the
    remaining bias is small.
    """
    if name == "ct":
        noise, noise_blur = draws.log_uniform(2, 20), draws.uniform(0.3, 1.0)
        return Acquisition(draws.uniform(0.3, 0.7), noise, noise_blur, 0.0, 100.0, 0.0, None, 1.0, 0.0, 1.0, seed)
    left = draws.choice([(corrected, 0.15), (1.0 - corrected, 1.0)])
    return Acquisition(
        blur_mm=draws.uniform(0.3, 0.75),
        noise=1 / draws.log_uniform(18, 110),
        noise_blur=draws.choice([(0.4, 0.0), (0.6, draws.uniform(0.3, 0.8))]),
        bias=left * draws.uniform(0.0, 0.16),
        bias_knots_mm=draws.uniform(55, 110),
        surface=left * draws.choice([(0.25, 0.0), (0.75, draws.uniform(0.0, 1.2))]),
        fade_mm=draws.choice([(0.5, None), (0.5, draws.uniform(75, 125))]),
        gamma=draws.factor(0.17),
        floor=draws.choice([(0.55, 0.0), (0.45, draws.uniform(1.0, 3.5))]),
        gain=draws.log_uniform(150, 2500),
        seed=seed,
    )


def keep_above_noise(acquisition: Acquisition, signal: float) -> Acquisition:
    """Return the acquisition with gamma and noise low enough that a tissue of this signal differs from air.

    ``signal``: relative to white matter, 0 to 1, before gamma.
    """
    gamma = min(acquisition.gamma, max(1.0, math.log(DARKEST_FLUID) / math.log(signal)))
    above = _FLUID_ABOVE_AIR + max(acquisition.floor, _RAYLEIGH_MEAN)
    return dataclasses.replace(acquisition, gamma=gamma, noise=min(acquisition.noise, signal**gamma / above))


def blurred(image: torch.Tensor, deviations: tuple[float, ...]) -> torch.Tensor:
    """Convolve ``(X, Y, Z)`` with a Gaussian of these standard deviations in voxels; border values are repeated."""
    for axis, deviation in enumerate(deviations):
        length = image.shape[axis]
        radius = min(math.ceil(2.5 * deviation), length - 1)
        if radius < 1 or deviation < 0.15:
            continue
        weights = _weights(deviation, radius)
        first, last = image.narrow(axis, 0, 1), image.narrow(axis, length - 1, 1)
        wide = image * weights[0]
        for n in range(1, radius + 1):
            inside = length - n
            wide.narrow(axis, n, inside).add_(image.narrow(axis, 0, inside), alpha=weights[n])
            wide.narrow(axis, 0, inside).add_(image.narrow(axis, n, inside), alpha=weights[n])
            wide.narrow(axis, 0, n).add_(first, alpha=weights[n])
            wide.narrow(axis, inside, n).add_(last, alpha=weights[n])
        image = wide
    return image


def _weights(deviation: float, radius: int) -> list[float]:
    """Return a Gaussian's weights at 0, 1, ... ``radius`` voxels; over both sides they sum to 1."""
    weights = [math.exp(-0.5 * (n / deviation) ** 2) for n in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    return [weight / total for weight in weights]


def scan_mr(image: torch.Tensor, grid: Grid, acquisition: Acquisition, white: float) -> torch.Tensor:
    """Return the magnitude image ``(X, Y, Z)`` of tissue signals in which white matter has the value ``white``.

    The noise is Rician (Gudbjartsson and Patz 1995, Magn Reson Med 34:910). Units are arbitrary; white matter is about
    ``acquisition.gain`` at the brain's center.
    """
    scaled = image.clamp(min=0.0) / white
    if acquisition.gamma != 1.0:
        scaled = scaled**acquisition.gamma
    scaled = scaled * _sensitivity(grid, acquisition, image.device)
    real, imaginary = (_noise(grid, acquisition, name, image.device) for name in ("real", "imaginary"))
    magnitude = torch.hypot(scaled + real * acquisition.noise, imaginary * acquisition.noise)
    if acquisition.floor:
        magnitude = (magnitude - acquisition.floor * acquisition.noise).clamp(min=0.0)
    if acquisition.subtracted:
        magnitude = (magnitude - acquisition.subtracted).clamp(min=0.0)
    return magnitude * acquisition.gain


def scan_ct(image: torch.Tensor, grid: Grid, acquisition: Acquisition) -> torch.Tensor:
    """Return the CT image ``(X, Y, Z)`` in HU, with Gaussian reconstruction noise, clipped to a scanner's range."""
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
        # The direction halfway between the face and the neck.
        towards = (axes[1][None, :, None] - axes[2][None, None, :]) * math.sqrt(0.5)
        logarithm -= ((towards - acquisition.fade_mm).clamp(min=0.0) / _FADE_MM) ** 2
    return logarithm.exp_()


def _noise(grid: Grid, acquisition: Acquisition, name: str, device: torch.device) -> torch.Tensor:
    """Return noise of unit variance, drawn on the device because it is as large as the image."""
    seed = Draws(acquisition.seed, "noise", name).integer(0, 2**31 - 1)
    generator = torch.Generator(device).manual_seed(seed)
    noise = torch.randn(grid.shape, generator=generator, device=device)
    deviation = acquisition.noise_blur
    if deviation < 0.15:
        return noise
    first, *others = _weights(deviation, math.ceil(2.5 * deviation))
    variance = (first**2 + 2 * sum(weight**2 for weight in others)) ** 2  # of the sums along two axes
    return blurred(noise, (deviation, deviation, 0.0)).mul_(variance**-0.5)
