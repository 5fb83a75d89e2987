"""Synthetic heads: plausible anatomy, contrasts that follow from physics, the same head from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medcyclegan.errors import UsageError
from medcyclegan.phantom import TISSUES, ct_volume, make_head, spin_echo, t1_volume, t2_volume, tissue_index

SEEDS = (0, 1, 2, 3)


@pytest.fixture(scope="module", params=SEEDS)
def head(request):
    return make_head(request.param)


def voxels(head, name):
    """Return where a tissue fills nearly the whole voxel and its in-plane neighbors."""
    full = head.fractions[tissue_index(name)] > 0.98
    return ndimage.binary_erosion(full, np.ones((3, 3, 1)))


def mean(volume, where):
    assert where.sum() >= 5
    return float(volume.array[where].mean())


def test_fractions_sum_to_one(head):
    np.testing.assert_allclose(head.fractions.sum(axis=0), 1, atol=1e-5)
    assert head.fractions.min() >= 0


def test_volumes_of_the_tissues_are_those_of_an_adult(head):
    litre = head.fractions.reshape(len(TISSUES), -1).sum(axis=1) * 16e-6
    volume = {tissue.name: value for tissue, value in zip(TISSUES, litre, strict=True)}
    assert 0.45 < volume["grey matter"] < 1.0
    assert 0.35 < volume["white matter"] < 0.95
    assert 0.12 < volume["csf"] < 0.65, "wide sulci: the upper end of an old brain"
    assert 0.02 < volume["deep grey matter"] < 0.06
    assert volume["diploe"] > 0.05
    assert (volume["lesion"] > 0.0003) == head.lesion


def test_each_layer_is_inside_the_next(head):
    """From the middle of the vertex outwards: brain, fluid, bone, marrow, bone, scalp, air."""
    labels = head.labels
    names = np.array([tissue.name for tissue in TISSUES])
    i, j, k = (labels.shape[0] // 2, labels.shape[1] // 2, 22)
    ray = [names[index] for index in labels[i:, j, k]]
    order = [name for n, name in enumerate(ray) if n == 0 or name != ray[n - 1]]
    assert order[-1] == "air"
    assert order[-2] in ("muscle", "fat")
    assert "bone" in order
    assert order.index("csf") < order.index("bone")
    assert head.fractions[tissue_index("air"), 0].min() == 1
    assert head.fractions[tissue_index("air"), :, 0].min() == 1


def test_the_cortex_is_folded(head):
    """A slice through the hemispheres has far more boundary between cortex and fluid than a smooth brain would."""
    plane = head.fractions[:, :, :, 26]
    grey = plane[tissue_index("grey matter")] + plane[tissue_index("white matter")]
    fluid = plane[tissue_index("csf")]
    boundary = np.count_nonzero((grey > 0.2) & (fluid > 0.2))
    outline = ndimage.binary_fill_holes(grey + fluid > 0.5)
    smooth = np.count_nonzero(outline & ~ndimage.binary_erosion(outline))
    assert boundary > 1.5 * smooth


def test_contrast_of_t1_t2_and_ct(head):
    white, grey, fluid = voxels(head, "white matter"), voxels(head, "grey matter"), voxels(head, "csf")
    t1, t2, ct = t1_volume(head), t2_volume(head), ct_volume(head)
    assert mean(t1, white) > 1.1 * mean(t1, grey)
    assert mean(t1, grey) > 1.3 * mean(t1, fluid)
    assert mean(t2, fluid) > 1.7 * mean(t2, grey)
    assert mean(t2, grey) > 1.1 * mean(t2, white)
    assert mean(ct, white) == pytest.approx(28, abs=3)
    assert mean(ct, fluid) == pytest.approx(8, abs=4)
    assert mean(ct, voxels(head, "air")) == pytest.approx(-1000, abs=3)
    assert ct.array.max() > 1000
    assert (t1.modality, t2.modality, ct.modality) == ("MR", "MR", "CT")
    assert (t1.array.dtype, ct.array.dtype) == (np.float32, np.int16)


def test_a_lesion_is_dark_in_t1_and_bright_in_t2():
    head = make_head(5, lesion=True)
    lesion, white = voxels(head, "lesion"), voxels(head, "white matter")
    assert mean(t1_volume(head), lesion) < 0.85 * mean(t1_volume(head), white)
    assert mean(t2_volume(head), lesion) > 1.6 * mean(t2_volume(head), white)
    without = make_head(5, lesion=False)
    assert not without.fractions[tissue_index("lesion")].any()
    same = np.count_nonzero(head.labels == without.labels) / head.labels.size
    assert same > 0.99


def test_noise_is_rician_in_mr():
    """In air a Rician magnitude has mean sqrt(pi / 2) and deviation sqrt(2 - pi / 2) times the noise's sigma."""
    head = make_head(3)
    air = ndimage.binary_erosion(head.fractions[tissue_index("air")] == 1, iterations=3)
    values = t1_volume(head).array[air]
    assert values.mean() / values.std() == pytest.approx(np.sqrt(np.pi / 2) / np.sqrt(2 - np.pi / 2), rel=0.02)


def test_the_same_seed_is_the_same_head_and_another_is_not():
    first, again, other = make_head(7), make_head(7), make_head(8)
    np.testing.assert_array_equal(first.fractions, again.fractions)
    np.testing.assert_array_equal(t2_volume(first).array, t2_volume(again).array)
    assert np.mean(first.labels != other.labels) > 0.1


def test_a_head_is_not_symmetric():
    labels = make_head(2).labels
    assert np.mean(labels != labels[::-1]) > 0.1


def test_the_same_head_is_in_the_same_place_on_another_grid():
    right_anterior = make_head(4)
    left_posterior = make_head(4, orientation="LPS")
    assert np.diag(left_posterior.affine).tolist() == [-2, -2, 4, 1]
    np.testing.assert_allclose(left_posterior.fractions[:, ::-1, ::-1], right_anterior.fractions, atol=2e-3)
    coarse = make_head(4, shape=(48, 60, 40), spacing_mm=(4, 4, 4))
    for name in ("white matter", "csf"):
        index = tissue_index(name)
        centre = [
            (one.affine @ [*ndimage.center_of_mass(one.fractions[index]), 1])[:3] for one in (right_anterior, coarse)
        ]
        np.testing.assert_allclose(centre[0], centre[1], atol=1.0)


def test_the_spin_echo_equation():
    signal = spin_echo(np.array([0.8]), np.array([500.0]), np.array([70.0]), tr_ms=500.0, te_ms=70.0)
    assert signal[0] == pytest.approx(0.8 * (1 - np.exp(-1)) * np.exp(-1))


def test_a_negative_seed_is_refused():
    with pytest.raises(UsageError, match="seed -1"):
        make_head(-1)
