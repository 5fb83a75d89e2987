"""Print the flicker index that a translation by the identity has on real scans, where 0 is right.

``python tests/benchmarks/flicker.py [FOLDER] [--pixel-mm MM]`` (default: ``../shared/data``, 1.0). Every volume of
FOLDER that is not a label map is read (with ``--volume 0`` or ``--allow-gap`` where it needs one), translated by
generators that return their input, and measured as a translation is. "as is": the index against the input itself, in
which resampling within the slices counts as flicker. "resampled": against the input after the same resampling, as
``translate-volume`` measures it. A scan flags above 0.15.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.models import CT_DOMAIN, MR_DOMAIN, identity_model

from medcyclegan.errors import GeometryError, MedCycleGANError
from medcyclegan.inference import InferenceOptions, Translation, translate
from medcyclegan.inference.flicker import measure_flicker
from medcyclegan.inference.quality import _MOST_FLICKER
from medcyclegan.intensity import AIR
from medcyclegan.io import FoundVolume, ReadOptions, find_volumes, read_found_volume
from medcyclegan.metrics import flicker_index
from medcyclegan.model import DomainModel
from medcyclegan.plane import plane_view
from medcyclegan.volume import Volume

DATA = Path(__file__).parents[3] / "shared" / "data"
_READING = (ReadOptions(), ReadOptions(volume=0), ReadOptions(allow_gap=True))
PLANES = ("axial", "three")


def read(found: FoundVolume) -> Volume | None:
    """Read a volume with the options that it needs; None where there are none."""
    for options in _READING if found.refused is None else ():
        try:
            return read_found_volume(found, options)
        except MedCycleGANError:
            continue
    return None


def measure(volume: Volume, planes: str, pixel_mm: float) -> tuple[float | None, float | None]:
    """Return the index of the identity's translation against the input as it is, and after the same resampling."""
    domain = CT_DOMAIN if volume.modality == "CT" else MR_DOMAIN
    model = identity_model(domain, DomainModel("same", domain.modality, domain.scaling), pixel_mm=pixel_mm)
    done = translate(volume, model.direction("same"), InferenceOptions(device="cpu", planes=planes), force=True)
    return _against_itself(volume, done), measure_flicker(volume, done, planes)


def _against_itself(volume: Volume, done: Translation) -> float | None:
    source, fake = (plane_view(v.array, v.orientation) for v in (volume, done.volume))
    step = max(1, round(min(source.shape[:2]) / 128))
    source, fake = source[::step, ::step], fake[::step, ::step]
    inside: NDArray[np.bool_] = done.scaling.normalize(source) > AIR
    try:
        return flicker_index(fake, source, inside)
    except GeometryError:
        return None


def main() -> int:
    """Print the table; return 1 if the identity flags on any scan as it is measured now."""
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=DATA)
    parser.add_argument("--pixel-mm", type=float, default=1.0)
    given = parser.parse_args()
    indices: dict[tuple[str, int], list[float]] = {(planes, way): [] for planes in PLANES for way in (0, 1)}
    scans = 0
    print(
        f"{'scan':64} " + " ".join(f"{planes + ', ' + way:>17}" for planes in PLANES for way in ("as is", "resampled"))
    )
    for found in find_volumes(given.folder, ReadOptions()):
        volume = None if found.name.startswith("labels/") else read(found)
        if volume is None:
            continue
        scans += 1
        texts = []
        for planes in PLANES:
            try:
                values = measure(volume, planes, given.pixel_mm)
            except MedCycleGANError:  # too thin for three planes
                values = (None, None)
            for way, value in enumerate(values):
                texts.append(f"{'-' if value is None else f'{value:.4f}':>17}")
                if value is not None:
                    indices[planes, way].append(value)
        print(f"{found.name:64} {' '.join(texts)}", flush=True)
    for (planes, way), values in indices.items():
        flagged = sum(value > _MOST_FLICKER for value in values)
        print(
            f"{planes}, {('as is', 'resampled')[way]}: {flagged} of {len(values)} scans flag "
            f"({scans} read); {min(values):.4f} to {max(values):.4f}"
        )
    return int(any(value > _MOST_FLICKER for planes in PLANES for value in indices[planes, 1]))


if __name__ == "__main__":
    sys.exit(main())
