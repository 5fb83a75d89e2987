"""A folder of several small volumes, as exported from an archive, and the command that translates it."""

import numpy as np
from click.testing import CliRunner
from support import dicom_phantoms as made
from support.phantoms import head_mr, make_affine

from medcyclegan.cli.main import main

AXES = make_affine("LPS", (9.0, 9.0, 9.0))
GRID = ((20, 24, 6), AXES)


def mr_series(seed):
    volume = head_mr(*GRID)
    whole = volume.replace(array=np.rint(volume.array).astype(np.int16), modality="MR")
    return made.slices_of(whole, seed=seed)


def run(*words):
    return CliRunner().invoke(main, ["translate-volume", *map(str, words), "--model", "model", "--device", "cpu"])


def outputs(folder):
    """Return the outputs in a folder of results: sidecars show where they are."""
    found = [path.relative_to(folder) for path in folder.rglob("*.json")]
    return sorted(str(path.with_suffix("")) for path in found if path.parts[0] != ".done")
