"""Measure what harmonization removes and what it leaves: T1 of three synthetic scanners to a fourth one.

    python tests/benchmarks/harmonise.py [--steps N] [--heads N] [--out DIR] [--set SECTION.KEY=VALUE]

Synthetic heads, scanned with a bias field, a gamma curve, noise and a resolution that differ by scanner. The networks
of configuration ``harmonise``, smaller and with coarse slices, are trained without pairs; no head is on two scanners.
Then unseen heads are scanned by all scanners. Printed, before and after harmonization:

- error: to the image of the same head by the reference scanner, inside the head (evaluate);
- scanners identified: the fraction of slices whose scanner a logistic regression on 33 features of intensity and
  texture finds, trained on all other heads, after scaling by percentiles. Chance is 1/3. It is fitted anew to
  the harmonized slices, so it finds what remains, not what it knew before. ``reference``: three scans of the reference
  scanner under the names of the three, which show what the number of heads can resolve;
- tissues: mean absolute difference of the volumes of CSF, gray and white matter from those of the reference scan, by
  thresholds between three classes of intensity in the brain.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan import ModelBundle, Volume, evaluate_volumes, slice_volumes, train, translate_volume, write_volume
from medcyclegan.config import load_config
from medcyclegan.phantom import Head, make_head, t1_volume
from medcyclegan.phantom.tissues import tissue_index

SETTINGS = (
    "slicing.size=64",
    "slicing.pixel_mm=3.75",
    "slicing.validation_fraction=0",
    "slicing.test_fraction=0",
    "networks.generator.filters=8",
    "networks.generator.blocks=1",
    "networks.discriminator.filters=16",
    "training.learning_rate=0.001",
    "training.ema_decay=null",
    "training.compile=off",
)
BRAIN = ("csf", "grey matter", "white matter", "deep grey matter", "lesion")
_TEST_SEED = 900
_SLICES = 12


@dataclasses.dataclass(frozen=True)
class Scanner:
    """Gamma of the gray scale, strength of the bias field, noise (fraction of bright tissue), blur in voxels."""

    gamma: float
    bias: float
    noise: float
    blur: float


SCANNERS = {
    "one": Scanner(0.7, 0.25, 0.02, 0.0),
    "two": Scanner(1.4, 0.10, 0.05, 0.0),
    "three": Scanner(1.0, 0.35, 0.02, 0.8),
}
REFERENCE = Scanner(1.0, 0.03, 0.01, 0.0)


def head_of(seed: int) -> Head:
    return make_head(seed, shape=(80, 96, 40), spacing_mm=(2.5, 2.5, 4.0))


def scan(head: Head, scanner: Scanner, seed: int) -> Volume:
    """Return the T1 of a head by a scanner; ``seed``: of its bias field and noise."""
    volume = t1_volume(head, fat_signal=0.25)
    random = np.random.default_rng([seed, head.seed])
    image = volume.array / np.percentile(volume.array, 99.5)
    if scanner.blur:
        image = ndimage.gaussian_filter(image, (scanner.blur, scanner.blur, 0))
    image = np.clip(image, 0, None) ** scanner.gamma
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
    direction = random.normal(size=3)
    slope = sum(weight * axis for weight, axis in zip(direction / np.linalg.norm(direction), axes, strict=True))
    image = image * np.exp(scanner.bias * slope)
    noise = random.normal(0, scanner.noise, (2, *image.shape))
    image = np.hypot(image + noise[0], noise[1])
    return Volume((1000 * image).astype(np.float32), volume.affine, modality="MR")


def brain_of(head: Head) -> NDArray[np.bool_]:
    return sum(head.fractions[tissue_index(name)] for name in BRAIN) > 0.5


def scaled(volume: Volume, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the values, such that the 1st and 99th percentile in the brain are 0 and 1."""
    low, high = np.percentile(volume.array[inside], (1, 99))
    return (volume.array.astype(np.float64) - low) / (high - low)


def features(volume: Volume, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return 33 features of intensity and texture for each of 12 slices."""
    values, area = scaled(volume, inside), inside.sum(axis=(0, 1))
    first, last = np.flatnonzero(area > 0.3 * area.max())[[0, -1]]
    return np.array(
        [_of_slice(values[:, :, k], inside[:, :, k]) for k in np.linspace(first, last, _SLICES).astype(int)]
    )


def _of_slice(image: NDArray[np.float64], inside: NDArray[np.bool_]) -> list[float]:
    brain = image[inside]
    counts, _ = np.histogram(np.clip(brain, -0.2, 1.2), bins=16, range=(-0.2, 1.2))
    outside = image[ndimage.binary_erosion(image < 0.2, iterations=4)]
    texture = []
    for sigma in (0.0, 0.7, 1.4):
        smooth = ndimage.gaussian_filter(image, sigma) if sigma else image
        texture += [
            np.abs(ndimage.laplace(smooth))[inside].mean(),
            ndimage.gaussian_gradient_magnitude(smooth, 0.5)[inside].mean(),
        ]
    high = image - ndimage.gaussian_filter(image, 1.0)
    rows, columns = (np.linspace(-1, 1, n) for n in image.shape)
    row, column = np.broadcast_arrays(rows[:, None], columns[None, :])
    trends = [np.polyfit(axis[inside], brain, 1)[0] for axis in (row, column)]
    statistics_ = [
        brain.mean(),
        brain.std(),
        ((brain - brain.mean()) ** 3).mean(),
        high[inside].std(),
        np.abs(high[inside]).max(),
    ]
    air = [outside.mean(), outside.std()] if outside.size else [0.0, 0.0]
    return [*(counts / counts.sum()), *texture, *trends, *map(abs, trends), *statistics_, *air]


def identified(volumes: Mapping[str, Sequence[Volume]], brains: Sequence[NDArray[np.bool_]]) -> float:
    """Return the fraction of slices whose scanner is found, for heads that the classifier has not seen."""
    names = list(volumes)
    rows = [(features(v, brains[n]), label, n) for label, name in enumerate(names) for n, v in enumerate(volumes[name])]
    x = torch.tensor(np.concatenate([each for each, _, _ in rows]))
    y = torch.tensor(np.repeat([label for _, label, _ in rows], _SLICES))
    groups = np.repeat([n for _, _, n in rows], _SLICES)
    right = 0
    for left_out in range(len(brains)):
        known = torch.tensor(groups != left_out)
        right += int((_fit_and_predict(x[known], y[known], x[~known], len(names)) == y[~known]).sum())
    return right / len(y)


def _fit_and_predict(x: torch.Tensor, y: torch.Tensor, unseen: torch.Tensor, classes: int) -> torch.Tensor:
    """Fit a multinomial logistic regression with an L2 penalty; return the classes of ``unseen``."""
    mean, spread = x.mean(0), x.std(0) + 1e-9
    weights = torch.zeros(x.shape[1] + 1, classes, dtype=x.dtype, requires_grad=True)

    def logits(rows: torch.Tensor) -> torch.Tensor:
        return (rows - mean) / spread @ weights[:-1] + weights[-1]

    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(logits(x), y) + 1e-2 * weights[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return logits(unseen).argmax(1)


def tissue_volumes(volume: Volume, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the numbers of voxels of three classes of intensity in the brain (Lloyd's algorithm in one dimension)."""
    values = scaled(volume, inside)[inside]
    centers = np.percentile(values, (5, 40, 80))
    for _ in range(50):
        nearest = np.abs(values[:, None] - centers).argmin(1)
        centers = np.array([values[nearest == k].mean() if (nearest == k).any() else centers[k] for k in range(3)])
    return np.bincount(nearest, minlength=3).astype(np.float64)


def show(
    name: str, volumes: Mapping[str, Sequence[Volume]], truth: Sequence[Volume], brains: Sequence[NDArray]
) -> None:
    scores = [evaluate_volumes(v, t) for own in volumes.values() for v, t in zip(own, truth, strict=True)]
    changes = []
    for own in volumes.values():
        for volume, expected, inside in zip(own, truth, brains, strict=True):
            reference = tissue_volumes(expected, inside)
            changes.append(np.abs(tissue_volumes(volume, inside) / reference - 1))
    tissues = "".join(f"{100 * value:>8.1f}" for value in np.mean(changes, axis=0))
    errors = "".join(
        f"{statistics.fmean(getattr(s, key) for s in scores):>{width}.{digits}f}"
        for key, width, digits in (("psnr", 10, 2), ("ssim_2023", 8, 3), ("mae", 8, 4))
    )
    print(f"{name:<22}{errors}{100 * identified(volumes, brains):>10.0f}{tissues}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--heads", type=int, default=6, help="unseen heads")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments, arguments.out or Path(temporary))


def measure(arguments: argparse.Namespace, out: Path) -> None:
    config = load_config("harmonise", [*SETTINGS, f"training.max_steps={arguments.steps}", *arguments.overrides])
    if not (out / "slices").exists():
        for number, (name, scanner) in enumerate(SCANNERS.items()):
            for seed in range(100 * number, 100 * number + 4):
                write_volume(
                    scan(head_of(seed), scanner, seed), out / "volumes" / "scanners" / f"sub-{name}{seed}_T1w.nii.gz"
                )
        for seed in range(500, 508):
            write_volume(scan(head_of(seed), REFERENCE, seed), out / "volumes" / "reference" / f"sub-{seed}_T1w.nii.gz")
        slice_volumes(out / "volumes", out / "slices", config=config, allow_synthetic=True)
    domains = ("scanners", "reference")
    run = train(out / "slices", config=config, domains=domains, out=out / "runs", device="cpu", init_from="none")
    model = ModelBundle.load(run / "model")
    heads = [head_of(_TEST_SEED + n) for n in range(arguments.heads)]
    brains, truth = [brain_of(head) for head in heads], [scan(head, REFERENCE, 1) for head in heads]
    before = {
        name: [scan(head, scanner, 2 + n) for head in heads] for n, (name, scanner) in enumerate(SCANNERS.items())
    }
    after = {name: [translate_volume(v, model, "reference") for v in own] for name, own in before.items()}
    again = {name: [scan(head, REFERENCE, 20 + n) for head in heads] for n, name in enumerate(SCANNERS)}
    print(f"{'':<22}{'PSNR (dB)':>10}{'SSIM':>8}{'MAE':>8}{'found %':>10}{'CSF %':>8}{'gray %':>8}{'white %':>8}")
    for name, volumes in (("before", before), ("after", after), ("reference", again)):
        show(name, volumes, truth, brains)


if __name__ == "__main__":
    main()
