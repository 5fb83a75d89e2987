"""The three commands on real scans, from ../shared/data (skipped where it is absent)."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from support.models import CT_DOMAIN, MR, MR_DOMAIN, identity_model

from medcyclegan import read_volume, translate_volume
from medcyclegan.cli.main import main
from medcyclegan.errors import IntensityError
from medcyclegan.inference import InferenceOptions, assess, translate
from medcyclegan.intensity import check_hu
from medcyclegan.model import DomainModel
from medcyclegan.pictures import preview

DATA = Path(__file__).parents[3] / "shared" / "data"
CT = DATA / "dicom" / "ct_ge_hispeed_tilt" / "ref" / "2__Tilt_Eq_1.nii.gz"
NOT_HU = ["ct_head_mricrogl_windowed.nii.gz", "ct_head_vtk_headsq.nii.gz", "ct_template_scct_mni_2mm.nii"]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real scans of ../shared/data are not here"),
]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


def link(target, *sources):
    target.mkdir(parents=True)
    for source in sources:
        (target / f"{source.parent.name}_{source.name}").symlink_to(source)


def same_grid(one, other):
    before, after = nib.load(one), nib.load(other)
    assert after.shape == before.shape
    assert np.abs(after.affine - before.affine).max() <= 1e-6
    for field in ("sform_code", "qform_code", "xyzt_units", "pixdim", "srow_x", "srow_y", "srow_z", "quatern_b"):
        assert np.array_equal(after.header[field], before.header[field]), field


@pytest.fixture(scope="module")
def t1_to_t2(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("t1-t2")
    patients = [DATA / "nifti" / name for name in ("openms_patient12", "tcga_fg_6692", "cstar_stroke_coreg")]
    for domain in ("t1", "t2"):
        link(workspace / "volumes" / domain, *(p / f"{domain}.nii.gz" for p in patients))
    return workspace


def test_t1_and_t2(t1_to_t2, monkeypatch):
    monkeypatch.chdir(t1_to_t2)
    run("slice-volumes")
    run("train", "--config", "smoke")
    for name in ("openms_patient04", "tcga_fg_6692", "cstar_stroke_coreg", "openms_mni19"):
        source = DATA / "nifti" / name / "t1.nii.gz"
        run("translate-volume", source, f"{name}.nii.gz", "--preview", f"{name}.png")
        same_grid(source, f"{name}.nii.gz")
        expected = preview(
            {"input": read_volume(source), "synthetic t2": read_volume(f"{name}.nii.gz")}, unit="arbitrary units"
        )
        assert np.array_equal(np.asarray(Image.open(f"{name}.png")), np.asarray(expected))
        assert json.loads(Path(f"{name}.json").read_text())["Modality"] == "MR"


@pytest.fixture(scope="module")
def ct_and_mr(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("ct-mr")
    link(workspace / "volumes" / "ct", CT)
    link(workspace / "volumes" / "mr", DATA / "nifti" / "openms_patient12" / "t1.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        run("slice-volumes")
        run("train", "--config", "smoke")
    return workspace


def test_mr_to_ct_is_whole_hu_in_the_window(ct_and_mr, monkeypatch):
    monkeypatch.chdir(ct_and_mr)
    source = DATA / "nifti" / "openms_patient04" / "t1.nii.gz"
    run("translate-volume", source, "sct.nii.gz", "--to", "ct")
    same_grid(source, "sct.nii.gz")
    image = nib.load("sct.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert (image.dataobj.slope, image.dataobj.inter) == (1, 0)
    assert -1024 <= np.asarray(image.dataobj).min() <= np.asarray(image.dataobj).max() <= 3071


def test_ct_to_mr(ct_and_mr, monkeypatch):
    monkeypatch.chdir(ct_and_mr)
    run("translate-volume", CT, "smr.nii.gz", "--to", "mr")
    same_grid(CT, "smr.nii.gz")
    assert read_volume("smr.nii.gz").modality == "MR"


@pytest.mark.parametrize("name", NOT_HU)
def test_a_ct_that_is_not_in_hu_is_refused(ct_and_mr, monkeypatch, name, tmp_path):
    monkeypatch.chdir(ct_and_mr)
    out = tmp_path / "out.nii.gz"
    result = run("translate-volume", DATA / "nifti" / name, out, "--to", "mr", code=1)
    assert "not in HU" in result.stderr
    assert not out.exists()
    link(tmp_path / "volumes" / "ct", DATA / "nifti" / name)
    refused = run("slice-volumes", tmp_path / "volumes", "--out", tmp_path / "slices", code=1)
    assert "not in HU" in refused.stderr
    with pytest.raises(IntensityError, match="not in HU"):
        check_hu(read_volume(DATA / "nifti" / name).array)


def test_the_identity_returns_a_real_ct():
    """0.488 mm to 1 mm and back: the error is interpolation at the edges of bone and skin."""
    volume = read_volume(CT, max_voxels=10**9)
    result = translate_volume(volume, identity_model(CT_DOMAIN, DomainModel("ct2", "CT", CT_DOMAIN.scaling)), "ct2")
    error = np.abs(result.array.astype(float) - np.clip(volume.array, -1024, 3071))
    assert np.median(error) <= 10
    assert error.mean() < 40


@pytest.mark.parametrize(
    "name",
    ["nifti/openms_patient12/flair.nii.gz", "nifti/tcga_fg_6692/t2.nii.gz",
     "dicom/mr_philips_enhanced_b0/ref/Philips_WIP_B0_NS_801_e1.nii"],
)  # fmt: skip
def test_the_identity_of_a_real_scan_does_not_flicker(name):
    """Resampling to 1 mm and back gave an index of 0.16 to 0.22; tests/benchmarks/flicker.py has every scan."""
    volume, model = read_volume(DATA / name), identity_model(MR_DOMAIN, DomainModel("same", "MR", MR))
    computing = InferenceOptions(device="cpu")
    quality = assess(volume, translate(volume, model.direction("same"), computing, force=True), computing)
    assert quality.flicker == pytest.approx(0, abs=1e-3)
    assert not any("from slice to slice" in reason for reason in quality.reasons)
