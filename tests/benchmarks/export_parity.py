"""Print by how much an exported full-size model differs from the original on a real CT.

``python tests/benchmarks/export_parity.py [CT]``. The model is that of ``translation.py``, two untrained ResNet-9 of 64
filters, from CT to CT. The CT is the tilted head of the development set, or the folder or file named. ONNX: what
``medcyclegan export --format onnx --compare CT`` prints. MONAI bundle: three slices of the CT through
``python -m monai.bundle run`` and through translate-volume. The exit code is 1 for 0.1 HU, or for one other byte.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from translation import full_size_model

from medcyclegan import read_volume, write_volume
from medcyclegan.volume import Volume

CT = Path(__file__).parents[3] / "shared" / "data" / "dicom" / "ct_ge_hispeed_tilt" / "in"
MOST_HU = 0.1
_BUNDLED = 3


def print_onnx_parity(ct: Path, work: Path) -> bool:
    """Print the export's comparison; return whether both directions are within the limit."""
    command = [sys.executable, "-m", "medcyclegan", "export", "--format", "onnx", "--model", str(work / "model")]
    done = subprocess.run(
        [*command, "--out", str(work / "onnx"), "--compare", str(ct), "--allow-gap"],
        stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    _, *lines = done.stdout.splitlines()
    print("\n".join(lines))
    found = [float(line.split("at most ")[1].split()[0]) for line in lines]
    return len(found) == 2 and max(found) < MOST_HU


def print_bundle_parity(ct: Path, work: Path) -> bool:
    """Print how many bytes of a translated file differ; return whether none does."""
    whole = read_volume(ct, allow_gap=True)
    first = (whole.shape[2] - _BUNDLED) // 2
    affine = whole.affine.copy()
    affine[:3, 3] += first * affine[:3, 2]
    part = Volume(whole.array[:, :, first : first + _BUNDLED], affine, modality="CT")
    source, ours, theirs, bundle = (work / name for name in ("in.nii.gz", "ours.nii", "theirs.nii", "bundle"))
    write_volume(part, source)
    program, model = [sys.executable, "-m", "medcyclegan"], ["-q", "--model", str(work / "model")]
    said = subprocess.DEVNULL
    subprocess.run([*program, "translate-volume", source, ours, "--to", "ct2", *model], check=True, stdout=said)
    subprocess.run([*program, "export", "--format", "monai-bundle", *model, "--out", bundle], check=True, stdout=said)
    monai = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", "--to", "ct2"]
    subprocess.run([*monai, "--input", source, "--output", theirs], cwd=bundle, capture_output=True, check=True)
    differing = sum(a != b for a, b in zip(ours.read_bytes(), theirs.read_bytes(), strict=True))
    print(f"MONAI bundle: {differing} of {ours.stat().st_size} bytes differ from translate-volume's")
    return differing == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, nargs="?", default=CT)
    ct = parser.parse_args().ct.absolute()
    if not ct.exists():
        print(f"missing: {ct}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        full_size_model().save(work / "model")
        exact = [print_onnx_parity(ct, work), print_bundle_parity(ct, work)]
    return 0 if all(exact) else 1


if __name__ == "__main__":
    sys.exit(main())
