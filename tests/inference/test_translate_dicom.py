"""DICOM to DICOM with a sidecar, NIfTI to DICOM with a template, and refusals before any work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from support import dicom_phantoms as made
from support.models import tiny_model
from support.phantoms import head_ct, make_affine, write_nifti

from medcyclegan import read_volume
from medcyclegan.errors import IntensityError, MedCycleGANError, UsageError, WriteError
from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.io import ReadOptions

AFFINE = make_affine("LPS", (5.0, 5.0, 8.0), rotation_degrees=(5.0, 0.0, 3.0))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(tiny_model().save(tmp_path / "model"))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    made.save(made.slices_of(head_ct((40, 48, 6), AFFINE)), tmp_path / "in")
    return tmp_path / "in"


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_series_becomes_a_series(tmp_path: Path, model: Path, scan: Path) -> None:
    out = translate_file(scan, tmp_path / "new" / "mr", model, TranslationOptions(to="mr"))
    record = json.loads((tmp_path / "new" / "mr.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == [f"000{k}.dcm" for k in range(1, 7)]
    found = read_volume(out)
    assert found.modality == "MR"
    np.testing.assert_allclose(found.affine, read_volume(scan).affine, atol=1e-6)
    image, source = pydicom.dcmread(out / "0001.dcm"), pydicom.dcmread(scan / "IM0001.dcm")
    assert record["model"] in image.DerivationDescription
    assert "from CT by a CycleGAN (ct to mr" in image.DerivationDescription
    assert (image.PatientID, image.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    assert source.PatientID not in json.dumps(record)
    first = [pydicom.dcmread(path).SOPInstanceUID for path in sorted(out.iterdir())]
    translate_file(scan, out, model, TranslationOptions(to="mr", overwrite=True))
    assert [pydicom.dcmread(path).SOPInstanceUID for path in sorted(out.iterdir())] == first
    for reading in (ReadOptions(nan="fill"), ReadOptions(allow_synthetic=False)):
        options = TranslationOptions(to="ct", reading=reading, allow_synthetic=not reading.allow_synthetic)
        with pytest.raises(IntensityError, match="--allow-synthetic"):
            translate_file(out, tmp_path / "ct", model, options)
    back = TranslationOptions(to="ct", allow_synthetic=True)
    synthetic = translate_file(out, tmp_path / "ct", model, back)
    assert pydicom.dcmread(synthetic / "0001.dcm").Modality == "CT"


def test_nifti_with_a_template_becomes_a_series(tmp_path: Path, model: Path, scan: Path) -> None:
    source = write_nifti(head_ct((40, 48, 6), AFFINE), tmp_path / "in.nii.gz")
    out = translate_file(source, tmp_path / "mr", model, TranslationOptions(to="mr", template=scan))
    image, lender = pydicom.dcmread(out / "0001.dcm"), pydicom.dcmread(scan / "IM0001.dcm")
    assert image.PatientName == lender.PatientName
    assert image.FrameOfReferenceUID == lender.FrameOfReferenceUID


@pytest.mark.parametrize(
    ("source", "output", "options", "error", "message"),
    [
        ("in.nii.gz", "out", {}, WriteError, "--dicom-template"),
        ("in.nii.gz", "out.nii.gz", {"template": "in"}, UsageError, "is only for DICOM output"),
        ("in", "out", {"template": "in"}, WriteError, "has its own patient"),
        ("in", "in/out", {}, UsageError, "is inside the input folder"),
        ("in", "in", {"overwrite": True}, WriteError, "never replaced"),
        ("in", "foreign", {"overwrite": True}, WriteError, "never replaced"),
        ("in", "nameless", {}, WriteError, "exists: .* --overwrite"),
        ("hostile", "out", {}, WriteError, "PatientID .* another patient"),
    ],
)
def test_a_refusal_comes_before_the_work(
    tmp_path: Path,
    model: Path,
    scan: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    output: str,
    options: dict[str, object],
    error: type[MedCycleGANError],
    message: str,
) -> None:
    write_nifti(head_ct((40, 48, 6), AFFINE), tmp_path / "in.nii.gz")
    slices = made.slices_of(head_ct((40, 48, 2), AFFINE))
    for dataset in slices:
        dataset.PatientID = "a\tb"
    made.save(slices, tmp_path / "hostile")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("precious")
    (tmp_path / "nameless").mkdir()
    chosen = {name: tmp_path / value if name == "template" else value for name, value in options.items()}
    before = everything(tmp_path)
    module = sys.modules["medcyclegan.inference.translate_file"]
    monkeypatch.setattr(module, "translate", lambda *_, **__: pytest.fail("it went to work"))
    with pytest.raises(error, match=message) as caught:
        translate_file(tmp_path / source, tmp_path / output, model, TranslationOptions(to="mr", **chosen))
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == before
    assert not list(tmp_path.glob(".tmp*"))
