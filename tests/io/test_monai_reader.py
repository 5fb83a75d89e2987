"""VolumeReader in a MONAI Compose returns the same array and affine, and no other reader replaces it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirst, LoadImage, LoadImaged, Orientation
from support import dicom_phantoms as made
from support import phantoms

from medcyclegan.errors import GeometryError
from medcyclegan.io import read_volume
from medcyclegan.io.monai_reader import VolumeReader

#: MONAI's own readers, registered by every LoadImage, say that an optional one is absent.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")


def test_load_image_gives_the_same_array_and_affine(tmp_path):
    affine = phantoms.make_affine("LPS", (0.9, 1.1, 2.5), origin=(5.0, 4.0, -10.0), rotation_degrees=(12, -7, 21))
    volume = made.placed_volume(affine=affine)
    made.save(made.slices_of(volume, intercept=-4096), tmp_path / "ct")
    loaded = LoadImage(reader=VolumeReader())(tmp_path / "ct")
    assert isinstance(loaded, MetaTensor)
    assert loaded.dtype == torch.float32
    np.testing.assert_array_equal(loaded.numpy(), volume.array)
    np.testing.assert_allclose(loaded.affine.numpy(), read_volume(tmp_path / "ct").affine)
    assert loaded.meta["modality"] == "CT"


def test_in_a_compose_the_axes_keep_their_places(tmp_path):
    volume = made.placed_volume(affine=phantoms.make_affine("PIR", (0.8, 0.7, 3.0)), shape=(14, 10, 9))
    made.save(made.slices_of(volume, intercept=-4096), tmp_path / "ct")
    chain = Compose([LoadImage(reader=VolumeReader()), EnsureChannelFirst(), Orientation(axcodes="RAS", labels=None)])
    turned = chain(tmp_path / "ct")
    values = phantoms.linear_values(turned.shape[1:], turned.affine.numpy(), made.COEFFICIENTS)
    assert np.abs(turned.numpy()[0] - values).max() <= 0.5001


def test_nifti_and_a_class_with_options(tmp_path):
    phantoms.write_nifti(phantoms.head_mr((8, 9, 4)), tmp_path / "a.nii.gz")
    loaded = LoadImaged("image", reader=VolumeReader, max_voxels=10_000)({"image": tmp_path / "a.nii.gz"})
    np.testing.assert_array_equal(loaded["image"].numpy(), phantoms.head_mr((8, 9, 4)).array)


def test_a_refusal_is_not_passed_to_laxer_readers(tmp_path):
    slices = made.slices_of(made.placed_volume())
    made.save(slices[:4] + slices[5:], tmp_path / "ct")
    with pytest.raises(GeometryError, match="a slice is missing"):
        LoadImage(reader=VolumeReader())(tmp_path / "ct")
    assert LoadImage(reader=VolumeReader(allow_gap=True))(tmp_path / "ct").shape == (12, 14, 10)


def test_several_paths_are_channels_on_one_grid(tmp_path):
    for name, shape in (("a", (8, 9, 4)), ("b", (8, 9, 4)), ("c", (8, 9, 5))):
        phantoms.write_nifti(phantoms.head_mr(shape), tmp_path / f"{name}.nii.gz")
    names = [tmp_path / f"{name}.nii.gz" for name in "abc"]
    assert LoadImage(reader=VolumeReader(), ensure_channel_first=True)(names[:2]).shape == (2, 8, 9, 4)
    with pytest.raises(GeometryError, match="are not on one grid"):
        LoadImage(reader=VolumeReader())(names)


def test_verify_suffix(tmp_path):
    phantoms.write_nifti(phantoms.head_mr((8, 9, 4)), tmp_path / "a.nii.gz")
    (tmp_path / "b.txt").write_text("no volume")
    assert VolumeReader().verify_suffix(tmp_path / "a.nii.gz")
    assert not VolumeReader().verify_suffix([tmp_path / "a.nii.gz", tmp_path / "b.txt"])
