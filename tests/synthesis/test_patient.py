"""One patient: the same from the same seed, images that agree with the truth, each artefact where it should be."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy import ndimage
from support.label_phantoms import label_array, label_volume

import medcyclegan.synthesis.patient
from medcyclegan.errors import UsageError
from medcyclegan.synthesis import (
    CONTRASTS,
    TISSUES,
    Variation,
    build_head,
    draw_patient,
    render_patient,
    standard_patient,
)
from medcyclegan.synthesis.contrasts import tissue_values
from medcyclegan.synthesis.deform import Deformation
from medcyclegan.synthesis.lesions import Lesion
from medcyclegan.synthesis.metal import Filling
from medcyclegan.synthesis.tissues import tissue_index

PLAIN = Variation(spacing_mm=3.0, lesions=0.0, metal=0.0)
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
STILL = Deformation(IDENTITY, 0.0, 40.0, 0.0, 12.0, 0)


def quiet(patient, **changes):
    """Return a patient without noise and bias."""
    plain = {"noise": 1e-6, "noise_blur": 0.0, "bias": 0.0, "surface": 0.0, "fade_mm": None, "gamma": 1.0, "floor": 0.0}
    acquisitions = tuple(dataclasses.replace(a, **plain) for a in patient.acquisitions)
    return dataclasses.replace(patient, acquisitions=acquisitions, **changes)


def inner(images, name):
    mask = ndimage.binary_erosion(images.truth.numpy() == tissue_index(name))
    assert mask.sum() > 10, name
    return torch.from_numpy(mask)


@pytest.fixture(scope="module")
def pair(head):
    patient = quiet(draw_patient(5, head, CONTRASTS, PLAIN))
    # The map's voxels are 4 mm wide: a thick skin is half of one.
    patient = dataclasses.replace(patient, anatomy=dataclasses.replace(patient.anatomy, skin_mm=2.4))
    return patient, render_patient(patient, head)


def test_a_seed_gives_the_same_patient_again_and_others_give_others(head):
    once, again = (draw_patient(1, head, ("t1", "ct"), PLAIN) for _ in range(2))
    assert once == again
    first, second = render_patient(once, head), render_patient(again, head)
    assert all(torch.equal(first.scans[name], second.scans[name]) for name in ("t1", "ct"))
    assert torch.equal(first.truth, second.truth)
    other = draw_patient(2, head, ("t1", "ct"), PLAIN)
    assert other.deformation != once.deformation
    assert other.physics != once.physics
    assert other.grid != once.grid


def test_a_contrast_does_not_depend_on_which_others_are_drawn(head):
    alone, among = (render_patient(draw_patient(3, head, names, PLAIN), head) for names in (("t2",), ("ct", "t2")))
    assert torch.equal(alone.scans["t2"], among.scans["t2"])


def test_a_patient_can_be_written_down(head):
    patient = draw_patient(4, head, CONTRASTS, Variation(lesions=1.0, metal=1.0, extracted=1.0))
    record = json.loads(json.dumps(dataclasses.asdict(patient), allow_nan=False))
    assert record["seed"] == 4
    assert record["lesions"]
    assert record["extraction"]["share"] > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        patient.seed = 5


def test_images_agree_with_the_grid_and_the_truth(pair):
    patient, images = pair
    assert {tuple(scan.shape) for scan in images.scans.values()} == {patient.grid.shape} == {tuple(images.truth.shape)}
    ct = images.scans["ct"]
    for name in ("white matter", "cerebrospinal fluid", "fat", "muscle"):
        if (images.truth == tissue_index(name)).sum() < 200:
            continue
        hu = patient.physics.hu[tissue_index(name)]
        assert float(ct[inner(images, name)].median()) == pytest.approx(hu, abs=25), name
    outside = ndimage.binary_erosion((images.truth == 0).numpy(), iterations=3)
    assert float(ct[torch.from_numpy(outside)].max()) == pytest.approx(-1000, abs=1)
    for name in ("t1", "t2", "pd", "flair"):
        assert float(images.scans[name][torch.from_numpy(outside)].max()) < 1e-3 * float(images.scans[name].max())


def test_contrasts_are_as_radiologists_know_them(pair):
    _, images = pair
    fluid, white = inner(images, "cerebrospinal fluid"), inner(images, "white matter")

    def ratio(name):
        return float(images.scans[name][fluid].median() / images.scans[name][white].median())

    assert 0.1 < ratio("t1") < 0.7
    assert ratio("t2") > 1.5
    assert ratio("flair") < 0.7
    assert float(images.scans["ct"][fluid].median()) < float(images.scans["ct"][white].median())


def test_composites_are_parted_into_skin_fat_and_muscle(pair):
    _, images = pair
    present = set(np.unique(images.truth.numpy()))
    assert {tissue_index(name) for name in ("skin", "fat", "muscle", "cortical bone", "marrow")} <= present
    assert not {tissue_index("scalp"), tissue_index("soft tissue")} & present
    depth = ndimage.distance_transform_edt((images.truth != 0).numpy(), 3.0)
    skin, fat = (np.median(depth[images.truth.numpy() == tissue_index(name)]) for name in ("skin", "fat"))
    assert skin < fat


def test_extraction_leaves_the_brain_alone(head):
    patient = draw_patient(6, head, ("t1", "ct"), Variation(spacing_mm=3.0, extracted=1.0))
    images = render_patient(patient, head)
    kept = images.scans["ct"] > -900.0
    assert float((images.scans["ct"][~kept]).max()) == -1000.0
    assert float((images.scans["t1"][~kept]).max()) == 0.0
    bone = (images.truth == tissue_index("cortical bone")) | (images.truth == tissue_index("fat"))
    assert not kept[bone].any()
    assert float(kept[inner(images, "white matter")].float().mean()) == 1.0


def test_an_extracted_brain_has_no_hole_where_its_ventricles_are(head):
    for seed in range(4):
        patient = draw_patient(seed, head, ("t2",), Variation(spacing_mm=3.0, lesions=0.0, extracted=1.0))
        images = render_patient(patient, head)
        ventricle = ndimage.binary_erosion((images.truth == tissue_index("cerebrospinal fluid")).numpy(), iterations=2)
        k = int(np.argmax(ventricle.sum(axis=(0, 1))))
        assert ventricle[..., k].sum() > 5
        kept = (images.scans["t2"] > 0).numpy()
        assert kept[..., k][ventricle[..., k]].all()
        assert np.array_equal(ndimage.binary_fill_holes(kept[..., k]), kept[..., k])


@pytest.mark.parametrize("extracted", [0.0, 1.0])
def test_only_what_a_grid_shows_is_painted_and_nothing_of_it_is_missing(head, monkeypatch, extracted):
    patient = quiet(draw_patient(11, head, ("t1", "ct"), Variation(spacing_mm=3.0, extracted=extracted)))
    patient = dataclasses.replace(
        patient,
        grid=patient.grid.part((slice(5, 50), slice(0, patient.grid.shape[1]), slice(10, 30))),
        deformation=dataclasses.replace(patient.deformation, coarse_mm=2.4, fine_mm=0.8),
    )
    painted = []
    paint = medcyclegan.synthesis.patient.paint_anatomy
    monkeypatch.setattr(
        "medcyclegan.synthesis.patient.paint_anatomy",
        lambda part, anatomy: painted.append(part.tissues.numel()) or paint(part, anatomy),
    )
    images = render_patient(patient, head, truth=False)
    for name in ("seen_box", "brain_box"):
        monkeypatch.setattr(
            f"medcyclegan.synthesis.patient.{name}",
            lambda grid, whole, _, name=name: tuple(
                slice(0, n) for n in (grid.shape if name == "brain_box" else whole.tissues.shape)
            ),
        )
    whole = render_patient(patient, head, truth=False)
    assert painted[0] < 0.75 * painted[1]
    assert torch.allclose(images.scans["t1"], whole.scans["t1"], rtol=1e-3, atol=1e-3 * float(whole.scans["t1"].max()))
    assert torch.allclose(images.scans["ct"], whole.scans["ct"], atol=1.0)


def test_fluid_is_brighter_than_air_in_every_t1(head):
    for seed in range(25):
        patient = draw_patient(seed, head, ("t1",), PLAIN)
        images = render_patient(patient, head)
        scan, air = images.scans["t1"], images.truth == 0
        fluid, white = (scan[inner(images, name)] for name in ("cerebrospinal fluid", "white matter"))
        assert float(fluid.median()) > float(scan[air].quantile(0.9)), seed
        assert float(fluid.median()) > 0.04 * float(white.median()), seed


def test_clean_images_are_those_without_noise_and_bias(head):
    patient = draw_patient(7, head, ("t1",), PLAIN)
    noisy = render_patient(patient, head, clean=True, truth=False)
    still = render_patient(quiet(patient), head, clean=True, truth=False)
    assert torch.equal(noisy.clean["t1"], still.clean["t1"])
    assert torch.allclose(still.clean["t1"], still.scans["t1"], rtol=1e-3, atol=0.1)
    assert not torch.allclose(noisy.clean["t1"], noisy.scans["t1"], rtol=0.05)
    assert noisy.truth is None


@pytest.mark.parametrize(
    ("tissue", "t1", "t2", "hu"),
    [
        ("plaque", -1, 1, -1), ("cavity", -1, 1, -1), ("infarct", -1, 1, -1), ("acute haemorrhage", -1, -1, 1),
        ("subacute haemorrhage", 1, 1, 1), ("calcification", -1, -1, 1),
    ],
)  # fmt: skip
def test_a_lesion_changes_each_contrast_in_its_own_way(head, tissue, t1, t2, hu):
    patient = quiet(draw_patient(8, head, ("t1", "t2", "ct"), PLAIN))
    within = ("white matter", "grey matter")
    lesion = Lesion(tissue, (30.0, 30.0, 20.0), (16.0, 16.0, 16.0), 0.0, 1.0, within, 1)
    without, images = (render_patient(dataclasses.replace(patient, lesions=own), head) for own in ((), (lesion,)))
    where = inner(images, tissue)
    volume_mm3 = float((images.truth == tissue_index(tissue)).sum()) * 27
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 16**3, rel=0.35), "deformed, and cut by other tissues"
    for name, sign in (("t1", t1), ("t2", t2), ("ct", hu)):
        change = float((images.scans[name] - without.scans[name])[where].median())
        assert np.sign(change) == sign, name
    far = torch.from_numpy(ndimage.distance_transform_edt((images.truth != tissue_index(tissue)).numpy()) > 4)
    assert torch.allclose(images.scans["ct"][far], without.scans["ct"][far], atol=1e-2)


def test_lesions_are_drawn_of_every_kind_and_only_where_they_belong(head):
    kinds = set()
    for seed in range(80):
        patient = draw_patient(seed, head, ("t1",), Variation(lesions=1.0))
        kinds |= {lesion.tissue for lesion in patient.lesions}
        assert patient.lesions
    assert kinds >= {
        "plaque",
        "tumour",
        "oedema",
        "necrosis",
        "infarct",
        "cavity",
        "acute haemorrhage",
        "calcification",
    }
    assert not draw_patient(0, head, ("t1",), Variation(lesions=0.0)).lesions


def test_metal_is_bright_in_ct_with_streaks_and_black_in_mr(head):
    patient = quiet(draw_patient(9, head, ("t1", "ct"), PLAIN))
    filling = Filling((0.0, 40.0, 10.0), 3.0, 600.0, 12.0, 4)
    without, images = (render_patient(dataclasses.replace(patient, fillings=own), head) for own in ((), (filling,)))
    place = tuple(
        round((mm - start) / spacing)
        for mm, start, spacing in zip(filling.centre_mm, patient.grid.origin_mm, patient.grid.spacing_mm, strict=True)
    )
    assert float(images.scans["ct"][place]) == 3071.0
    streaks = (images.scans["ct"] - without.scans["ct"])[:, :, place[2]]
    assert float(streaks.std()) > 30
    assert float((images.scans["ct"] - without.scans["ct"])[:, :, 0].abs().max()) < 1
    assert float(images.scans["t1"][place]) < 0.1 * float(without.scans["t1"][place])


def test_grids_are_those_that_scanners_use(head):
    grids = [draw_patient(seed, head, ("t1",)).grid for seed in range(60)]
    spacings = np.array([grid.spacing_mm for grid in grids])
    isotropic = np.ptp(spacings, axis=1) < 0.01
    assert 15 < isotropic.sum() < 40
    assert (spacings[~isotropic].max(axis=1) >= 1.5).all()
    assert all(np.prod(grid.shape) <= 2.1e7 for grid in grids)
    asked = draw_patient(0, head, ("t1",), Variation(spacing_mm=2.0)).grid
    assert asked.spacing_mm == (2.0, 2.0, 2.0)


def test_what_cannot_be_drawn_is_refused(head):
    with pytest.raises(UsageError, match="contrasts t3: choose from t1, t2, pd, flair, ct"):
        draw_patient(0, head, ("t1", "t3"))
    with pytest.raises(UsageError, match="seed -1"):
        draw_patient(-1, head, ("t1",))
    with pytest.raises(UsageError, match=r"lesions 1\.5"):
        Variation(lesions=1.5)
    with pytest.raises(UsageError, match=r"spacing_mm 0\.1"):
        Variation(spacing_mm=0.1)


def test_a_map_of_the_brain_alone_is_drawn_without_a_skull():
    labels = np.where(np.isin(label_array(), (507, 511, 515, 512, 506)), 0, label_array())
    head = build_head(label_volume(labels))
    images = render_patient(draw_patient(1, head, ("t1",), PLAIN), head)
    names = {TISSUES[n].name for n in np.unique(images.truth.numpy())}
    assert "white matter" in names
    assert not names & {"fat", "skin", "muscle", "cortical bone"}


class TestStandardPatient:
    def test_its_contrast_does_not_depend_on_the_protocol_that_was_drawn(self, head):
        ratios = {name: [] for name in ("t1", "t2", "flair")}
        for seed in range(4):
            drawn = draw_patient(seed, head, tuple(ratios))
            patient = standard_patient(drawn)
            assert patient.grid == drawn.grid
            assert patient.anatomy == drawn.anatomy
            for protocol in patient.protocols:
                values, _ = tissue_values(protocol, draw_patient(0, head, ("t1",)).physics)
                grey, white = (float(values[tissue_index(tissue)]) for tissue in ("grey matter", "white matter"))
                ratios[protocol.name].append(grey / white)
        for name, low, high in (("t1", 0.5, 0.9), ("t2", 1.2, 1.9), ("flair", 1.05, 1.7)):
            assert len(set(ratios[name])) == 1
            assert low < ratios[name][0] < high

    def test_ct_stays_as_it_is(self, head):
        patient = draw_patient(3, head, ("ct",))
        assert standard_patient(patient) == patient


def test_most_extracted_t1_and_nothing_else_have_an_offset(head):
    """Only there: around a whole head, black fluid could not be distinguished from air."""
    patients = [
        draw_patient(seed, head, ("t1", "t2"), Variation(extracted=extracted))
        for extracted in (0.0, 1.0)
        for seed in range(60)
    ]
    offsets = [[one.subtracted for one in patient.acquisitions] for patient in patients]
    assert all(offset == [0.0, 0.0] for offset in offsets[:60])
    assert all(t2 == 0.0 for _, t2 in offsets)
    assert 24 < sum(t1 > 0 for t1, _ in offsets[60:]) < 48


def test_fluid_is_black_after_the_offset(head):
    variation = Variation(spacing_mm=3.0, extracted=1.0, lesions=0.0)
    black = {True: [], False: []}
    for seed in range(24):
        patient = draw_patient(seed, head, ("t1", "ct"), variation)
        even = {"bias": 0.0, "surface": 0.0, "fade_mm": None}
        patient = dataclasses.replace(
            patient, acquisitions=tuple(dataclasses.replace(one, **even) for one in patient.acquisitions)
        )
        images = render_patient(patient, head)
        scan, kept = images.scans["t1"], images.scans["ct"] > -900.0
        fluid = kept & inner(images, "cerebrospinal fluid")
        if fluid.any():
            ratio = float(scan[fluid].quantile(0.1) / scan[inner(images, "white matter")].median())
            black[patient.acquisitions[0].subtracted > 0].append(ratio)
    assert np.median(black[True]) < 0.1 < 0.2 < np.median(black[False])
