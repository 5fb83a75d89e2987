import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from support.phantoms import GRIDS, TILTED_GRID, head_ct, head_mr, linear_values

from medcyclegan.errors import GeometryError, IntensityError
from medcyclegan.intensity import IntensityScaling
from medcyclegan.slicing import AxialOrientationd, AxialSlicesd, PlaneFitd, ScaleToMinusOneOned

EVERY_GRID = {**GRIDS, "tilted": TILTED_GRID}


def as_meta(array, affine):
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(array))[None], affine=torch.from_numpy(np.array(affine)))


def chain(low, high, **plane):
    return Compose(
        [ScaleToMinusOneOned("image", value_range=(low, high)), AxialOrientationd("image"), PlaneFitd("image", **plane)]
    )


@pytest.mark.parametrize("name", EVERY_GRID)
def test_there_and_back_on_a_linear_volume(name):
    grid = EVERY_GRID[name]
    values = linear_values(grid.shape, grid.affine).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    steps = chain(low, high, size=64, pixel_mm=0.5)
    there = steps({"image": as_meta(values, grid.affine)})
    assert there["image"].shape == (1, 64, 64, there["image"].shape[3])
    back = steps.inverse(there)["image"]
    assert back.shape[1:] == grid.shape
    assert np.allclose(back.affine.numpy(), grid.affine, atol=1e-9)
    # Enlarged and averaged back, a linear ramp is restored except within a pixel of the edge of the field of view.
    inner = tuple(slice(2, -2) if n > 4 else slice(None) for n in grid.shape)
    assert np.abs(back[0].numpy() - values)[inner].max() < 5e-3 * (high - low)


def test_the_plane_knows_its_place():
    grid = GRIDS["oblique"]
    values = linear_values(grid.shape, grid.affine).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    there = chain(low, high, size=64, pixel_mm=0.5)({"image": as_meta(values, grid.affine)})
    plane = IntensityScaling("range", low, high, "").denormalize(there["image"].numpy()[0])
    expected = linear_values(plane.shape, there["image"].affine.numpy())
    rows, columns = (
        slice(s + 4, s + r - 4) for s, r in zip(there["image_fit"].start, there["image_fit"].resized, strict=True)
    )
    assert np.abs(plane - expected)[rows, columns].max() < 1e-3


def test_slices_with_the_patient_are_kept():
    ct = head_ct()
    array = ct.array.copy()
    array[:, :, :3] = -1000
    result = Compose(
        [
            ScaleToMinusOneOned("image", "CT"),
            AxialOrientationd("image"),
            PlaneFitd("image", 64, pixel_mm=4.0),
            AxialSlicesd("image"),
        ]
    )({"image": as_meta(array, ct.affine)})
    assert result["image"].shape == (len(result["image_slices"]), 64, 64)
    assert min(result["image_slices"]) >= 3
    assert result["image"].min() == -1
    assert result["image_scaling"].unit == "HU"


def test_the_inverse_unscales_by_the_target_domain():
    mr = head_mr()
    hu = IntensityScaling("window", -1024.0, 3071.0, "HU")
    steps = Compose([ScaleToMinusOneOned("image", "MR", target=hu)])
    there = steps({"image": as_meta(mr.array.astype(np.float32), mr.affine)})
    there["image"][...] = -1.0
    assert torch.all(steps.inverse(there)["image"] == -1024)


def test_a_wide_field_of_view_is_cut_around_the_patient():
    array = np.full((600, 500, 2), -1000, np.int16)
    array[400:520, 300:400] = 40
    meta = as_meta(array, np.diag([-1.0, -1.0, 3.0, 1.0]))
    steps = [ScaleToMinusOneOned("image", "CT"), AxialOrientationd("image")]
    cut = Compose([*steps, PlaneFitd("image", 256)])({"image": meta})
    assert cut["image"].shape == (1, 256, 256, 2)
    assert (cut["image"] > -0.6).sum() == 120 * 100 * 2, "all of the patient is inside"
    whole = Compose([*steps, PlaneFitd("image", 256, cut=False)])({"image": meta})
    assert whole["image"].shape == (1, 500, 600, 2)


def test_bad_input_is_refused():
    ct = head_ct()
    nan = ct.array.astype(np.float32)
    nan[0, 0, 0] = np.nan
    with pytest.raises(IntensityError, match="NaN"):
        ScaleToMinusOneOned("image", "CT")({"image": as_meta(nan, ct.affine)})
    with pytest.raises(GeometryError, match="MetaTensor"):
        PlaneFitd("image")({"image": torch.zeros(1, 4, 4, 4)})
