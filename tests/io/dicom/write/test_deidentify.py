"""De-identified series contain no identifier of the source, are complete, and are valid according to dciodvfy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from reliability import planted
from support.models import tiny_model
from support.phantoms import head_ct, make_affine

from medcyclegan import read_volume
from medcyclegan.errors import MissingExtraError, UsageError
from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.io import write_volume

MARKERS = (planted.IN_NAMES, *planted.IN_HEADERS)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    folder = tmp_path / planted.IN_NAMES / "series"
    volume = head_ct((40, 48, 5), make_affine("LPS", (5.0, 5.0, 8.0), rotation_degrees=(5.0, 0.0, 3.0)))
    assert planted.write_series(volume, folder, "1") > 1500
    return folder


def test_no_byte_of_the_source_is_left(tmp_path: Path, scan: Path) -> None:
    model = tiny_model().save(tmp_path / "model")
    options = TranslationOptions(to="mr", deidentify=True)
    out = translate_file(scan, tmp_path / "out" / "mr", model, options)
    assert planted.find(tmp_path / "out", MARKERS) == []
    images = [pydicom.dcmread(path) for path in sorted(out.iterdir())]
    assert len({image.SOPInstanceUID for image in images}) == 5
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({str(image[keyword].value) for image in images}) == 1
    first = images[0]
    assert (first.PatientIdentityRemoved, first.SyntheticData, first.StudyDate) == ("YES", "YES", "")
    assert first.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    for path in out.iterdir():
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
        assert "Error" not in said, said
    np.testing.assert_allclose(read_volume(out).affine, read_volume(scan).affine, atol=1e-6)
    with_names = translate_file(scan, tmp_path / "named" / "mr", model, TranslationOptions(to="mr"))
    np.testing.assert_array_equal(read_volume(out).array, read_volume(with_names).array)
    assert planted.find(tmp_path / "named", MARKERS), "the search finds what is there"


def test_without_the_extra_it_is_refused_before_the_work(tmp_path: Path, scan: Path, monkeypatch) -> None:
    from medcyclegan.io.dicom.write import deidentify as dicom_deidentify

    dicom_deidentify._actions.cache_clear()
    monkeypatch.setitem(sys.modules, "dicomanonymizer.simpledicomanonymizer", None)
    volume = read_volume(scan)
    with pytest.raises(MissingExtraError, match=r"pip install 'medcyclegan\[deid\]'"):
        write_volume(volume, tmp_path / "out", deidentify=True)
    assert not (tmp_path / "out").exists()


def test_other_formats_have_nothing_to_leave_out(tmp_path: Path, scan: Path) -> None:
    model = tiny_model().save(tmp_path / "model")
    with pytest.raises(UsageError, match="--deidentify is only for DICOM output"):
        translate_file(scan, tmp_path / "out.nii.gz", model, TranslationOptions(to="mr", deidentify=True))
