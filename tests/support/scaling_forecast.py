"""The forecast of tests/benchmarks/scaling.py: the cost of 100,000 full-size volumes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import torch

from medcyclegan.cohort import select_volumes
from medcyclegan.config import load_config
from medcyclegan.inference import translate_volume
from medcyclegan.intensity import IntensityScaling
from medcyclegan.io.dicom.write.synthetic import write_made_series
from medcyclegan.model import DomainModel, ModelBundle
from medcyclegan.networks import build_cyclegan, build_generator
from medcyclegan.phantom import ct_volume, make_head, t1_volume
from medcyclegan.plane import Preparation
from medcyclegan.training.update.precision import choose_precision
from medcyclegan.training.update.step import build_step

__all__ = ["header_seconds", "print_forecast"]

#: The number of volumes (half of each domain), their slices, the share of them that is trained on, and the cores.
_VOLUMES, _SLICES, _TRAINED, _CORES = 100_000, 150, 0.8, 50 * 32


def header_seconds(folder: Path) -> float:
    """Return the CPU seconds per DICOM file of finding volumes, in series of 60 files."""
    for n in range(3):
        head = make_head(n, shape=(48, 60, 60), spacing_mm=(4.0, 4.0, 3.0))
        write_made_series(ct_volume(head), folder / str(n), number=n, description="synthetic")
    started = time.process_time()
    files = sum(len(found.files) for found in select_volumes(folder))
    return (time.process_time() - started) / files


def network_seconds() -> float:
    """Return the CPU seconds per slice of a translation with the generator of ``default``, everything included."""
    generator = load_config("default").networks.generator
    scaling = IntensityScaling("percentile", 0.0, 1000.0, "arbitrary units")
    domains = (DomainModel("t1", "MR", scaling), DomainModel("t2", "MR", scaling))
    weights = build_generator(generator, 256).state_dict()
    model = ModelBundle(domains, Preparation(256, "physical", 1.0), generator, {"G_AB": weights, "G_BA": weights})
    volume = t1_volume(make_head(0, shape=(96, 120, 8), spacing_mm=(2.0, 2.0, 8.0)))
    seconds = []
    for _ in range(2):
        started = time.process_time()
        translate_volume(volume, model, "t2", device="cpu")
        seconds.append(time.process_time() - started)
    return seconds[-1] / volume.shape[2]


def step_seconds() -> float:
    """Return the CPU seconds of a training step of ``default`` at 256 x 256 pixels: the second of two."""
    config = load_config("default")
    device = torch.device("cpu")
    networks = build_cyclegan(config.networks, config.slicing.size, config.seed)
    step = build_step(config, networks, device, choose_precision("auto", device))
    images = torch.rand(2, 1, 1, config.slicing.size, config.slicing.size) * 2 - 1
    seconds = 0.0
    for number in (1, 2):
        started = time.process_time()
        step(SimpleNamespace(state=SimpleNamespace(iteration=number)), (images[0], images[1]))  # type: ignore[arg-type]
        seconds = time.process_time() - started
    return seconds


def epoch_rows(here: float, there: float | None) -> list[str]:
    """Return the rows of training: a step takes ``there`` seconds, or if that is None the ``here`` CPU seconds."""
    config = load_config("default")
    steps = round(_VOLUMES / 2 * _TRAINED) * _SLICES // config.training.batch_size
    terabytes = 2 * steps * config.training.batch_size * config.slicing.size**2 * 2 / 1e12
    rows = []
    for epochs in (1, config.training.epochs):
        name = "train: an epoch" if epochs == 1 else f"train: the {epochs} epochs of `default`"
        seconds, hours = epochs * steps * here / _VOLUMES, epochs * steps * (there or here) / 3600
        device = "1" if there is None else "1 GPU"
        rows.append(f"| {name} | {seconds:.0f} | {device} | {hours:.2f} | {epochs * terabytes:.2f} | 0.00 |")
    return rows


def print_forecast(
    further: Mapping[str, float],
    megabytes_each: Mapping[str, tuple[float, float]],
    header: float,
    slices: int,
    step_there: float | None,
) -> None:
    """Print the cost of many full-size volumes: in proportion to their slices, except for one-time costs.

    ``further`` and ``megabytes_each``: CPU seconds of a further volume of ``slices`` slices, and the megabytes read and
    written per volume. ``header``: the CPU seconds of finding a DICOM file. ``step_there``: the seconds of a training
    step on the device that will train.
    """
    print(
        f"\nTo find DICOM: {1000 * header:.2f} CPU ms per file, "
        f"{header * _VOLUMES * _SLICES / 3600:.1f} h for all below."
    )
    here, scale = step_seconds(), _SLICES / slices
    there = "" if step_there is None else f", {step_there:g} s on the device that will train"
    print(f"\nA step of `default`: {here:.2f} CPU s{there}.")
    network = network_seconds()
    print(f"\nA slice through the generator of `default`: {network:.2f} CPU s.\n")
    print(f"{_VOLUMES} volumes of {_SLICES} slices, at the cost of a further volume above, on {_CORES} cores:\n")
    print(
        "| stage | CPU s per volume | cores | hours | TB read | TB written |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for name in ("find", "slice", "train: around", "translate", "evaluate"):
        once = name in ("find", "train: around")
        seconds = further[name] * (1.0 if once else scale) + (network * _SLICES if name == "translate" else 0.0)
        cores = 1 if once else _CORES
        hours = seconds * _VOLUMES / cores / 3600
        read, written = (0.0 if once else size * scale * _VOLUMES / 1e6 for size in megabytes_each[name])
        print(f"| {name} | {seconds:.4f} | {cores} | {hours:.2f} | {read:.2f} | {written:.2f} |")
        for row in epoch_rows(here, step_there) if name == "train: around" else ():
            print(row)
