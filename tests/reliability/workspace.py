"""A small workspace that every part of the suite works on: volumes, a store, models, runs; made in seconds."""

from __future__ import annotations

import json
from pathlib import Path

from support import dicom_phantoms as made
from support.models import tiny_model
from support.phantoms import head_ct, head_mr, make_affine, write_nifti

#: A training of seconds, with a checkpoint, a panel and a row every few steps.
CONFIG = """
slicing: {size: 32, pixel_mm: 6.0, foreground: 0.01}
networks: {generator: {filters: 2, blocks: 1}, discriminator: {filters: 2, layers: 1}}
training: {max_steps: 24, checkpoint_steps: 4, panel_every: 6, log_every: 2, pool_size: 4, precision: fp32}
validation: {slices: 2}
"""
GRID = (40, 48, 8)
AFFINE = make_affine("LPS", (5.0, 5.0, 8.0), rotation_degrees=(5.0, 0.0, 3.0))


def make_volumes(folder: Path, *, patients: int = 2) -> Path:
    """Write ``volumes/ct`` (NIfTI and one DICOM series) and ``volumes/mr`` (NIfTI) below ``folder``."""
    for number in range(patients):
        write_nifti(head_ct(GRID, AFFINE), folder / "volumes" / "ct" / f"p{number}.nii.gz")
        write_nifti(head_mr(GRID, AFFINE), folder / "volumes" / "mr" / f"p{number}.nii.gz")
    made.save(made.slices_of(head_ct(GRID, AFFINE)), folder / "volumes" / "ct" / "series")
    (folder / "config.yaml").write_text(CONFIG, "utf-8")
    return folder


def make_workspace(folder: Path) -> Path:
    """Write volumes, a model and inputs to translate (``in.nii.gz``, ``in/``) into the new folder ``folder``."""
    folder.mkdir(parents=True)
    make_volumes(folder)
    tiny_model().save(folder / "model")
    write_nifti(head_ct(GRID, AFFINE), folder / "in.nii.gz")
    made.save(made.slices_of(head_ct(GRID, AFFINE)), folder / "in")
    return folder


def edit_record(folder: Path, *path_and_value: object, name: str = "model.json") -> None:
    """Set one value of a model's record, and leave out the checksum that would tell."""
    *path, value = path_and_value
    record = json.loads((folder / name).read_text("utf-8"))
    record.pop("record_sha256", None)
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / name).write_text(json.dumps(record), "utf-8")
