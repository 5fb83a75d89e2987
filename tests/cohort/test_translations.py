"""Translate many volumes: once each, with failures recorded, and without replacing outputs of other settings."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest
from support import dicom_phantoms
from support.cohorts import make_cohort
from support.models import tiny_model
from support.phantoms import head_ct, head_mr, make_affine

from medcyclegan.cohort import read_ledger, select_volumes, translate_cohort
from medcyclegan.cohort.naming import find_derivative
from medcyclegan.errors import UsageError
from medcyclegan.inference import TranslationOptions
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model import DomainModel

SCALING = IntensityScaling("percentile", 0.0, 900.0, "arbitrary units")


@pytest.fixture
def model(tmp_path):
    return tiny_model(DomainModel("t1", "MR", SCALING), DomainModel("t2", "MR", SCALING)).save(tmp_path / "model")


def test_each_volume_is_translated_once_and_failures_are_written_down(tmp_path, model):
    bids, out = tmp_path / "bids", tmp_path / "fake"
    broken = make_cohort(bids, 4)
    volumes = select_volumes(bids, ["suffix=T1w"])
    parts = [translate_cohort(bids, volumes, out, model, shard=(n, 2)) for n in range(2)]
    assert sum(len(part.translated) for part in parts) == 2
    ledger = {failure.case: failure.reason for failure in read_ledger(out)}
    expected = {case: why for case, why in broken.items() if case.endswith("T1w")}
    assert ledger.keys() == expected.keys()
    assert all(why in ledger[case] for case, why in expected.items())

    made = out / "sub-03/anat/sub-03_desc-synthetic_T2w.nii.gz"
    before = nib.load(bids / "sub-03/anat/sub-03_T1w.nii.gz")
    assert nib.load(made).shape == before.shape
    assert np.array_equal(nib.load(made).affine, before.affine)
    sidecar = json.loads((out / "sub-03/anat/sub-03_desc-synthetic_T2w.json").read_text())
    assert sidecar["Sources"] == ["bids:raw:sub-03/anat/sub-03_T1w.nii.gz"]
    assert sidecar["GeneratedBy"][0]["Model"] == sidecar["model"]
    assert sidecar["synthetic"] is True
    assert sidecar["SkullStripped"] is False

    stamp = made.stat().st_mtime_ns
    again = translate_cohort(bids, volumes, out, model)
    assert (len(again.translated), len(again.unchanged), len(again.failed)) == (0, 2, 2)
    assert made.stat().st_mtime_ns == stamp


def test_an_interrupted_output_is_replaced_and_a_repaired_case_leaves_the_ledger(tmp_path, model):
    bids, out = tmp_path / "bids", tmp_path / "fake"
    make_cohort(bids, 4)
    volumes = select_volumes(bids, ["suffix=T1w"])[2:]
    translate_cohort(bids, volumes, out, model)
    assert [failure.case for failure in read_ledger(out)] == ["sub-02/anat/sub-02_T1w"]
    for ending in ("nii.gz", "json"):
        (bids / f"sub-02/anat/sub-02_T1w.{ending}").unlink(missing_ok=True)
    (bids / "sub-02/anat/sub-02_T1w.nii.gz").write_bytes((bids / "sub-03/anat/sub-03_T1w.nii.gz").read_bytes())
    marker = out / ".done" / "sub-03_desc-synthetic_T2w.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "begun": True}))
    done = translate_cohort(bids, select_volumes(bids, ["suffix=T1w"])[2:], out, model)
    assert (len(done.translated), len(done.unchanged)) == (2, 0)
    assert read_ledger(out) == []


def test_another_making_is_not_replaced_unasked(tmp_path, model):
    bids, out = tmp_path / "bids", tmp_path / "fake"
    make_cohort(bids, 4)
    volumes = select_volumes(bids, ["suffix=T1w"])[3:]
    translate_cohort(bids, volumes, out, model)
    two_ways = TranslationOptions(to="t2", force=True)
    assert len(translate_cohort(bids, volumes, out, model, two_ways).unchanged) == 1, "force changes no voxel"
    other = tiny_model(DomainModel("t1", "MR", SCALING), DomainModel("t2", "MR", SCALING), size=64).save(
        tmp_path / "m2"
    )
    refused = translate_cohort(bids, volumes, out, other)
    assert "made with another model" in refused.failed["sub-03/anat/sub-03_T1w"]
    replaced = translate_cohort(bids, volumes, out, other, TranslationOptions(overwrite=True))
    assert len(replaced.translated) == 1
    assert read_ledger(out) == []


def test_two_volumes_never_share_an_output(tmp_path, model):
    for name in ("a-1.nii.gz", "a1.nii.gz"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    with pytest.raises(UsageError, match="'a-1' and 'a1' would both become"):
        translate_cohort(tmp_path / "in", select_volumes(tmp_path / "in"), tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_a_volume_that_could_not_be_judged_is_kept_and_written_down(tmp_path, model, monkeypatch):
    bids, out = tmp_path / "bids", tmp_path / "fake"
    make_cohort(bids, 4)
    (volume,) = [v for v in select_volumes(bids, ["suffix=T1w"]) if "sub-03" in v.name]
    module = sys.modules["medcyclegan.inference.translate_file"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "assess", lambda *_, **__: 1 / 0)
        assert list(translate_cohort(bids, [volume], out, model).failed) == [volume.name]
    (failure,) = read_ledger(out)
    assert "is written, but its quality was not measured (ZeroDivisionError" in failure.reason
    assert (out / "sub-03/anat/sub-03_desc-synthetic_T2w.nii.gz").exists()
    assert len(translate_cohort(bids, [volume], out, model).translated) == 1
    assert read_ledger(out) == []


def test_dicom_trees_are_named_by_patients_and_an_mr_is_not_a_failure_in_ct_to_mr(tmp_path):
    grid = ((20, 24, 6), make_affine("LPS", (9.0, 9.0, 9.0)))
    mr = head_mr(*grid)
    whole = mr.replace(array=np.rint(mr.array).astype(np.int16), modality="MR")
    for seed, slices in {
        "a": dicom_phantoms.slices_of(head_ct(*grid), seed="a"),
        "b": dicom_phantoms.slices_of(head_ct(*grid), seed="b"),
        "c": dicom_phantoms.slices_of(whole, seed="c"),
    }.items():
        for image in slices:
            image.PatientID = "Doe-1" if seed == "b" else "Doe-2"
        dicom_phantoms.save(slices, tmp_path / "tree" / f"export{seed}")
    model = tiny_model().save(tmp_path / "ct-mr")
    volumes = select_volumes(tmp_path / "tree")
    done = translate_cohort(tmp_path / "tree", volumes, tmp_path / "out", model, TranslationOptions(to="mr"))
    assert done.summary == "2 translated, 0 unchanged, 1 skipped, 0 failed"
    assert done.skipped == {"exportc": "it is MR, and the model's ct is CT"}
    assert sorted(path.name for path in done.translated) == [
        "sub-001_desc-synthetic_MRI.nii.gz",
        "sub-002_desc-synthetic_MRI.nii.gz",
    ]
    assert read_ledger(tmp_path / "out") == []
    for volume in volumes[:2]:
        assert find_derivative(tmp_path / "out", volume, "mr") in done.translated
    contents = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"Doe" not in contents
    again = translate_cohort(tmp_path / "tree", volumes, tmp_path / "out", model, TranslationOptions(to="mr"))
    assert len(again.unchanged) == 2
