import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from support import dicom_phantoms as made
from support.models import GREY, identity_model, identity_models_are_read, tiny_model
from support.phantoms import head_ct, head_mr, make_affine, write_nifti

from medcyclegan.errors import MedCycleGANError, UsageError, WriteError
from medcyclegan.inference import InferenceOptions, TranslationOptions, translate_file
from medcyclegan.io import ReadOptions, read_volume, sidecar_path
from medcyclegan.model import DomainModel
from medcyclegan.pictures import preview


@pytest.fixture
def model(tmp_path):
    return tiny_model().save(tmp_path / "model")


def test_a_file_becomes_a_file_with_its_sidecar(tmp_path, model):
    source = write_nifti(head_ct(), tmp_path / "John.nii.gz", sform_code=2, qform_code=1, units="mm")
    out = translate_file(source, tmp_path / "new" / "out.nii.gz", model, TranslationOptions(to="mr"))
    before, after = nib.load(source), nib.load(out)
    assert after.shape == before.shape
    assert np.array_equal(after.affine, before.affine)
    for field in ("sform_code", "qform_code", "xyzt_units", "srow_x", "quatern_b", "pixdim", "dim"):
        assert np.array_equal(after.header[field], before.header[field]), field
    record = json.loads((tmp_path / "new" / "out.json").read_text())
    assert record["synthetic"] is True
    assert len(record["model"]) == 64
    assert record["to"] == {"domain": "mr", "modality": "MR", "scaling": record["to"]["scaling"]}
    assert record["shape"] == list(before.shape)
    assert set(record["seconds"]) == {"read", "translate", "assess", "write"}
    assert record["versions"]["medcyclegan"]
    assert "John" not in json.dumps(record)


def test_clipped_voxels_are_counted(tmp_path, model):
    ct = head_ct()
    array = ct.array.copy()
    array[5, 5, :4] = 5000
    array[0, 0, :] = -3024
    source = write_nifti(ct.replace(array=array.clip(-3024)), tmp_path / "in.nii.gz")
    translate_file(source, tmp_path / "out.nii.gz", model, TranslationOptions(to="mr"))
    assert json.loads((tmp_path / "out.json").read_text())["clipped_voxels"] == 4


def test_pictures_in_pictures_out(tmp_path):
    folder = identity_model(DomainModel("A", None, GREY), DomainModel("B", None, GREY)).save(tmp_path / "m")
    pixels = np.arange(256 * 200, dtype=np.uint32).reshape(256, 200).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    with identity_models_are_read():
        translate_file(tmp_path / "x.png", tmp_path / "y.png", folder)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "y.png")), pixels)


def test_a_preview_is_drawn(tmp_path, model):
    source = write_nifti(head_mr(), tmp_path / "in.nii.gz")
    picture = tmp_path / "p.png"
    translate_file(source, tmp_path / "out.nii.gz", model, TranslationOptions(to="ct", preview=picture))
    expected = preview({"input": read_volume(source), "synthetic ct": read_volume(tmp_path / "out.nii.gz")})
    assert np.array_equal(np.asarray(Image.open(picture)), np.asarray(expected))


def everything(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("output", "options", "error", "message"),
    [
        ("there.nii.gz", {}, WriteError, "exists: .* --overwrite"),
        ("foreign.nii.gz", {}, WriteError, "foreign.json exists"),
        ("in.nii.gz", {"overwrite": True}, UsageError, "is the input"),
        ("out.xyz", {}, WriteError, "ending is not of a format"),
        ("out", {}, WriteError, "DICOM needs a patient and a study.*--dicom-template"),
        ("there.nii.gz/out.nii.gz", {}, WriteError, "is not a folder"),
        ("out.nii.gz", {"to": "pet"}, MedCycleGANError, "--to pet"),
        ("out.nii.gz", {"preview": "p.jpg"}, UsageError, "must end in .png"),
        ("out.nii.gz", {"uncertainty": "t.png"}, UsageError, "--uncertainty t.png: its name must end in .nii"),
        ("out.nii.gz", {"uncertainty": "t"}, UsageError, "--uncertainty t: its name must end in .nii"),
        ("out.nii.gz", {"computing": InferenceOptions(device="tpu")}, UsageError, "--device tpu"),
        ("out.nii.gz", {"reading": ReadOptions(volume=3)}, MedCycleGANError, "volume 3"),
    ],
)
def test_a_refusal_leaves_nothing_and_touches_nothing(tmp_path, model, output, options, error, message):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    (tmp_path / "there.nii.gz").write_text("precious")
    (tmp_path / "foreign.json").write_text('{"precious": 1}')
    before = everything(tmp_path)
    with pytest.raises(error, match=message):
        translate_file(source, tmp_path / output, model, TranslationOptions(**options))
    assert everything(tmp_path) == before


def test_a_sidecar_without_its_volume_is_replaced(tmp_path, model):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    out = translate_file(source, tmp_path / "out.nii.gz", model, TranslationOptions(to="mr"))
    out.unlink()
    translate_file(source, out, model, TranslationOptions(to="mr"))
    translate_file(source, out, model, TranslationOptions(to="mr", overwrite=True))


def test_the_same_input_gives_the_same_bytes(tmp_path, model):
    source = write_nifti(head_ct((30, 30, 5), make_affine("PIR", (4.0, 4.0, 4.0))), tmp_path / "in.nii.gz")
    one, other = (
        translate_file(source, tmp_path / n, model, TranslationOptions(to="mr")) for n in ("a.nii.gz", "b.nii.gz")
    )
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("output", "options", "error", "message"),
    [
        ("out.nii.gz", {"uncertainty": "there/../in.nii.gz", "overwrite": True}, UsageError, "is the input or another"),
        ("out.nii.gz", {"uncertainty": "link.nii.gz", "overwrite": True}, UsageError, "is the input or another"),
        ("out.nii.gz", {"uncertainty": "there/../out.nii.gz"}, UsageError, "is the input or another"),
        (".", {"template": "series"}, WriteError, "an existing folder is never the output"),
        ("there/..", {"template": "series"}, WriteError, "an existing folder is never the output"),
        ("new", {"uncertainty": "new/t.nii.gz", "template": "series"}, UsageError, "may hold only DICOM files"),
        ("new", {"preview": "there/../new/p.png", "template": "series"}, UsageError, "may hold only DICOM files"),
        ("out.png", {}, WriteError, "one slice that was read from a picture"),
        ("out.nrrd", {}, WriteError, "degrees from perpendicular.*--resample-tilt"),
        ("out.nii.gz", {"uncertainty": "t.mha"}, WriteError, "t.mha: .* degrees from perpendicular"),
        ("new", {"template": "."}, WriteError, "it contains more than one series: name the folder, or one file"),
    ],
)
def test_what_no_output_could_be_is_refused_before_the_work(tmp_path, monkeypatch, output, options, error, message):
    monkeypatch.chdir(tmp_path)
    head = head_ct((24, 30, 6), make_affine("LPS", (8.0, 7.0, 9.0)))
    sheared = head.affine @ np.array([[1, 0, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    write_nifti(head.replace(affine=sheared), tmp_path / "in.nii.gz")
    made.save(made.slices_of(head), tmp_path / "series")
    made.save(made.slices_of(head, seed="second"), tmp_path / "second")
    (tmp_path / "there").mkdir()
    (tmp_path / "link.nii.gz").symlink_to("in.nii.gz")
    tiny_model().save(tmp_path / "model")
    before = everything(tmp_path)
    module = sys.modules["medcyclegan.inference.translate_file"]
    monkeypatch.setattr(module, "translate", lambda *_, **__: pytest.fail("it went to work"))
    with pytest.raises(error, match=message):
        translate_file("in.nii.gz", output, "model", TranslationOptions(to="mr", **options))
    assert everything(tmp_path) == before


def test_the_sidecar_of_the_working_folder_is_next_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sidecar_path(Path()) == tmp_path.with_name(f"{tmp_path.name}.json")
