"""Tissue means of a slice store: from pairs, from the shares of tissues, or none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.stores import make_row

from medcyclegan.config import Domain, Scaling, Slicing
from medcyclegan.intensity import IntensityScaling
from medcyclegan.metrics import head_mask, mae
from medcyclegan.model import describe_training_set
from medcyclegan.model.hu_baseline import fit_tissue_means
from medcyclegan.model.training_set import TrainingSet, tissue_means_fields
from medcyclegan.phantom import ct_volume, make_head, t1_volume
from medcyclegan.plane import plane_view
from medcyclegan.slicing.case import preparation_of

HU = IntensityScaling("window", -1024.0, 3071.0, "HU")
SIZE, MM = 64, 4.0


def make_heads(*seeds):
    return [make_head(seed, shape=(SIZE, SIZE, 40), spacing_mm=(MM, MM, MM)) for seed in seeds]


def put(store, domain, heads, *, patients=None, lower=0):
    """Write a stack and a row for each head, without the lowest ``lower`` slices."""
    rows = []
    (store / domain).mkdir(parents=True, exist_ok=True)
    for number, head in enumerate(heads):
        volume = ct_volume(head) if domain == "ct" else t1_volume(head)
        scaling = HU if domain == "ct" else IntensityScaling.fit(volume.array, modality="MR")
        slices = plane_view(scaling.normalize(volume.array), volume.orientation).transpose(2, 0, 1)[lower:]
        fields = {
            "shape": volume.shape, "affine": tuple(map(tuple, volume.affine.tolist())), "pixel_mm": (MM, MM),
            "modality": volume.modality, "scaling": scaling.to_dict(),
            "slices": tuple(range(lower, lower + len(slices))), "heights": (0.5,) * len(slices),
            "preparation": preparation_of(Slicing(size=SIZE, pixel_mm=MM), Domain(scaling=Scaling())),
        }  # fmt: skip
        row = dataclasses.replace(make_row(domain, number, slices.shape), **fields)
        row = dataclasses.replace(row, patient=patients[number]) if patients else row
        np.save(store / row.file, slices.astype(np.float16))
        rows.append(row)
    return rows


def error_of(means, seed):
    """Return the MAE of the tissue means and of water on another head."""
    (head,) = make_heads(seed)
    reference, source = ct_volume(head), t1_volume(head)
    scaled = IntensityScaling.fit(source.array, modality="MR").normalize(source.array)
    mask = head_mask(reference)
    return mae(means.to_hu(scaled), reference.array, mask), np.abs(reference.array[mask].astype(float)).mean()


def test_patients_with_both_images_give_the_means_of_many_classes(tmp_path):
    patients = ["aa" * 8, "bb" * 8]
    heads = make_heads(1, 2)
    mr = put(tmp_path, "mr", heads, patients=patients, lower=3)
    ct = put(tmp_path, "ct", heads, patients=patients)
    means = fit_tissue_means(mr, ct, tmp_path)
    assert (means.fitted_on, means.patients) == ("pairs", 2)
    assert len(means.hu) > 20
    assert means.hu[0] > 300, "dark in MR: bone, and some air"
    assert means.hu[-1] < 0, "bright in T1: fat"
    ours, water = error_of(means, 5)
    assert ours < 0.9 * water


def test_slices_of_one_place_are_compared(tmp_path):
    """The stacks begin at different slices; compared by index in the stack, tissues would mix."""
    patients = ["aa" * 8]
    heads = make_heads(1)
    ct = put(tmp_path, "ct", heads, patients=patients)
    shifted = fit_tissue_means(put(tmp_path, "mr", heads, patients=patients, lower=6), ct, tmp_path)
    plain = fit_tissue_means(put(tmp_path, "mr", heads, patients=patients), ct, tmp_path)
    assert error_of(shifted, 5)[0] == pytest.approx(error_of(plain, 5)[0], rel=0.05)


def test_other_patients_give_the_means_of_two_classes(tmp_path):
    mr, ct = put(tmp_path, "mr", make_heads(1, 2)), put(tmp_path, "ct", make_heads(3, 4))
    means = fit_tissue_means(mr, ct, tmp_path)
    assert (means.fitted_on, means.patients, len(means.hu)) == ("shares", 2, 2)
    values = np.concatenate([volume.array[head_mask(volume)] for volume in map(ct_volume, make_heads(3, 4))]).astype(
        float
    )
    soft = (values >= -200) & (values < 200)
    assert means.hu == pytest.approx((values[~soft].mean(), values[soft].mean()), abs=15)


@pytest.mark.parametrize("change", [{"patient": "cc" * 8}, {"shape": (SIZE, SIZE, 41)}, {"cropped": True}])
def test_images_of_another_patient_or_grid_are_no_pair(tmp_path, change):
    mr, ct = (put(tmp_path, domain, make_heads(1), patients=["aa" * 8]) for domain in ("mr", "ct"))
    assert fit_tissue_means(mr, ct, tmp_path).fitted_on == "pairs"
    assert fit_tissue_means([dataclasses.replace(mr[0], **change)], ct, tmp_path).fitted_on == "shares"


def test_there_are_none_for_an_mr_nor_from_a_ct(tmp_path):
    mr, ct = put(tmp_path, "mr", make_heads(1)), put(tmp_path, "ct", make_heads(1))
    assert fit_tissue_means(ct, mr, tmp_path) is None
    assert fit_tissue_means(ct, ct, tmp_path) is None
    assert fit_tissue_means((), ct, tmp_path) is None


def test_a_volume_without_contrast_is_left_out(tmp_path):
    mr, ct = put(tmp_path, "mr", make_heads(1, 2)), put(tmp_path, "ct", make_heads(3, 4))
    np.save(tmp_path / ct[0].file, np.full((40, SIZE, SIZE), -1, np.float16))
    assert fit_tissue_means(mr, ct, tmp_path).patients == 1
    np.save(tmp_path / ct[1].file, np.full((40, SIZE, SIZE), -1, np.float16))
    assert fit_tissue_means(mr, ct, tmp_path) is None


def test_the_training_set_of_a_model_holds_them(tmp_path):
    mr, ct = put(tmp_path, "mr", make_heads(1)), put(tmp_path, "ct", make_heads(3))
    described = {
        "ct": describe_training_set(ct, tmp_path, inputs=mr),
        "mr": describe_training_set(mr, tmp_path, inputs=ct),
    }
    means = fit_tissue_means(mr, ct, tmp_path)
    assert TrainingSet.from_dict(described["ct"]).tissue_means == means
    assert TrainingSet.from_dict(described["mr"]).tissue_means is None
    provenance = {"training_set": described}
    assert tissue_means_fields(provenance, "ct") == means.to_dict()
    assert tissue_means_fields(provenance, "mr") is None
    assert tissue_means_fields({}, "ct") is None
    assert tissue_means_fields({"training_set": {"ct": 3}}, "ct") is None
