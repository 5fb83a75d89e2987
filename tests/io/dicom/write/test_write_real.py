"""Real scans of several vendors, written as the other modality, are valid and the same for every reader."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support import dicom_readback as peers

from medcyclegan.io import read_volume, write_volume

DATA = Path(__file__).parents[5] / "shared" / "data"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data, the real scans, is absent"),
    pytest.mark.skipif(bool(peers.MISSING_TOOLS), reason=peers.MISSING_TOOLS or "all there"),
]
#: Not all, for time: tests/benchmarks/dicom_conformance.py takes every series, both ways.
SERIES = [
    name for name in peers.REAL_SERIES if name not in ("GE CT, made upright", "JPEG 2000", "JPEG lossless", "RLE")
]


@pytest.mark.parametrize("name", SERIES)
def test_a_real_series_becomes_the_other_modality(name: str, tmp_path: Path) -> None:
    folder, options = peers.REAL_SERIES[name]
    source = read_volume(DATA / folder, **options)
    volume = peers.made_from(source, "MR" if source.modality == "CT" else "CT")
    out = tmp_path / "out"
    write_volume(volume, out)
    new = peers.new_verdicts(peers.files_of(DATA / folder), peers.files_of(out))
    assert peers.undefended(new, DATA / folder) == []
    tilted = volume.shear_degrees > 0.01
    readers = [peers.read_simpleitk_slices if tilted else peers.read_simpleitk]
    readers += [] if tilted else [peers.read_highdicom, lambda path: peers.read_dcm2niix(path, tmp_path / "nifti")]
    for reader in readers:
        array, affine = peers.turned_to(*reader(out), volume.affine)
        np.testing.assert_allclose(affine, volume.affine, atol=1e-4)
        np.testing.assert_array_equal(array, volume.array)


def test_only_what_the_documents_defend_is_let_through() -> None:
    """Accepted warnings are warnings only, are documented by attribute, and need a source without that attribute."""
    page = (Path(__file__).parents[4] / "docs" / "howto" / "send_to_pacs.md").read_text()
    for words in peers.DEFENDED:
        for name in re.findall(r"[A-Z]\w+[a-z](?=[)|>$])|Study Date", words):
            assert name in page, name
    folder = DATA / peers.REAL_SERIES["Siemens sagittal"][0]
    absent = "Attribute present in one instance but not the other - Element=<PatientSex> IE=<Patient> for file"
    assert peers.defence(f"Warning - {absent}") is not None
    assert peers.defence(f"Error - {absent}") is None
    assert peers.defence(f"Warning - {absent.replace('Sex', 'Weight')}") is None
    assert peers.undefended([f"Warning - {absent}"], folder) == [f"Warning - {absent}"]
