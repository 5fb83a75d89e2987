"""Damaged DICOM: seeded mutations of whole series, and the results of reading them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from support import dicom_phantoms as made
from support.dicom_file_cases import recoded

from medcyclegan.errors import MedCycleGANError
from medcyclegan.io import read_volume
from medcyclegan.volume import Volume

KINDS = ("header byte", "header bits", "length", "header cut", "header hole", "pixel byte", "pixel cut")
SERIES = ("classic", "enhanced", "compressed")


def write_series(root: Path) -> dict[str, Volume]:
    """Write the three series below ``root``; return the volume of each."""
    truth = {}
    for name in SERIES:
        volume = made.placed_volume((12, 14, 8), modality="MR" if name == "enhanced" else "CT")
        if name == "enhanced":
            made.save([made.enhanced_of(volume)], root / name)
        else:
            made.save(made.slices_of(volume), root / name)
        if name == "compressed":
            recoded(root / name, "JPEG2000Lossless")
        truth[name] = volume
    return truth


def mutate(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """Damage one file of a series in one way; return the type of damage and the file."""
    path = rng.choice(sorted(folder.iterdir()))
    data = bytearray(path.read_bytes())
    pixels = data.rindex(b"\xe0\x7f\x10\x00") + 12
    kind = str(rng.choice(KINDS))
    # a file that is cut before its DICM is no DICOM any more, and is left out as junk
    start, stop = (pixels, len(data)) if kind.startswith("pixel") else (132 if kind == "header cut" else 128, pixels)
    place = int(rng.integers(start, stop))
    if kind.endswith("byte"):
        data[place] = int(rng.integers(256))
    elif kind == "header bits":
        for place in rng.integers(start, stop, size=4):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == "length":
        # explicit elements: tag, two letters, two bytes of length
        letters = [i for i in range(136, pixels - 4) if data[i : i + 2].isalpha() and data[i : i + 2].isupper()]
        place = int(rng.choice(letters)) + 2
        data[place : place + 2] = rng.integers(256, size=2, dtype=np.uint8).tobytes()
    elif kind == "header hole":
        del data[place : place + int(rng.integers(1, 40))]
    else:
        del data[place:]
    path.write_bytes(data)
    return kind, path


def outcome(source: Path, work: Path, truth: Volume, seed: int) -> tuple[str, str]:
    """Mutate a copy of a series and read it: ``right``, ``refused`` or ``wrong``, and the type of damage."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work)
    kind, _ = mutate(work, np.random.default_rng(seed))
    try:
        found = read_volume(work)
    except MedCycleGANError as error:
        return "refused" if "\n" not in str(error) else "wrong", f"{kind}: {error}"
    if found.shape != truth.shape or found.modality != truth.modality:
        return "wrong", f"{kind}: {found.shape}, {found.modality}"
    off = np.abs(found.affine - truth.affine).max()
    values = np.abs(found.array.astype(np.float64) - truth.array).max()
    if off > 0.01 or values > 0:
        return "wrong", f"{kind}: affine differs by {off:.3g}, values by {values:.3g}"
    return "right", kind
