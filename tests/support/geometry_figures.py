"""Geometric errors of translations: random affines through NIfTI and back, and real headers field by field."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from support.models import identity_model, identity_models_are_read
from support.phantoms import linear_values, write_nifti

from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model import DomainModel, ModelBundle
from medcyclegan.volume import Volume

#: The voxel value is this times its place in mm, RAS+; its length is what a mm is worth.
COEFFICIENTS = (2.0, 3.0, 5.0)
PER_MM = float(np.linalg.norm(COEFFICIENTS))
#: Pixels that all grids here are brought to and back from, some finer, some coarser; what is that near to a border has
#: too few neighbours to be interpolated from.
PIXEL_MM, BORDER_MM = 1.5, 3.0
#: Header fields that a translation may change: the values' type, scaling and display, and what names the maker.
VALUES = {
    "datatype", "bitpix", "scl_slope", "scl_inter", "cal_min", "cal_max", "vox_offset", "descrip",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Figures:
    """Errors in mm of one affine: of the output's grid against the input's (its corners), of the place that voxels
    show (inside the volume, and up to its border); whether it is left-handed; its shear in degrees."""

    grid_mm: float
    inside_mm: float
    border_mm: float
    left_handed: bool
    shear_degrees: float


def random_affine(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return an affine of any orientation, half of them left-handed, anisotropic, every third sheared."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn = turn * rng.choice([-1, 1], size=3)
    spacing = rng.uniform(0.6, 4.0, 3)
    directions = turn.copy()
    if rng.random() < 1 / 3:
        lean = np.radians(rng.uniform(-25, 25))
        directions[:, 2] = np.cos(lean) * turn[:, 2] + np.sin(lean) * turn[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


def measure(seed: int, folder: Path, planes: str = "axial") -> Figures:
    """Write a volume whose voxels encode their position, translate it by a model that changes nothing, and compare."""
    from medcyclegan.inference import InferenceOptions

    rng = np.random.default_rng(seed)
    affine = random_affine(rng)
    shape = tuple(int(n) for n in rng.integers(14, 24, 3))
    truth = linear_values(shape, affine, COEFFICIENTS)
    sheared = Volume(truth.astype(np.float32), affine)
    source = write_nifti(
        sheared, folder / f"{seed}.nii.gz", qform_code=0 if sheared.shear_degrees > 0.01 else 1, sform_code=1
    )
    low, high = float(truth.min()), float(truth.max())
    scaling = IntensityScaling("range", low, high, "grey level")
    domains = [DomainModel(name, None, scaling) for name in ("a", "b")]
    model = identity_model(*domains, size=64, pixel_mm=PIXEL_MM).save(folder / f"model-{seed}")
    options = TranslationOptions("b", InferenceOptions(planes=planes))  # type: ignore[arg-type]
    with identity_models_are_read():
        out = nib.load(translate_file(source, folder / f"{seed}-out.nii.gz", model, options))
    before = nib.load(source)
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])])
    moved = np.linalg.norm(corners @ (out.affine - before.affine)[:3].T, axis=1).max()
    error = np.abs(np.asarray(out.dataobj) - truth) / PER_MM
    inner = tuple(slice(margin, -margin) for margin in np.ceil(BORDER_MM / np.array(sheared.spacing_mm)).astype(int))
    return Figures(
        float(moved), float(error[inner].max()), float(error.max()), bool(np.linalg.det(affine) < 0),
        sheared.shear_degrees,
    )  # fmt: skip


def changed_fields(one: Path, other: Path) -> list[str]:
    """Return the header fields in which two NIfTI files differ, except for those of ``VALUES``."""
    before, after = (nib.load(path).header for path in (one, other))
    assert type(before) is type(after)
    return [name for name in before if name not in VALUES and not np.array_equal(before[name], after[name])]


def any_model() -> ModelBundle:
    """Return a model that changes nothing and accepts any input, to test headers."""
    scaling = IntensityScaling("percentile", 0.0, 1000.0, "arbitrary units")
    return identity_model(DomainModel("a", None, scaling), DomainModel("b", None, scaling))
