"""Changed copies are alike; scans of two people, and two scans of one object, are not."""

import numpy as np
import pytest
from scipy import ndimage
from support.phantoms import head_ct, head_mr, linear_volume, make_affine

from medcyclegan.phantom import make_head, t1_volume, t2_volume
from medcyclegan.slicing.patients.likeness import describe_likeness, find_alike
from medcyclegan.volume import Volume

RANDOM = np.random.default_rng(0)


def head(seed):
    volume = t1_volume(make_head(seed, shape=(60, 72, 30), spacing_mm=(3.0, 3.0, 5.0)))
    return volume.replace(array=volume.array + RANDOM.normal(0, 4, volume.shape).astype(np.float32))


HEADS = [head(seed) for seed in range(4)]
CHANGES = {
    "whole numbers": lambda v: v.replace(array=np.rint(v.array).astype(np.int16)),
    "another unit": lambda v: v.replace(array=v.array * 2.5 + 7),
    "8 bits": lambda v: v.replace(array=np.rint(np.clip(v.array / v.array.max(), 0, 1) * 255).astype(np.uint8)),
    "clipped": lambda v: v.replace(array=np.minimum(v.array, np.percentile(v.array, 99))),
    "a little noise": lambda v: v.replace(array=v.array + RANDOM.normal(0, 0.01 * v.array.std(), v.shape)),
    "a little smoothed": lambda v: v.replace(array=ndimage.gaussian_filter(v.array, 0.4)),
    "a changed voxel": lambda v: v.replace(array=np.where(np.indices(v.shape).sum(0) == 60, 0, v.array)),
    "another header": lambda v: v.replace(affine=make_affine("RAS", (1.0, 1.0, 2.0)), modality=None),
    "turned axes": lambda v: v.replace(
        array=np.ascontiguousarray(v.array.transpose(2, 0, 1)), affine=v.affine[:, [2, 0, 1, 3]]
    ),
    "flipped axes": lambda v: v.replace(
        array=np.ascontiguousarray(v.array[::-1]),
        affine=v.affine @ np.array([[-1, 0, 0, v.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ),
}


def alike(*volumes):
    return find_alike([describe_likeness(volume) for volume in volumes])


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found(change):
    assert alike(*HEADS, CHANGES[change](HEADS[2])) == [(2, 4)]


def test_people_and_contrasts_are_not_alike():
    others = [t2_volume(make_head(seed, shape=(60, 72, 30), spacing_mm=(3.0, 3.0, 5.0))) for seed in range(4)]
    assert alike(*HEADS, *others) == []


@pytest.mark.parametrize("shape", [(24, 28, 16), (40, 48, 24), (96, 96, 48), (40, 48, 1)])
@pytest.mark.parametrize("phantom", [head_mr, head_ct])
def test_two_scans_of_one_object_are_not_alike(phantom, shape):
    assert alike(*(phantom(shape, seed=seed) for seed in range(4))) == []
    assert alike(phantom(shape, seed=1), phantom(shape, seed=2), phantom(shape, seed=1)) == [(0, 2)]


def test_what_is_connected_need_not_be_named_twice():
    places = alike(HEADS[0], HEADS[1], HEADS[0], HEADS[0], HEADS[1])
    assert places == [(0, 2), (0, 3), (1, 4)]


def test_without_noise_the_parts_count():
    one, other = ((1, 2, 3), (3, -2, 1))
    ramps = [linear_volume((20, 24, 10), make_affine("RAS"), coefficients=c) for c in (one, one, other)]
    assert alike(*ramps) == [(0, 1)]


@pytest.mark.parametrize("array", [np.zeros((30, 30, 4)), np.full((30, 30, 4), 7.0)])
def test_empty_images_are_compared_with_nothing(array):
    almost = array.copy()
    almost[3, 3, 2] = 100.0
    volume = Volume(array, make_affine("LPS"))
    assert describe_likeness(volume) == ""
    assert alike(volume, volume, volume.replace(array=almost), volume.replace(array=almost)) == []


def test_the_description_is_short_and_the_same_for_any_type():
    text = describe_likeness(HEADS[0])
    assert len(text) < 1100
    assert describe_likeness(HEADS[0].replace(array=HEADS[0].array.astype(np.float64))) == text


@pytest.mark.parametrize("text", ["", "x", "8x8x8:", "8x8x8:????", "8xx8:AAAA", "0x8x8:AAAA", "-1x8x8:AAAA"])
def test_a_damaged_description_is_like_nothing(text):
    assert find_alike([text, describe_likeness(HEADS[0]), text + "A", describe_likeness(HEADS[1])]) == []


def test_many_are_compared_in_blocks():
    texts = [describe_likeness(head_mr((20, 24, 8), seed=seed)) for seed in range(40)]
    texts += [describe_likeness(HEADS[0])] * 2
    many = [*texts, *(text[:-4] + text[-4:][::-1] for text in texts[:600]), texts[5]]
    assert (5, len(many) - 1) in find_alike(many)
