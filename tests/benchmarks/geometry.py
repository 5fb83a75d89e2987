"""Print the geometric errors of translations: 200 random affines through NIfTI, and the headers of every real NIfTI.

``python tests/benchmarks/geometry.py [COUNT]``. A synthetic volume's value is a linear function of position, so array
and affine are checked together; the model's generators change nothing, but its pixels of 1.5 mm make every slice be
resampled. "inside" is at least 3 mm from every border. The exit code is 1 if a grid moves, a voxel inside is off by a
hundredth of a mm, or a header field changes that has nothing to do with values.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from support.geometry_figures import Figures, any_model, changed_fields, measure
from support.models import identity_models_are_read

from medcyclegan.inference import TranslationOptions, translate_file

DATA = Path(__file__).parents[3] / "shared" / "data" / "nifti"


def main(count: int) -> int:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        bad = 0
        for planes in ("axial", "three"):
            bad += _print_affines(planes, [measure(seed, Path(folder) / planes, planes) for seed in range(count)])
        bad += _print_headers(Path(folder))
    return int(bad > 0)


def _print_affines(planes: str, figures: list[Figures]) -> int:
    kinds = {
        "all": figures,
        "left-handed": [f for f in figures if f.left_handed],
        "sheared": [f for f in figures if f.shear_degrees > 0.01],
    }
    print(f"--planes {planes}: largest error in mm   {'affines':>8}{'grid':>10}{'inside':>10}{'at a border':>13}")
    for name, each in kinds.items():
        if not each:
            continue
        worst = [max(getattr(f, key) for f in each) for key in ("grid_mm", "inside_mm", "border_mm")]
        print(f"  {name:38}{len(each):>8}{worst[0]:>10.1e}{worst[1]:>10.1e}{worst[2]:>13.1e}")
    return sum(f.grid_mm > 0 or f.inside_mm > 0.01 for f in figures)


def _print_headers(folder: Path) -> int:
    if not DATA.is_dir():
        print("the real scans of ../shared/data are not here")
        return 0
    model = any_model().save(folder / "model")
    files = sorted(p for p in DATA.rglob("*") if p.name.endswith((".nii", ".nii.gz")))
    bad = 0
    for number, file in enumerate(files):
        with identity_models_are_read():
            out = translate_file(file, folder / f"real-{number}.nii.gz", model, TranslationOptions("b"))
        changed = changed_fields(file, out)
        bad += bool(changed)
        if changed:
            print(f"  {file.relative_to(DATA)}: {', '.join(changed)} changed")
    print(f"{len(files)} real NIfTI files translated: {bad} with another header but for the values' type and scaling")
    return bad


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
