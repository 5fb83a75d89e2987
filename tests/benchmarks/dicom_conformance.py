"""Print how derived DICOM series made from every readable real CT and MR series fare with other people's programs.

``python tests/benchmarks/dicom_conformance.py [PART OF A NAME]``. Each series becomes a synthetic CT and a synthetic MR
(its own values, rescaled). Columns: kinds of errors and warnings that dciodvfy and dcentvfy have of the source, and of
source and output together that the source has not; the largest difference of the affine in mm and the number of
differing voxels as read by highdicom, SimpleITK and dcm2niix. A tilted series is read slice by slice, and dcm2niix's
reading, which cannot hold it, is left out. Below: each kind of warning that outputs have and their sources have not, in
how many outputs, and why it stays (docs/howto/send_to_pacs.md). The exit code is 1 for a new error, a warning that is
not defended or whose source has what it is about, 1e-4 mm or a voxel.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from support import dicom_readback

from medcyclegan import Volume, read_volume, write_volume

DATA = Path(__file__).parents[3] / "shared" / "data"
_SAME_MM = 1e-4


def main(words: list[str]) -> int:
    """Print the table and what is left to defend."""
    logging.disable(logging.CRITICAL)
    if dicom_readback.MISSING_TOOLS or not DATA.is_dir():
        print(f"missing: {dicom_readback.MISSING_TOOLS or DATA}")
        return 1
    header = f"{'series':28} {'to':3} {'slices':>6} {'src E/W':>8} {'new E':>6} {'new W':>6}"
    print(header + "".join(f" {name:>16}" for name in ("highdicom", "SimpleITK", "dcm2niix")))
    left: Counter[str] = Counter()
    failed = 0
    for name, (folder, options) in dicom_readback.REAL_SERIES.items():
        if all(word in name for word in words):
            source = read_volume(DATA / folder, **options)
            for modality in ("CT", "MR"):
                failed += _judge(name, DATA / folder, dicom_readback.made_from(source, modality), left)
    print("\nwarnings of outputs that their sources have not:")
    for message, count in left.most_common():
        print(f"{count:4} x {message}\n       because {dicom_readback.defence(message) or 'NOT DEFENDED'}")
    print(f"\nfailed: {failed}")
    return int(failed > 0)


def _judge(name: str, folder: Path, made: Volume, left: Counter[str]) -> int:
    with tempfile.TemporaryDirectory() as work:
        out = Path(work, "out")
        write_volume(made, out)
        old = dicom_readback.verdicts(dicom_readback.files_of(folder))
        new = dicom_readback.new_verdicts(dicom_readback.files_of(folder), dicom_readback.files_of(out))
        errors = [line for line in new if line.startswith("Error")]
        left.update(new)
        counts = [sum(line.startswith(kind) for line in old) for kind in ("Error", "Warning")]
        undefended = dicom_readback.undefended(new, folder)
        tilted = made.shear_degrees > 0.01
        readers: list[Callable[[Path], tuple[np.ndarray, np.ndarray]] | None] = [
            dicom_readback.read_highdicom_slices if tilted else dicom_readback.read_highdicom,
            dicom_readback.read_simpleitk_slices if tilted else dicom_readback.read_simpleitk,
            None if tilted else lambda path: dicom_readback.read_dcm2niix(path, Path(work, "nifti")),
        ]
        columns, bad = [], bool(undefended)
        for reader in readers:
            if reader is None:
                columns.append("cannot hold tilt")
                continue
            array, affine = dicom_readback.turned_to(*reader(out), made.affine)
            moved = float(np.abs(affine - made.affine).max())
            differing = made.array.size if array.shape != made.shape else int((array != made.array).sum())
            columns.append(f"{moved:.1e} mm, {differing} vx")
            bad = bad or moved > _SAME_MM or differing > 0
    print(
        f"{name:28} {made.modality:3} {made.shape[2]:6} {counts[0]:4}/{counts[1]:3} {len(errors):6} "
        f"{len(new) - len(errors):6}" + "".join(f" {text:>16}" for text in columns) + ("   <-- failed" if bad else "")
    )
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
