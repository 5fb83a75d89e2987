"""A label map becomes a labelled head, or is refused in a line that says why."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from support.label_phantoms import SPACING, label_array, label_volume
from support.phantoms import make_affine

from medcyclegan.errors import GeometryError, IntensityError
from medcyclegan.synthesis import FREESURFER, build_head
from medcyclegan.synthesis.distances import distance_to, grow_within
from medcyclegan.synthesis.head import check_head
from medcyclegan.synthesis.tissues import tissue_index
from medcyclegan.volume import Volume

BOTH = [build_head, check_head]


def refusal(build, volume, error):
    with pytest.raises(error) as caught:
        build(volume)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("build", BOTH)
class TestRefusals:
    def test_unknown_labels_are_named_with_their_number_of_voxels(self, build):
        labels = label_array()
        labels[24, 28, 30:33], labels[20, 20, 20] = 777, 901
        message = refusal(build, label_volume(labels), IntensityError)
        assert "777 (3 voxels), 901 (1 voxels)" in message
        assert "--labels-table" in message

    def test_values_that_are_no_whole_numbers(self, build):
        labels = label_array().astype(np.float32)
        labels[10, 10, 10] = 3.5
        assert "1 values of the label map are not whole numbers, such as 3.5" in refusal(
            build, label_volume(labels), IntensityError
        )

    def test_negative_labels(self, build):
        assert "from -1 to 515" in refusal(
            build, label_volume(np.where(label_array() == 511, -1, label_array())), IntensityError
        )

    def test_no_brain(self, build):
        labels = np.where(np.isin(label_array(), (2, 3, 41, 42, 12, 51)), 507, label_array())
        assert "0 cm3 of grey and white matter" in refusal(build, label_volume(labels), IntensityError)

    def test_two_heads(self, build):
        labels = np.concatenate([label_array(), label_array()])
        assert "two separate brains" in refusal(build, label_volume(labels), IntensityError)

    def test_a_brain_apart_from_the_skull(self, build):
        labels = np.where(label_array() == 24, 0, label_array())
        message = refusal(build, label_volume(labels), IntensityError)
        assert "brain is not connected to the larger rest: give what lies between them, such as fluid" in message

    def test_oblique(self, build):
        volume = label_volume(rotation_degrees=(0.0, 0.0, 9.0))
        assert "rotated by 9.0 degrees" in refusal(build, volume, GeometryError)

    def test_a_single_slice(self, build):
        assert "48x56x1 voxels" in refusal(build, label_volume(label_array()[:, :, 30:31]), GeometryError)

    def test_voxels_too_large_for_cortex(self, build):
        volume = Volume(label_array()[::2, ::2, ::2], make_affine("RAS", (8.0, 8.0, 8.0)))
        assert "voxels of 8x8x8 mm" in refusal(build, volume, GeometryError)


def test_the_head_does_not_depend_on_the_order_of_the_array(head):
    labels = label_array()
    turned = np.ascontiguousarray(labels.transpose(2, 0, 1)[::-1, ::-1, :])  # I, L, A
    other = build_head(label_volume(turned, "ILA"))
    assert torch.equal(head.tissues, other.tissues)
    assert torch.equal(head.depth_mm, other.depth_mm)
    assert head.centre == pytest.approx(other.centre)


def test_the_brain_is_the_origin_and_extents_are_in_mm(head):
    for low, high in head.extent_mm(("grey matter", "white matter"))[:2]:
        assert low == pytest.approx(-high, abs=SPACING)
    whole, brain = head.extent_mm(), head.extent_mm(("grey matter",))
    assert all(w[0] < b[0] < b[1] < w[1] for w, b in zip(whole, brain, strict=True))
    assert brain[0][1] - brain[0][0] == pytest.approx(124, abs=2 * SPACING)


def test_what_is_not_connected_to_the_head_is_left_out(head):
    labels = label_array()
    labels[:2, :2, :2] = 24
    other = build_head(label_volume(labels))
    assert torch.equal(head.tissues, other.tissues)


def test_hemispheres_that_do_not_touch_are_one_head():
    brain = np.where(np.isin(label_array(), (2, 3, 41, 42, 4, 43, 12, 51)), label_array(), 0)
    halves = np.insert(brain, 24, 0, axis=0)
    head = build_head(label_volume(halves))
    assert int((head.tissues != 0).sum()) == np.count_nonzero(brain), "both hemispheres, though they do not touch"


def test_bubbles_of_air_in_bone_become_bone_and_sinuses_stay():
    labels = label_array()
    bone = np.argwhere(ndimage.binary_erosion(labels == 515))
    # One voxel of a map of 2 mm is 8 mm3; the air of a sinus is larger.
    fine = np.kron(labels, np.ones((2, 2, 2), np.int32))
    speck = 2 * bone[len(bone) // 2]
    fine[tuple(speck)] = 0
    fine[48:56, 88:96, 40:48] = 0
    head = build_head(Volume(fine, make_affine("RAS", (2.0, 2.0, 2.0))))
    air = head.tissues == 0
    pieces, count = ndimage.label(air.numpy())
    assert count == 2, "the outside and the sinus"
    assert np.bincount(pieces.ravel())[2] == 512


def test_depths_tell_where_in_its_layer_a_voxel_lies(head):
    tissues, depth = head.tissues.numpy(), head.depth_mm.float().numpy()
    bone = np.isin(tissues, (tissue_index("cortical bone"), tissue_index("marrow")))
    expected = ndimage.distance_transform_edt(bone, head.spacing_mm).clip(max=14) - 2.0
    assert np.abs(depth - expected)[bone].max() < 0.1
    scalp = tissues == tissue_index("scalp")
    expected = ndimage.distance_transform_edt(tissues != 0, head.spacing_mm).clip(max=14) - 2.0
    assert np.abs(depth - expected)[scalp].max() < 0.1


def test_the_fingerprint_follows_values_place_and_table(head):
    changed = label_array()
    changed[24, 28, 30] = 3
    others = [
        build_head(label_volume(changed)),
        build_head(label_volume(origin=(0.0, 0.0, 0.0))),
        build_head(label_volume(), {**FREESURFER, 1: "fat"}),
    ]
    assert len({head.sha256, *(other.sha256 for other in others)}) == 4
    assert build_head(label_volume()).sha256 == head.sha256


def test_distances_are_those_of_scipy_as_far_as_they_reach():
    mask = np.random.default_rng(0).random((20, 24, 17)) > 0.99
    spacing = (1.0, 1.5, 2.5)
    expected = ndimage.distance_transform_edt(~mask, spacing).clip(max=9)
    found = distance_to(torch.from_numpy(mask), spacing, 9.0).numpy()
    assert np.abs(found - expected).max() < 0.1


def test_growth_stays_inside_and_ends_after_its_steps():
    within = torch.zeros(9, 9, 9, dtype=torch.bool)
    within[:, 4, 4] = True
    seeds = torch.zeros_like(within)
    seeds[0, 4, 4] = True
    assert grow_within(seeds, within, 3).sum() == 4
    assert grow_within(seeds, within, 20).sum() == 9
    assert not grow_within(torch.zeros_like(within), within, 3).any()


def test_fluid_is_enclosed_where_brain_surrounds_it(head):
    tissues, enclosed = head.tissues.numpy(), head.enclosed.numpy()
    fluid = tissues == tissue_index("cerebrospinal fluid")
    x, y, z = (round(place) for place in head.centre)
    assert enclosed[x, y, z]
    assert not enclosed[~fluid].any()
    outermost = np.argmax(fluid[:, y, z])
    assert fluid[outermost, y, z]
    assert not enclosed[outermost, y, z]
