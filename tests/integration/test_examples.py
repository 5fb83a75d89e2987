"""Every script in examples/ runs, is short, and says what it did."""

import subprocess
import sys
from pathlib import Path

from phantoms import head_mr, write_nifti

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path.name


def test_slice_with_monai(tmp_path):
    source = write_nifti(head_mr(), tmp_path / "in.nii.gz")
    command = [sys.executable, EXAMPLES / "slice_with_monai.py", source, tmp_path / "sheet.png", "--modality", "MR"]
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "back on its own grid" in run.stdout
    assert (tmp_path / "sheet.png").stat().st_size > 1000
