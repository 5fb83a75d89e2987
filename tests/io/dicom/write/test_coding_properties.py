"""Properties of every written volume: it is read back on its grid, and its DICOM values fit into 16 bits."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import affines, shapes

from medcyclegan import read_volume, write_volume
from medcyclegan.io.dicom.write.coding import find_coding
from medcyclegan.io.nifti.affine import corner_distance
from medcyclegan.volume import Volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("written")


@given(
    shape=shapes, affine=affines(), seed=st.integers(0, 99), ending=st.sampled_from([".nii", ".nii.gz"]),
    kind=st.sampled_from(["int16", "uint8", "float32", "uint16"]), modality=st.sampled_from([None, "CT", "MR"]),
)  # fmt: skip
def test_any_volume_comes_back_on_its_grid(shape, affine, seed, ending, kind, modality, folder):
    array = (np.random.default_rng(seed).random(shape) * 250).astype(kind)
    volume = Volume(array, affine, modality=modality)
    write_volume(volume, folder / f"v{ending}", overwrite=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = read_volume(folder / f"v{ending}")
    assert np.array_equal(back.array, np.rint(array) if modality == "CT" else array)
    assert np.abs(back.affine - affine).max() <= 2e-7 * np.abs(affine).max()


@given(
    values=st.lists(st.floats(-1e7, 1e7, width=32), min_size=1, max_size=24),
    gain=st.sampled_from([1.0, 1e-3, 1e3]),
)
def test_any_mr_fits_in_16_bits_to_within_half_a_step(values, gain):
    array = (gain * np.array(values)).reshape(-1, 1, 1)
    coding = find_coding(Volume(array, np.eye(4), modality="MR"))
    stored = coding.to_stored(array)
    assert np.abs(stored - array * 10.0**coding.exponent).max() <= 0.5 + 1e-6
    peak = np.abs(array).max()
    if peak > 0 and coding.exponent:
        assert np.abs(stored.astype(np.int64)).max() >= 3000, "what was scaled uses most of the bits"


@given(affine=affines(), other=affines(), shape=shapes)
def test_the_distance_of_grids_is_that_of_their_farthest_corner(affine, other, shape):
    assert corner_distance(affine, affine, shape) == 0
    moved = affine.copy()
    moved[:3, 3] += affine[:3, 0]
    assert corner_distance(affine, moved, shape) == pytest.approx(1.0), "by one voxel along the first axis"
    assert corner_distance(affine, other, shape) >= 0
