"""Errors of the registration of ``slice-volumes --register`` for known displacements, and its checks on wrong pairs.

    python tests/benchmarks/registration.py [DATA]        (default of DATA: ../shared/data, real scans)

Takes some minutes. The T2 of each patient of DATA is registered to the T1 as it is, and then displaced by known rigid
motions in its header. The error is the distance, at the surface of the T1's head, between the correction that was found
and the expected one: that for the T2 as it is, followed by the known motion. It shows how far the result depends on the
initial position, not how far it is from the truth, which nobody knows. The truth is known for the phantoms: their T2
and CT are sampled on grids that are turned and shifted.

Wrong pairs are a T1 and the T2 of another patient, and T2s that are turned by 90 or 180 degrees.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medcyclegan import Volume, read_volume
from medcyclegan.metrics import head_mask
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.registration import mean_on_grid
from medcyclegan.slicing.registering import Registered, register_onto

ROOT = Path(__file__).parents[2]
PATIENTS = (
    "openms_patient03", "openms_patient04", "openms_patient12", "tcga_fg_6692", "openms_mni07", "openms_mni19",
    "cstar_stroke_coreg",
)  # fmt: skip
#: Displacements: mm and degrees.
MOTIONS = ((10.0, 5.0), (25.0, 15.0), (200.0, 10.0))
CASE = "0" * 16


def main() -> int:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    scans = {name: [_scan(data / "nifti" / name / f"{c}.nii.gz") for c in ("t1", "t2")] for name in PATIENTS}
    print("| scans | displaced by | found | error at the surface: mean, largest | Dice | inside | seconds |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: |")
    for seed, (contrast, image) in itertools.product((1, 2), (("T2", t2_volume), ("CT", ct_volume))):
        reference = t1_volume(make_head(seed, shape=(192, 240, 52), spacing_mm=(1.0, 1.0, 3.0)))
        fine = image(make_head(seed, shape=(180, 224, 152), spacing_mm=(1.0, 1.0, 1.0)))
        for motion in MOTIONS:
            known = rigid_motion(seed, *motion, centre_of(reference))
            _print_row(f"phantom {seed}, T1 and {contrast}", motion, displaced(fine, known), reference, known)
    for name, (t1, t2) in scans.items():
        as_it_is = _print_row(name, (0.0, 0.0), t2, t1, None)
        if as_it_is is None:
            continue
        for motion in MOTIONS:
            known = rigid_motion(0, *motion, centre_of(t1))
            _print_row(name, motion, t2.replace(affine=known @ t2.affine), t1, known @ np.linalg.inv(as_it_is))
    _print_wrong_pairs(scans)
    return 0


def rigid_motion(seed: int, shift_mm: float, degrees: float, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a motion by ``shift_mm`` in a random direction and ``degrees`` about a random axis through ``centre``."""
    axis, direction = np.random.default_rng(seed).normal(size=(2, 3))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    matrix[:3, 3] = centre + shift_mm * direction / np.linalg.norm(direction) - matrix[:3, :3] @ centre
    return matrix


def displaced(fine: Volume, motion: NDArray[np.float64]) -> Volume:
    """Return the head of ``fine`` after ``motion``, sampled with voxels of 0.8 x 0.8 x 3.3 mm on an upright grid."""
    affine = np.diag([0.8, 0.8, 3.3, 1.0])
    shape = (250, 300, 48)
    affine[:3, 3] = (motion @ [*centre_of(fine), 1.0])[:3] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Volume(np.broadcast_to(np.float32(0), shape), affine)
    return Volume(mean_on_grid(fine.replace(affine=motion @ fine.affine), grid)[0], affine, modality=fine.modality)


def centre_of(volume: Volume) -> NDArray[np.float64]:
    """Return the center of the grid in RAS+ mm."""
    centre: NDArray[np.float64] = (volume.affine @ [*(np.array(volume.shape) - 1) / 2, 1.0])[:3]
    return centre


def surface_error(volume: Volume, found: NDArray[np.float64], known: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and the largest error in mm at the surface of the head, for a head displaced by ``known``."""
    mask = head_mask(volume)
    surface = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    points = volume.affine @ np.column_stack([surface, np.ones(len(surface))]).T
    distances = np.linalg.norm((found @ known @ points - points)[:3], axis=0)
    return float(distances.mean()), float(distances.max())


def _print_row(
    name: str, motion: Sequence[float], moving: Volume, fixed: Volume, known: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Register, print a row of the table, and return the matrix that was found."""
    start = time.perf_counter()
    record = register_onto(moving, fixed, CASE).record
    seconds = time.perf_counter() - start
    assert record is not None
    matrix = None if record.matrix is None else np.array(record.matrix)
    error = "" if known is None or matrix is None else "{:.2f}, {:.2f} mm".format(*surface_error(fixed, matrix, known))
    found = record.refused or f"{record.shift_mm:.1f} mm, {record.rotation_degrees:.1f} degrees"
    place = f"{motion[0]:.0f} mm, {motion[1]:.0f} degrees" if known is not None else "as it is"
    print(
        f"| {name} | {place} | {found} | {error} | {record.overlap or 0:.3f} | {record.agreement or 0:.3f} | "
        f"{seconds:.1f} |",
        flush=True,
    )
    return matrix


def _print_wrong_pairs(scans: dict[str, list[Volume]]) -> None:
    print("\n| wrong pair | result | Dice | inside | mutual information |\n| --- | --- | ---: | ---: | --- |")
    names = list(scans)
    for one, other in zip(names, names[1:] + names[:1], strict=True):
        _print_wrong(f"T1 of {one}, T2 of {other}", register_onto(scans[other][1], scans[one][0], CASE))
    for name, (t1, t2) in list(scans.items())[:3]:
        for label, turn in (
            ("turned by 180 degrees about the long axis", (-1, -1, 1)),
            ("turned by 180 degrees about the left-right axis", (1, -1, -1)),
        ):
            turned = t2.replace(affine=_about(centre_of(t2), np.diag([*turn, 1.0])) @ t2.affine)
            _print_wrong(f"{name}, T2 {label}", register_onto(turned, t1, CASE))
        quarter = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        turned = t2.replace(affine=_about(centre_of(t2), quarter) @ t2.affine)
        _print_wrong(f"{name}, T2 turned by 90 degrees", register_onto(turned, t1, CASE))


def _about(centre: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    around = matrix.copy()
    around[:3, 3] = centre - matrix[:3, :3] @ centre
    return around


def _print_wrong(name: str, result: Registered) -> None:
    record = result.record
    assert record is not None
    information = "" if record.after is None else f"{record.before:.3f} to {record.after:.3f}"
    print(
        f"| {name} | {record.refused or 'accepted'} | {record.overlap or 0:.3f} | {record.agreement or 0:.3f} | "
        f"{information} |",
        flush=True,
    )


def _scan(path: Path) -> Volume:
    return read_volume(str(path)).replace(modality="MR")


if __name__ == "__main__":
    sys.exit(main())
