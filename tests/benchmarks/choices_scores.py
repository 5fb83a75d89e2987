"""The scores of choices.py: of translated test patients with their truth, and candidates that need no truth.

Nothing here needs SimpleITK: the masks were written by ``prepare``.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

from medcyclegan import ModelBundle, Volume, read_volume, translate_volume
from medcyclegan.config import Config, load_config
from medcyclegan.data import SliceIndex, StackReader
from medcyclegan.intensity import foreground_threshold
from medcyclegan.metrics import mae, ncc, psnr, ssim
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.monitor.health import measure_signs, read_reference
from medcyclegan.training.monitor.scores import HeldOut, scores_of
from medcyclegan.training.plan import Plan, build_plan
from medcyclegan.training.run.init_from import put_generators
from medcyclegan.training.update.step import CycleGANStep, build_step

CONTRASTS = ("t1", "t2")
REGIONS = ("head", "inside")
RANGE = (0.0, 1.0)
#: The bins of the mutual information.
BINS = 32

Scores = dict[str, dict[str, float]]


@functools.cache
def test_patients(folder: Path) -> list[tuple[dict[str, Volume], dict[str, Volume], dict[str, np.ndarray]]]:
    """Return scans, true images and regions of the test patients in ``folder``."""
    found = []
    for file in sorted(folder.glob("*_regions.npz")):
        paths = {name: folder / file.name.replace("regions.npz", f"{name}.nii") for name in CONTRASTS}
        true = {name: path.with_name(path.name.replace(".nii", "_truth.nii")) for name, path in paths.items()}
        scans = {name: read_volume(path) for name, path in paths.items()}
        truth = {name: read_volume(path) if path.is_file() else scans[name] for name, path in true.items()}
        with np.load(file) as regions:
            found.append((scans, truth, {name: regions[name] for name in REGIONS}))
    return found


def true_scores(bundle: ModelBundle | None, folder: Path, device: str) -> Scores:
    """Return the scores of the translations of ``bundle``, or of the inputs; means over the patients."""
    rows: dict[str, list[dict[str, float]]] = {}
    for scans, truth, regions in test_patients(folder):
        for name, other in (("t2", "t1"), ("t1", "t2")):
            fake = scans[other]
            if bundle is not None:
                fake = translate_volume(scans[other], bundle, to=name, device=device, quality=False)
            for region, mask in regions.items():
                rows.setdefault(f"{name} {region}", []).append(compare(fake.array, truth[name].array, mask))
    return {place: {key: float(np.mean([row[key] for row in own])) for key in own[0]} for place, own in rows.items()}


def compare(fake: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return the scores in the box of the mask, both images scaled by their percentiles as in evaluate_volumes."""
    places = np.argwhere(mask)
    # Three more voxels: the borders that SSIM leaves out.
    box = tuple(slice(max(0, low - 3), high + 4) for low, high in zip(places.min(0), places.max(0), strict=True))
    mask = mask[box]
    first, second = (to_unit(array[box], mask) for array in (fake, truth))
    return {
        "psnr": psnr(first, second, value_range=RANGE, mask=mask),
        "ssim": ssim(first, second, value_range=RANGE, mask=mask),
        "mae": mae(first, second, mask),
        "ncc": ncc(first, second, mask),
    }


def to_unit(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    low, high = np.percentile(array[mask], (0.5, 99.5))
    return np.clip((array.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def candidates(
    bundle: ModelBundle, config: Config, store: Path, start: Path, device: str, count: int
) -> dict[str, float]:
    """Return the scores without truth, on ``count`` training slices of each domain; means over both directions.

    ``start``: the folder of the model whose outputs the others are compared with.
    """
    plan = build_plan(store, config, CONTRASTS)
    step = evaluated(plan, bundle, device)
    slices = training_slices(store, count)
    found = scores_of(step, slices)
    ours, theirs = fakes_of(step, slices), fakes_of_start(store, start, device, count)
    own = [images[:, 0].numpy() for images in slices.inputs]
    heads = [images > level for images, level in zip(own, slices.levels, strict=True)]
    information = [mutual_information(a[m], b[m]) for a, b, m in zip(own, ours, heads, strict=True)]
    likeness = [float(np.corrcoef(a[m], b[m])[0, 1]) for a, b, m in zip(ours, theirs, heads, strict=True)]
    # As in training.run.agreement, but on the device.
    signs = measure_signs(step, references(store))
    return {
        "sliced_wasserstein": mean(found["sliced_wasserstein_AB"], found["sliced_wasserstein_BA"]),
        "histogram": mean(found["histogram_AB"], found["histogram_BA"]),
        "cycle": mean(found["cycle_A"], found["cycle_B"]),
        "mutual_information": mean(*information),
        # An output without any variation has no correlation.
        "likeness_to_start": mean(*np.nan_to_num(likeness)),
        "agreement": mean(*(values["contrast"] for values in signs.values())),
    }


def mean(*values: float) -> float:
    return float(np.mean(values))


def evaluated(plan: Plan, bundle: ModelBundle, device: str) -> CycleGANStep:
    """Return a step of ``plan`` with the generators of ``bundle``, only to be evaluated."""
    networks = build_cyclegan(plan.config.networks, plan.size, 0)
    put_generators(networks, bundle, plan)
    return build_step(plan.config, networks.to(device), torch.device(device), "fp32")


@functools.cache
def training_slices(store: Path, count: int) -> HeldOut:
    """Return evenly spaced training slices of both domains, as if they were held out."""
    plan = build_plan(store, load_config("cpu"), CONTRASTS)
    reader, inputs = StackReader(plan.store), []
    for rows in plan.training:
        index = SliceIndex(rows)
        inputs.append(torch.stack([reader.read_image(*index.find(n)) for n in index.spread(count)]))
    real = [images[:, 0].numpy() for images in inputs]
    levels = [foreground_threshold(images, None) for images in real]
    return HeldOut((inputs[0], inputs[1]), (real[0], real[1]), (levels[0], levels[1]), ())


@functools.cache
def references(store: Path) -> dict:
    plan = build_plan(store, load_config("cpu"), CONTRASTS)
    return {"AB": read_reference(plan, 0), "BA": read_reference(plan, 1)}


def fakes_of(step: CycleGANStep, slices: HeldOut) -> list[np.ndarray]:
    """Return the fakes ``(N, H, W)`` of the slices of A, and of those of B."""
    found = []
    with step.evaluating() as networks:
        for generator, images in zip((networks.G_AB, networks.G_BA), slices.inputs, strict=True):
            parts = [generator(part.to(step.device))[:, 0].float().cpu() for part in images.split(16)]
            found.append(torch.cat(parts).numpy())
    return found


@functools.cache
def fakes_of_start(store: Path, start: Path, device: str, count: int) -> list[np.ndarray]:
    plan = build_plan(store, load_config("cpu"), CONTRASTS)
    return fakes_of(evaluated(plan, ModelBundle.load(start), device), training_slices(store, 1, count))


def mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mutual information of two sets of values in [-1, 1], in nats."""
    joint = np.histogram2d(np.clip(first, -1, 1), np.clip(second, -1, 1), BINS, ((-1, 1), (-1, 1)))[0]
    joint /= joint.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / apart[some])).sum())
