"""From NIfTI to DICOM: patient and study from a template, geometry from the volume, the frame only if shared."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation
from support import dicom_phantoms as made
from support import dicom_readback as peers
from support.phantoms import GRIDS, TILTED_GRID, Grid, linear_values, make_affine, write_nifti

from medcyclegan import Volume
from medcyclegan.errors import WriteError
from medcyclegan.io import read_volume, write_volume
from medcyclegan.io.write import SeriesOptions, check_writable

PLACE = Grid((12, 14, 10), make_affine("LPS", (0.9, 1.1, 2.5), rotation_degrees=(4.0, -7.0, 12.0)))
#: A value that tells its place and fits 16 bits 1.5 m from the origin.
COEFFICIENTS = (4.0, 6.0, 10.0)
needs_tools = pytest.mark.skipif(bool(peers.MISSING_TOOLS), reason=peers.MISSING_TOOLS or "all there")


def template(folder: Path, grid: Grid = PLACE) -> Path:
    slices = made.slices_of(made.placed_volume(grid.shape, grid.affine), intercept=-8192 * 4)
    for dataset in slices:
        dataset.ReferringPhysicianName = dataset.AccessionNumber = dataset.StudyID = ""
        dataset.PositionReferenceIndicator, dataset.BodyPartExamined = "", "HEAD"
    made.save(slices, folder)
    return folder


def placed(grid: Grid) -> Volume:
    values = linear_values(grid.shape, grid.affine, COEFFICIENTS)
    return Volume(np.rint(values).astype(np.int16), grid.affine, modality="CT")


def first(folder: Path) -> Dataset:
    return pydicom.dcmread(folder / "0001.dcm")


def misplaced(folder: Path) -> float:
    """Return the largest difference between a voxel's value and the value expected at its position."""
    found = read_volume(folder)
    return float(np.abs(found.array - linear_values(found.shape, found.affine, COEFFICIENTS)).max())


@pytest.mark.parametrize("flips", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("swap", [False, True])
def test_on_the_grid_of_the_template_regardless_of_the_axes(flips: tuple[int, ...], swap: bool, tmp_path: Path) -> None:
    """Axes may be flipped and reordered, as by dcm2niix; the output then refers to the template's slices."""
    folder = template(tmp_path / "template")
    volume = placed(PLACE)
    axes = (2, 0, 1) if swap else (0, 1, 2)
    array, affine = volume.array.transpose(axes), volume.affine[:, [*axes, 3]]
    for axis in flips:
        flip = np.eye(4)
        flip[axis, axis], flip[axis, 3] = -1, array.shape[axis] - 1
        array, affine = np.flip(array, axis), affine @ flip
    path = write_nifti(volume.replace(array=array, affine=affine), tmp_path / "in.nii")
    found = read_volume(path).replace(modality="CT")
    write_volume(found, tmp_path / "out", template=folder)
    source, image = pydicom.dcmread(folder / "IM0001.dcm"), first(tmp_path / "out")
    again = read_volume(tmp_path / "out")
    np.testing.assert_allclose(again.affine, PLACE.affine, atol=1e-4)
    np.testing.assert_array_equal(again.array, volume.array)
    assert image.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert image.StudyInstanceUID == source.StudyInstanceUID
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert image.SourceImageSequence[0].SpatialLocationsPreserved == "YES"


@needs_tools
@pytest.mark.parametrize("name", [*GRIDS, "tilted"])
def test_off_the_grid_of_the_template_it_has_another_frame(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = template(tmp_path / "template")
    grid = TILTED_GRID if name == "tilted" else GRIDS[name]
    with caplog.at_level(logging.WARNING, "medcyclegan"):
        write_volume(placed(grid), tmp_path / "out", template=folder)
    assert "new frame of reference" in caplog.text
    source, image = pydicom.dcmread(folder / "IM0001.dcm"), first(tmp_path / "out")
    assert image.FrameOfReferenceUID != source.FrameOfReferenceUID
    assert (image.PatientID, image.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    assert "SourceImageSequence" not in image
    assert "ReferencedSeriesSequence" not in image
    assert misplaced(tmp_path / "out") <= 0.5 + 1e-3
    assert read_volume(tmp_path / "out").orientation in ("LPS", "PIR", "LIP")
    assert peers.new_verdicts(peers.files_of(folder), peers.files_of(tmp_path / "out")) == []


def test_any_rotation_keeps_its_place(tmp_path: Path) -> None:
    folder = template(tmp_path / "template")
    rng = np.random.default_rng(0)
    for seed in range(25):
        affine = np.eye(4)
        directions = Rotation.random(random_state=seed).as_matrix() * rng.choice([-1, 1], 3)
        affine[:3, :3] = directions * rng.uniform(0.5, 3, 3)
        if seed % 3 == 0:  # a gantry's tilt
            affine[:3, 2] += 0.3 * affine[:3, 1]
        affine[:3, 3] = rng.uniform(-300, 300, 3)
        write_volume(placed(Grid((5, 6, 4), affine)), tmp_path / f"{seed}", template=folder)
        assert misplaced(tmp_path / f"{seed}") <= 0.5 + 1e-3, seed


def test_a_template_of_another_modality_shares_the_place_but_is_no_source(tmp_path: Path) -> None:
    """An MR that was resampled to a CT's grid is in the CT's frame, but is not derived from its images."""
    folder = template(tmp_path / "template")
    source = pydicom.dcmread(folder / "IM0001.dcm")
    for modality, references in (("MR", False), ("CT", True)):
        volume = peers.made_from(placed(PLACE).replace(modality=modality), "CT")
        write_volume(volume, tmp_path / modality, template=folder)
        image = first(tmp_path / modality)
        assert source.Modality == "CT"
        assert image.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert ("SourceImageSequence" in image) == references
        assert ("ReferencedSeriesSequence" in image) == references


def test_two_inputs_of_one_template_are_two_series(tmp_path: Path) -> None:
    folder = template(tmp_path / "template")
    uids = set()
    for number, shift in enumerate((0, 0, 1)):
        source = placed(PLACE)
        volume = peers.made_from(source.replace(array=source.array + np.int16(shift)), "MR")
        write_volume(volume, tmp_path / f"{number}", template=folder)
        uids.add(first(tmp_path / f"{number}").SeriesInstanceUID)
    assert len(uids) == 2


def test_a_template_that_is_no_volume_still_lends_its_patient(tmp_path: Path) -> None:
    folder = template(tmp_path / "template")
    (folder / "IM0004.dcm").unlink()
    write_volume(placed(PLACE), tmp_path / "out", template=folder)
    assert first(tmp_path / "out").PatientID == pydicom.dcmread(folder / "IM0001.dcm").PatientID
    assert "SourceImageSequence" not in first(tmp_path / "out")


def test_templates_and_grids_that_are_refused(tmp_path: Path) -> None:
    folder, volume, out = template(tmp_path / "template"), placed(PLACE), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    made.save(made.slices_of(placed(PLACE), seed="other", intercept=-8192 * 4), tmp_path / "two" / "b")
    made.save(made.slices_of(placed(PLACE), seed="one", intercept=-8192 * 4), tmp_path / "two" / "a")
    mixed = made.slices_of(placed(PLACE), intercept=-8192 * 4)
    mixed[3].PatientID = "somebody else"
    made.save(mixed, tmp_path / "mixed")
    sheared = PLACE.affine.copy()
    sheared[:3, 0] += 0.05 * sheared[:3, 1]
    unknown = volume.replace(modality=None)
    for changed, given, reason in (
        (volume, None, "--dicom-template, or a .nii.gz file"),
        (volume, tmp_path / "nothing", "no such folder"),
        (volume, tmp_path / "empty", "no DICOM images here"),
        (volume, tmp_path / "two", "it contains more than one series"),
        (volume, tmp_path / "mixed", "2 different values of PatientID"),
        (volume.replace(affine=sheared), folder, "degrees from perpendicular"),
        (read_volume(folder), folder, "has its own patient"),
        (unknown, folder, "only CT and MR"),
    ):
        with pytest.raises(WriteError, match=reason):
            check_writable(changed, out, SeriesOptions(template=given))
        with pytest.raises(WriteError, match=reason):
            write_volume(changed, out, template=given)
    assert not out.exists()
    assert not list(tmp_path.glob(".tmp*"))
