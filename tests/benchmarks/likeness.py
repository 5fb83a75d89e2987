"""How far apart scans are for the search of the same image under two names, and which changed copies it finds.

    python tests/benchmarks/likeness.py [DATA]        (default: ../shared/data, real scans)

Prints the pairs of real scans that come nearest, the pairs of phantoms that differ by their noise alone, and for each
change of a copy how many of the copies are found.
"""

from __future__ import annotations

import base64
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.phantoms import head_ct, head_mr

from medcyclegan.io import read_volume
from medcyclegan.slicing.patients import describe_likeness, find_alike
from medcyclegan.slicing.patients.likeness import compare
from medcyclegan.volume import Volume

ROOT = Path(__file__).parents[2]


def main() -> int:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    real = {
        f"{path.parent.name} {path.name.split('.')[0]}": read_volume(path)
        for path in sorted((data / "nifti").glob("*/*.nii.gz"))
    }
    eggs = {
        f"{make.__name__} {shape[0]} {seed}": make(shape, seed=seed)
        for make in (head_mr, head_ct) for shape in ((24, 28, 16), (40, 48, 24), (96, 96, 48)) for seed in range(3)
    }  # fmt: skip
    for title, volumes in (("real scans", real), ("one object, other noise", eggs)):
        described = {name: describe_likeness(volume) for name, volume in volumes.items()}
        pairs = [(*compare(described[a], described[b]), a, b) for a, b in itertools.combinations(described, 2)]
        print(f"\n{title}: {len(pairs)} pairs, found alike: {len(find_alike(list(described.values())))}\n")
        print("| difference | agreement | of | and |\n| ---: | ---: | --- | --- |")
        for difference, agreement, a, b in sorted(pairs)[:5]:
            print(f"| {difference:.4f} | {agreement:.2f} | {a} | {b} |")
        if volumes is eggs:
            print(f"\nlargest agreement under a difference of 0.03: {max(p[1] for p in pairs if p[0] < 0.03):.2f}")
    print("\n| copy | found of real scans | of phantoms |\n| --- | ---: | ---: |")
    random = np.random.default_rng(0)
    counts: dict[str, list[int]] = {}
    for column, volumes in enumerate((real, eggs)):
        for volume in volumes.values():
            own = describe_likeness(volume)
            for name, array in changes(np.asarray(volume.array, dtype=np.float32), random):
                copy = Volume(np.ascontiguousarray(array), volume.affine)
                counts.setdefault(name, [0, 0])[column] += bool(find_alike([own, describe_likeness(copy)]))
    for name, (found, other) in counts.items():
        print(f"| {name} | {found} of {len(real)} | {other} of {len(eggs)} |")
    print_times()
    return 0


def print_times(count: int = 6000) -> None:
    """Print what describing a volume and comparing ``count`` of them cost."""
    volume = head_mr((256, 256, 128))
    started = time.process_time()
    own = describe_likeness(volume)
    print(f"\ndescribing a volume of 256 x 256 x 128: {1000 * (time.process_time() - started):.0f} CPU ms")
    grid, _, encoded = own.partition(":")
    data = np.frombuffer(base64.b64decode(encoded), dtype=np.uint8)
    random = np.random.default_rng(1)
    # Descriptions that differ as much as those of different people above, in twelve directions.
    directions = random.normal(0, 15, (12, 512)) * (data[:512] > 25)
    parts = np.clip(data[:512] + random.normal(0, 1, (count, 12)) @ directions, 0, 255).astype(np.uint8)
    texts = [
        f"{grid}:{base64.b64encode(own_parts.tobytes() + random.bytes(data.size - 512)).decode()}"
        for own_parts in parts
    ]
    started = time.process_time()
    find_alike(texts)
    print(f"comparing {count} volumes: {time.process_time() - started:.1f} CPU s")


def changes(array: NDArray[np.float32], random: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield changed copies of a volume."""
    low, high, spread = float(array.min()), float(array.max()), float(array.std())
    yield "whole numbers", np.rint(array)
    yield "times 2.5 plus 7", array * 2.5 + 7
    yield "8 bits", np.rint((array - low) / (high - low) * 255)
    yield "clipped at the 99th percentile", np.minimum(array, np.percentile(array, 99))
    for share in (0.01, 0.02, 0.05):
        yield f"noise of {share:.0%} of the deviation", array + random.normal(0, share * spread, array.shape)
    yield "smoothed, sigma half a voxel", ndimage.gaussian_filter(array, 0.5)
    yield "resampled to 0.9 of the size", ndimage.zoom(array, 0.9, order=1, grid_mode=True, mode="nearest")
    yield "two voxels cropped at each side of two axes", array[2:-2, 2:-2]
    yield "moved by a voxel", np.roll(array, 1, axis=0)


if __name__ == "__main__":
    sys.exit(main())
