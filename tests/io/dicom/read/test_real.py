"""Real scans of several vendors, compared with the conversions of dcm2niix and dicom2nifti."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcyclegan.errors import AmbiguousError, GeometryError
from medcyclegan.io import ReadOptions, find_volumes, read_found_volume, read_volume
from medcyclegan.volume import Volume

DATA = Path(__file__).parents[5] / "shared" / "data"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data, the real scans, is absent"),
]
#: Series, reference, options, and the volume of the reference.
ITEMS = {
    "ge epi, first": ("dicom/mr_ge_epi_4d", "DCM2NIIX_regression_test_4.nii", {"volume": 0}),
    "ge epi, last": ("dicom/mr_ge_epi_4d", "DCM2NIIX_regression_test_4.nii", {"volume": 9}),
    "philips, magnitude": ("dicom/mr_philips_enhanced_b0", "Philips_WIP_B0_NS_801_e1.nii", {"volume": 0}),
    "philips, field map": ("dicom/mr_philips_enhanced_b0", "Philips_WIP_B0_NS_801_e2_fieldmaphz.nii", {"volume": 1}),
    "siemens mosaic, first": ("dicom/mr_siemens_mosaic_cor", "cor_asc_35sl_16.nii", {"volume": 0}),
    "siemens mosaic, second": (
        "dicom/mr_siemens_mosaic_cor",
        "cor_asc_35sl_16.nii",
        {"volume": 1, "split_by": "AcquisitionNumber"},
    ),
    "siemens sagittal": ("dicom/mr_siemens_prisma_sag_t1_hfs", "3_t1_fl2d_sag.nii.gz", {}),
    "siemens enhanced": ("dicom/mr_siemens_xa30_enhanced_t1_sag", "5_anat-T1w_acq-tfl.nii", {}),
    "uih tiles, first": ("dicom/mr_uih_dti_rot_4d", "dti_tra_dir16_PA_rot_12_132222.nii", {"volume": 0}),
    "uih tiles, last": ("dicom/mr_uih_dti_rot_4d", "dti_tra_dir16_PA_rot_12_132222.nii", {"volume": 16}),
    "two slices": ("dicom2nifti_cases/failing/slicecount", None, {}),
    "plain": ("dicom2nifti_cases/generic/anatomical", None, {}),
    "JPEG 2000": ("dicom2nifti_cases/generic/compressed_j2k", None, {}),
    "JPEG lossless": ("dicom2nifti_cases/generic/compressed_jpeg", None, {}),
    "JPEG-LS": ("dicom2nifti_cases/generic/compressed_jpegls", None, {}),
    "RLE": ("dicom2nifti_cases/generic/compressed_rle", None, {}),
    "hitachi": ("dicom2nifti_cases/hitachi/anatomical", None, {}),
    "philips enhanced": ("dicom2nifti_cases/philips_enhanced/anatomical", None, {}),
}


def compare(found: Volume, reference: Path, number: int) -> tuple[float, float]:
    """Return the largest difference of voxels and of affine elements, after flips and swaps of axes."""
    image = nib.load(reference)
    values = np.asanyarray(image.dataobj)
    values = values[..., number] if values.ndim == 4 else values
    turn = nib.orientations.ornt_transform(nib.io_orientation(found.affine), nib.io_orientation(image.affine))
    turned = nib.apply_orientation(found.array, turn)
    affine = found.affine @ nib.orientations.inv_ornt_aff(turn, found.array.shape)
    assert turned.shape == values.shape
    return float(np.abs(turned.astype(np.float64) - values).max()), float(np.abs(affine - image.affine).max())


def scaled_copy(path: Path, factor: float, folder: Path) -> Path:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata() * factor, image.affine), folder / path.name)
    return folder / path.name


@pytest.mark.parametrize("name", ITEMS)
def test_it_equals_the_reference(name, tmp_path):
    folder, reference, options = ITEMS[name]
    source = DATA / folder / ("in" if reference else "001")
    target = DATA / folder / "ref" / reference if reference else DATA / folder / "001_ground_truth.nii.gz"
    number = 0 if "_e2_" in target.name else options.get("volume", 0)
    found = read_volume(source, **options)
    if name == "philips, magnitude":
        # dcm2niix prefers Philips' private scale slope; this program the standard's rescale alone
        sidecar = json.loads(target.with_suffix(".json").read_text())
        target_scale = sidecar["PhilipsRescaleSlope"] * sidecar["PhilipsScaleSlope"]
        found = found.replace(array=found.array / target_scale / 1e6)
        target = scaled_copy(target, 1e-6, tmp_path)
    voxels, affine = compare(found, target, number)
    # dcm2niix and dicom2nifti store rescaled values as float32, or with a rounded slope
    assert voxels <= (0.01 if "philips" in name else 0)
    assert affine < 1e-3


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("dicom/ct_ge_hispeed_tilt/in", "varies from 1.081 to 6.999 mm .*--allow-gap"),
        ("dicom/mr_ge_fse_pd_oblique/in", "varies from 6.958 to 7.071 mm .*--allow-gap"),
        ("dicom2nifti_cases/failing/sliceincrement/001", "from 5.0 to 10.0 mm .a slice is missing near z = 33.1 mm"),
    ],
)
def test_uneven_gaps_are_refused(folder, said):
    with pytest.raises(GeometryError, match=said):
        read_volume(DATA / folder)


@pytest.mark.parametrize(
    ("folder", "count"),
    [
        ("dicom/mr_ge_epi_4d/in", 10),
        ("dicom/mr_philips_enhanced_b0/in", 2),
        ("dicom/mr_siemens_mosaic_cor/in", 2),
        ("dicom/mr_uih_dti_rot_4d/in", 17),
        ("dicom2nifti_cases/failing/notavolume/001", 4),
    ],
)
def test_several_volumes_are_refused(folder, count):
    with pytest.raises(AmbiguousError, match=f"{count} volumes of .*--volume N"):
        read_volume(DATA / folder)


def stored_slices(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the values ``(columns, rows)`` and the corner in RAS+ mm of each slice, read with pydicom alone."""
    import pydicom

    found = []
    for path in sorted(folder.iterdir()):
        image = pydicom.dcmread(path)
        values = image.pixel_array.T * float(image.RescaleSlope) + float(image.RescaleIntercept)
        found.append((values, np.array(image.ImagePositionPatient, dtype=float) * (-1, -1, 1)))
    return found


def test_a_tilted_series_has_every_slice_in_its_place():
    folder = DATA / "dicom2nifti_cases/failing/gantrytilting/001"
    found = read_volume(folder)
    assert found.shear_degrees == pytest.approx(14, abs=0.01)
    for values, corner in stored_slices(folder):
        i, j, k = np.linalg.solve(found.affine, [*corner, 1])[:3]
        assert abs(i) + abs(j) < 1e-3
        assert k == pytest.approx(round(k), abs=1e-3)
        np.testing.assert_array_equal(found.array[:, :, round(k)], values)


@pytest.mark.parametrize("folder", ["dicom/ct_ge_hispeed_tilt/in", "dicom/mr_ge_fse_pd_oblique/in"])
def test_with_allow_gap_the_slices_of_an_uneven_series_stay_in_place(folder):
    found = read_volume(DATA / folder, allow_gap=True)
    gap = np.diff([corner[2] for _, corner in sorted(stored_slices(DATA / folder), key=lambda pair: pair[1][2])]).min()
    for values, corner in stored_slices(DATA / folder):
        i, j, k = np.linalg.solve(found.affine, [*corner, 1])[:3]
        assert abs(i) * found.spacing_mm[0] + abs(j) * found.spacing_mm[1] < 0.15
        if k > found.shape[2] - 1:
            continue
        # between two slices of the grid, a stored slice is nearly the mean of both, and exactly so where they coincide
        below, weight = int(k), k - int(k)
        if weight * gap < 0.02:
            np.testing.assert_allclose(found.array[:, :, below], values, atol=0.02 * np.ptp(values) + 1e-3)


def test_upright_the_table_moves_along_k():
    found = read_volume(DATA / "dicom/ct_ge_hispeed_tilt/in", allow_gap=True, resample_tilt=True)
    assert found.shear_degrees < 1e-4
    assert found.orientation == "LPS"
    assert found.oblique_degrees < 1e-4
    assert found.source.resampled


def test_all_of_the_tree_is_found_and_read_or_refused():
    found = find_volumes(DATA, ReadOptions())
    series = [volume for volume in found if volume.kind == "dicom"]
    assert len(series) == 19
    refused = 0
    for volume in series:
        try:
            assert read_found_volume(volume, ReadOptions()).modality in ("CT", "MR")
        except (AmbiguousError, GeometryError):
            refused += 1
    assert refused == 8
