"""A working folder for tests that send and fetch series."""

import tempfile

import pytest
from support import dicom_phantoms as made
from support.models import tiny_model
from support.phantoms import head_ct, make_affine


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with a CT series of 4 slices and a model, and an empty folder for temporary files."""
    monkeypatch.chdir(tmp_path)
    made.save(made.slices_of(head_ct((20, 24, 4), make_affine("LPS", (9.0, 9.0, 9.0)))), tmp_path / "ct")
    tiny_model().save(tmp_path / "model")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path
