"""Mistakes that users make: a command, its error line and the remedy, and the states in which they happen."""

from __future__ import annotations

import dataclasses
import re
import resource
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from support import dicom_phantoms as made
from support.phantoms import head_ct, head_mr, make_affine, write_nifti
from support.stores import blobs, make_store

from medcyclegan.cli.main import main

SHAPE, PLACE = (24, 28, 16), make_affine("LPS", (8.0, 8.0, 12.0))
TRAIN = (
    "train --config smoke --max-steps 1 --set networks.generator.filters=2 --set networks.discriminator.filters=2 "
    "--set training.panel_every=9"
)
SLICE = "slice-volumes --size 32 --pixel-mm 8"


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A command line, what its error line must match, and the command that follows from that line."""

    command: str
    says: str
    remedy: str
    code: int = 1
    before: Callable[[], object] = lambda: None
    by_hand: Callable[[re.Match[str]], object] = lambda found: None
    undo: Callable[[], object] = lambda: None


def write_series(folder: str, head=head_ct, seed: str = "a", drop: int | None = None) -> None:
    slices = made.slices_of(head(SHAPE, PLACE), seed=seed)
    if drop is not None:
        del slices[drop]
    made.save(slices, Path(folder))


def text(name: str, content: str) -> None:
    Path(name).write_text(content)


def two_series() -> None:
    write_series("both", seed="a")
    for number, file in enumerate(sorted(Path("both").iterdir())):
        file.rename(f"both/first-{number}.dcm")
    write_series("other", seed="b")
    for number, file in enumerate(sorted(Path("other").iterdir())):
        file.rename(f"both/second-{number}.dcm")


def mixed_domain() -> None:
    shutil.rmtree("volumes")
    write_series("volumes/ct/a", head_ct)
    write_series("volumes/ct/b", head_mr, seed="b")
    write_series("volumes/mr/c", head_mr, seed="c")


def cut_short(name: str) -> None:
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: len(whole) // 2])


def without_axes() -> None:
    write_nifti(head_mr(SHAPE, PLACE), Path("plain.nii.gz"), sform_code=0, qform_code=0)


def four_dimensions(name: str) -> None:
    volume = head_mr(SHAPE, PLACE)
    image = nib.Nifti1Image(np.stack([volume.array] * 2, axis=-1), volume.affine)
    image.set_sform(volume.affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, name)


def with_nan(name: str) -> None:
    volume = head_mr(SHAPE, PLACE)
    volume.array[5, 5, 5] = np.nan
    write_nifti(volume, Path(name))


def hu_volumes() -> None:
    shutil.rmtree("volumes")
    for domain, head in (("a", head_ct), ("b", head_mr)):
        for n in range(2):
            write_nifti(head(SHAPE, PLACE, seed=n), Path("volumes") / domain / f"p{n}.nii.gz")


def third_domain() -> None:
    make_store(Path("slices"), {name: [blobs(2, 32, n)] for n, name in enumerate(("pd", "t1", "t2"))})


def one_domain() -> None:
    shutil.rmtree("slices")
    make_store(Path("slices"), {"t1": [blobs(2, 32, 0)]})


def small_disk() -> None:
    Path("full").mkdir()
    made_one = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "full"], capture_output=True)
    if made_one.returncode:
        pytest.skip("only root may mount a small disk; the case without a disk is the next one")


def largest_file(size: int | None) -> None:
    """Limit the size of files that this process writes; None: no limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def run(command: str) -> tuple[int, str]:
    """Return the exit code of a command and its messages, one of which begins with ``Error`` if it failed."""
    result = CliRunner().invoke(main, shlex.split(command))
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == (result.exit_code != 0), result.output
    return result.exit_code, "\n".join(errors) if "reasons above" not in result.stderr else result.stderr
