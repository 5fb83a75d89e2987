"""A synthetic cohort in BIDS names, three of its volumes broken, for tests and benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.phantoms import head_mr, make_affine, write_nifti


def make_cohort(folder: Path, patients: int, shape: tuple[int, int, int] = (40, 48, 24)) -> dict[str, str]:
    """Write a T1w and a T2w head of each patient; return the three broken volumes and the message for each."""
    place = make_affine("LPS", (5.0, 5.0, 8.0), rotation_degrees=(4.0, 0.0, 3.0))
    for n in range(patients):
        for suffix, inverted in (("T1w", False), ("T2w", True)):
            path = folder / f"sub-{n:02d}" / "anat" / f"sub-{n:02d}_{suffix}.nii.gz"
            write_nifti(head_mr(shape, place, seed=n, inverted=inverted), path)
    broken = [
        folder / f"sub-{n:02d}/anat/sub-{n:02d}_{suffix}.nii.gz" for n, suffix in ((0, "T1w"), (1, "T2w"), (2, "T1w"))
    ]
    broken[0].write_bytes(broken[0].read_bytes()[:-2000])
    holes = head_mr(shape, place, seed=1)
    holes.array[5, 5, 5] = np.nan
    write_nifti(holes, broken[1])
    broken[2].write_text("not a volume")
    reasons = ("cut short", "not finite", "NIfTI")
    return {
        str(path.relative_to(folder)).removesuffix(".nii.gz"): why for path, why in zip(broken, reasons, strict=True)
    }
