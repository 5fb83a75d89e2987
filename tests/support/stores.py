"""Tiny slice stores for tests that train."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.config import Domain, Slicing
from medcyclegan.intensity import IntensityScaling
from medcyclegan.manifest import MANIFEST, SliceRow, rows_to_text
from medcyclegan.slicing.case import preparation_of

AFFINE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def make_row(domain: str, number: int, shape: tuple[int, int, int], **changes: Any) -> SliceRow:
    """Return the row of a stack of shape ``(K, size, size)``: case ``number`` of its domain."""
    count, size, _ = shape
    case = hashlib.sha256(f"{domain} {number}".encode()).hexdigest()[:16]
    fields: dict[str, Any] = {
        "domain": domain,
        "case": case,
        "patient": case,
        "split": "train",
        "file": f"{domain}/{case}.npy",
        "shape": (size, size, count),
        "affine": AFFINE,
        "slices": tuple(range(count)),
        "heights": tuple(float(h) for h in np.linspace(0, 1, count)) if count > 1 else (0.5,),
        "pixel_mm": (1.0, 1.0),
        "modality": "MR",
        "scaling": IntensityScaling("percentile", 0.0, 100.0 + number, "arbitrary units").to_dict(),
        "preparation": preparation_of(Slicing(size=size), Domain()),
        "input": case,
        "cropped": False,
        "content": hashlib.sha256(f"{domain} {number}".encode()).hexdigest(),
        "patient_source": "name",
    }
    return SliceRow(**{**fields, **changes})


def make_store(
    folder: Path,
    stacks: Mapping[str, Sequence[NDArray[Any]]],
    splits: Mapping[str, Sequence[str]] | None = None,
) -> list[SliceRow]:
    """Write a slice store: for each domain its stacks ``(K, size, size)`` in [-1, 1], as float16.

    ``splits``: for a domain, the split of each of its stacks; all train if it is not named.
    """
    rows = []
    for domain, arrays in stacks.items():
        (folder / domain).mkdir(parents=True, exist_ok=True)
        for number, array in enumerate(arrays):
            split = splits[domain][number] if splits and domain in splits else "train"
            row = make_row(domain, number, array.shape, split=split)
            np.save(folder / row.file, array.astype(np.float16))
            rows.append(row)
    (folder / MANIFEST).write_text(rows_to_text(rows), encoding="utf-8")
    return rows


def blobs(count: int, size: int, seed: int, *, inverted: bool = False) -> NDArray[np.float32]:
    """Return ``count`` slices ``(count, size, size)`` with a bright disc and a grey ring, or their negative."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    slices = np.full((count, size, size), -1.0, dtype=np.float32)
    for image in slices:
        row, column = size / 2 + random.uniform(-size / 10, size / 10, 2)
        radius = size * random.uniform(0.15, 0.3)
        distance = np.hypot(rows - row, columns - column)
        image[distance < radius + size / 10] = -0.2
        image[distance < radius] = 0.8
    return -slices if inverted else slices
