import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.phantoms import GRIDS, TILTED_GRID, make_affine

from medcyclegan import Volume
from medcyclegan.errors import GeometryError
from medcyclegan.volume import Derivation


@pytest.mark.parametrize("name", GRIDS)
def test_orientation_and_spacing_are_those_of_the_affine(name):
    grid = GRIDS[name]
    volume = Volume(np.zeros(grid.shape), grid.affine)
    assert volume.orientation == "".join(nib.aff2axcodes(grid.affine))
    assert volume.spacing_mm == pytest.approx(nib.affines.voxel_sizes(grid.affine))
    assert volume.shear_degrees == pytest.approx(0, abs=1e-6)


def test_orientation_agrees_with_nibabel_on_any_affine():
    rng = np.random.default_rng(0)
    for seed in range(300):
        affine = np.eye(4)
        directions = Rotation.random(random_state=seed).as_matrix() * rng.choice([-1, 1], 3)
        shear = np.eye(3)
        shear[1, 2] = rng.normal(0, 0.3)
        affine[:3, :3] = directions @ shear * rng.uniform(0.5, 3, 3)
        assert Volume(np.zeros((2, 2, 2)), affine).orientation == "".join(nib.aff2axcodes(affine))


def test_tilt_and_obliqueness_are_reported():
    tilted = Volume(np.zeros((2, 2, 2)), TILTED_GRID.affine)
    assert tilted.shear_degrees == pytest.approx(15.0)
    oblique = Volume(np.zeros((2, 2, 2)), make_affine("LPS", rotation_degrees=(10, 0, 0)))
    assert oblique.oblique_degrees == pytest.approx(10.0)
    assert oblique.shear_degrees == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (np.zeros((2, 2)), np.eye(4), "three axes"),
        (np.zeros((2, 0, 2)), np.eye(4), "none of them empty"),
        (np.zeros((2, 2, 2)), np.eye(3), "4 x 4"),
        (np.zeros((2, 2, 2)), np.diag([1, 1, 0, 1]), "singular"),
        (np.zeros((2, 2, 2)), np.full((4, 4), np.nan), "finite"),
        (np.zeros((2, 2, 2)), np.diag([1, 1, 1, 2]), "last row"),
    ],
)
def test_what_is_no_volume_is_refused(array, affine, message):
    with pytest.raises(GeometryError, match=message):
        Volume(array, affine)


def test_the_affine_cannot_be_changed_in_place():
    affine = np.eye(4)
    volume = Volume(np.zeros((2, 2, 2)), affine)
    affine[0, 3] = 99
    assert volume.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 2


def test_the_repr_is_one_line_without_header_text():
    volume = Volume(np.zeros((4, 5, 6), np.int16), np.diag([0.5, 0.5, 3.0, 1.0]), source="Doe^John", notes=("Doe",))
    assert repr(volume) == "Volume(4 x 5 x 6 int16, 0.5 x 0.5 x 3 mm, RAS)"
    made = Derivation("ct", "mr", "CT", "0" * 64, "1", "1" * 64, record={"quality": {"verdict": "check"}})
    said = repr(volume.replace(modality="MR\nx", derivation=made))
    assert said == "Volume(4 x 5 x 6 int16, 0.5 x 0.5 x 3 mm, RAS, MR x, synthetic, quality check)"
