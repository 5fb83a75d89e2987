"""A small export, for the tests of folders of volumes."""

import numpy as np
import pytest
from PIL import Image
from support import dicom_phantoms as made
from support.exports import GRID, mr_series
from support.models import tiny_model
from support.phantoms import head_ct, write_nifti


@pytest.fixture
def export(tmp_path, monkeypatch):
    """An export: two CT and an MR series shuffled over two folders, a picture, a report, a CT and an MR as NIfTI."""
    monkeypatch.chdir(tmp_path)
    slices = [*made.slices_of(head_ct(*GRID), seed="a"), *made.slices_of(head_ct(*GRID), seed="b"), *mr_series("c")]
    for part in (0, 1):
        made.save(slices[part::2], tmp_path / "export" / f"DISK{part}")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "export" / "screen.png")
    (tmp_path / "export" / "report.pdf").write_bytes(b"%PDF-1.4")
    write_nifti(head_ct(*GRID), tmp_path / "export" / "more" / "head.nii.gz")
    tiny_model().save(tmp_path / "model")
    return tmp_path
