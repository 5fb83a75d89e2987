"""Every synthetic folder gives the right volume or a one-line error: see support/dicom_cases.py for the folders."""

from __future__ import annotations

import logging
import random
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from support import dicom_phantoms as made
from support import phantoms
from support.dicom_cases import judge
from support.dicom_mutations import SERIES, outcome, write_series
from support.dicom_own_cases import ALL_CASES

from medcyclegan.errors import AmbiguousError, GeometryError, ReadError
from medcyclegan.io import ReadOptions, find_volumes, read_volume
from medcyclegan.io.dicom.read.series import matching_uids
from medcyclegan.io.dicom.read.volume import DicomSource


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_case_without_options(case, tmp_path):
    result, detail = judge(case, tmp_path / "in", {})
    assert result in ["right"] * case.right + ["refused"] * case.refused, detail
    if result == "refused":
        assert "\n" not in detail
        assert ":" in detail, "a refusal has a remedy behind its last colon"


@pytest.mark.parametrize("case", [case for case in ALL_CASES if case.options], ids=lambda case: case.name)
def test_case_with_its_option(case, tmp_path):
    result, detail = judge(case, tmp_path / "in", case.options)
    assert result == "right", detail


def test_there_are_the_33_and_more():
    assert len({case.name for case in ALL_CASES}) == len(ALL_CASES) > 33


def test_mutations_are_refused_or_harmless(tmp_path):
    truth = write_series(tmp_path)
    counts = {"right": 0, "refused": 0, "wrong": 0}
    for seed in range(90):
        name = SERIES[seed % len(SERIES)]
        result, detail = outcome(tmp_path / name, tmp_path / "work", truth[name], seed)
        counts[result] += 1
        assert result != "wrong" or detail.startswith("pixel byte"), f"seed {seed}: {detail}"
    assert counts["refused"] > 30
    assert counts["right"] > 5


def _highdicom_volume(folder: Path) -> highdicom.Volume:
    series = [pydicom.dcmread(path) for path in folder.iterdir()]
    return highdicom.get_volume_from_series(
        series,
        dtype=np.float32,
        apply_presentation_lut=False,
        apply_real_world_transform=False,
        perpendicular_tol=1e-5,
        orientation_tol=1e-4,
    )


@pytest.mark.parametrize("name", [name for name in phantoms.GRIDS if name != "one_slice"])
def test_it_agrees_with_highdicom(name, tmp_path):
    grid = phantoms.GRIDS[name]
    volume = made.placed_volume(grid.shape, grid.affine).replace(modality="CT")
    values = (volume.array % 4000).astype(np.int16)
    slices = made.slices_of(volume.replace(array=values))
    random.Random(0).shuffle(slices)
    made.save(slices, tmp_path / "in")
    found = read_volume(tmp_path / "in")
    other = _highdicom_volume(tmp_path / "in")
    # highdicom: (slice, row, column) to LPS+
    theirs = np.asarray(other.array).transpose(2, 1, 0)
    place = np.diag([-1.0, -1.0, 1.0, 1.0]) @ other.affine[:, [2, 1, 0, 3]]
    if np.linalg.norm(place[:3, 3] - found.affine[:3, 3]) > 1:
        theirs = theirs[..., ::-1]
        place[:3, 3] += place[:3, 2] * (theirs.shape[2] - 1)
        place[:3, 2] *= -1
    np.testing.assert_array_equal(found.array, theirs)
    np.testing.assert_allclose(found.affine, place, atol=1e-6)


def test_axes_are_column_row_slice_ascending_along_the_normal(tmp_path):
    volume = made.placed_volume()
    made.save(reversed(made.slices_of(volume)), tmp_path / "in")
    found = read_volume(tmp_path / "in")
    np.testing.assert_array_equal(found.array, volume.array)
    np.testing.assert_allclose(found.affine, volume.affine, atol=1e-9)
    assert found.array.dtype == np.int16
    assert np.linalg.det(found.affine[:3, :3]) > 0
    assert (found.modality, found.orientation, found.notes) == ("CT", "LPS", ())


def test_the_source_keeps_headers_in_order_without_pixels(tmp_path):
    volume = made.placed_volume()
    made.save(random.Random(0).sample(made.slices_of(volume), 10), tmp_path / "in")
    source = read_volume(tmp_path / "in").source
    assert isinstance(source, DicomSource)
    assert [header.InstanceNumber for header in source.headers] == list(range(1, 11))
    assert not any("PixelData" in header for header in source.headers)
    assert source.patient_id == "P-series"
    assert source.frame_numbers == (0,) * 10
    assert not source.resampled


def test_the_source_records_that_a_volume_was_resampled(tmp_path):
    made.save(made.slices_of(made.placed_volume())[:4] + made.slices_of(made.placed_volume())[5:], tmp_path / "in")
    found = read_volume(tmp_path / "in", allow_gap=True)
    assert found.source.resampled
    assert len(found.source.headers) == 9
    assert found.shape == (12, 14, 10)
    assert "resampled to 10" in found.notes[0]


def test_a_refusal_gives_value_rule_and_remedy(tmp_path):
    slices = made.slices_of(made.placed_volume())
    made.save(slices[:4] + slices[5:], tmp_path / "in")
    with pytest.raises(GeometryError) as caught:
        read_volume(tmp_path / "in")
    assert str(caught.value) == (
        f"{tmp_path / 'in'}: series …{slices[0].SeriesInstanceUID[-8:]}: slice spacing varies from 2.5 to 5.0 mm (a "
        "slice is missing near z = -1.2 mm): export the complete series, or pass --allow-gap"
    )


def test_a_tilt_is_exact_and_logged(tmp_path, caplog):
    affine = phantoms.make_affine("LPS", (0.9, 1.1, 2.5), origin=(5.0, 7.0, -11.0), rotation_degrees=(15, 0, 0))
    affine[:3, 2] = (0, 0, 2.5)
    slices = made.slices_of(made.placed_volume(affine=affine))
    made.save(slices, tmp_path / "in")
    with caplog.at_level(logging.WARNING):
        found = read_volume(tmp_path / "in")
    np.testing.assert_allclose(found.affine, affine, atol=1e-8)
    assert found.shear_degrees == pytest.approx(15, abs=1e-6)
    named = f"{tmp_path / 'in'}, series …{slices[0].SeriesInstanceUID[-8:]}"
    assert f"{named}: the stack leans by 15.00 degrees" in caplog.text
    upright = read_volume(tmp_path / "in", resample_tilt=True)
    assert upright.shear_degrees < 1e-6
    assert upright.oblique_degrees < 1e-6
    assert upright.array.min() == found.array.min()


def test_volumes_are_counted_from_0_and_the_range_is_named(tmp_path):
    volume = made.placed_volume(modality="MR")
    slices = []
    for number in range(3):
        for dataset in made.slices_of(volume.replace(array=(volume.array + 7 * number).astype(np.int16))):
            dataset.TemporalPositionIdentifier = number + 1
            slices.append(dataset)
    made.save(random.Random(0).sample(slices, 30), tmp_path / "in")
    for number in range(3):
        found = read_volume(tmp_path / "in", volume=number)
        np.testing.assert_array_equal(found.array, volume.array + 7 * number)
    with pytest.raises(AmbiguousError, match=r"3 volumes of 10 slice.* TemporalPositionIdentifier.*--volume N"):
        read_volume(tmp_path / "in")
    with pytest.raises(AmbiguousError, match=r"--volume 3: the series holds 3 volume.*at most 2"):
        read_volume(tmp_path / "in", volume=3)
    with pytest.raises(AmbiguousError, match=r"no image has the keyword FlipAngle"):
        read_volume(tmp_path / "in", split_by="FlipAngle")


def test_volume_0_of_one_volume_is_it(tmp_path):
    made.save(made.slices_of(made.placed_volume()), tmp_path / "in")
    assert read_volume(tmp_path / "in", volume=0).shape == (12, 14, 10)


def test_several_series_are_listed(tmp_path):
    first, second = made.slices_of(made.placed_volume()), made.slices_of(made.placed_volume(), seed="other")
    made.save([*first, *second], tmp_path / "in")
    with pytest.raises(AmbiguousError, match=r"2 series: choose one with --series") as caught:
        read_volume(tmp_path / "in")
    for uid in (first[0].SeriesInstanceUID, second[0].SeriesInstanceUID):
        assert uid in str(caught.value)
        assert read_volume(tmp_path / "in", series=uid).source.series_uid == uid
    with pytest.raises(AmbiguousError, match=r"no series 1\.2\.3 here"):
        read_volume(tmp_path / "in", series="1.2.3")


def test_part_of_a_uid_names_a_series_unless_two_have_it(tmp_path):
    first, second = made.slices_of(made.placed_volume()), made.slices_of(made.placed_volume(), seed="other")
    made.save([*first, *second], tmp_path / "in")
    for uid in (first[0].SeriesInstanceUID, second[0].SeriesInstanceUID):
        for part in (uid[:-2], uid[-8:], f"…{uid[-8:]}"):
            assert read_volume(tmp_path / "in", series=part).source.series_uid == uid
            (found,) = find_volumes(tmp_path / "in", ReadOptions(series=part))
            assert found.series_uid == uid
    with pytest.raises(AmbiguousError, match=r"2 series have a UID like 1\.2\.826: name more of it: 1\.2\.826"):
        read_volume(tmp_path / "in", series="1.2.826")
    with pytest.raises(AmbiguousError, match=r"no series 8\.8\.8 here"):
        read_volume(tmp_path / "in", series="8.8.8")


def test_a_uid_that_begins_another_is_only_itself():
    assert matching_uids(["1.2.3", "1.2.34"], "1.2.3") == ["1.2.3"]
    assert matching_uids(["1.2.3", "1.2.34", ""], "1.2") == ["1.2.3", "1.2.34"]
    assert matching_uids(["1.2.3", "5.1.2.3"], "…2.3") == ["1.2.3", "5.1.2.3"]
    assert matching_uids(["1.2.3", ""], "") == matching_uids(["1.2.3"], "…") == []


def test_the_refusal_of_a_folder_without_images_lists_its_contents(tmp_path):
    (tmp_path / "a.dcm").write_text("no DICOM")
    with pytest.raises(ReadError, match=r"no DICOM images here .1 file.s. not DICOM.: name the folder"):
        read_volume(tmp_path)


def test_one_file_is_one_slice(tmp_path):
    (path,) = made.save(made.slices_of(made.placed_volume())[3:4], tmp_path / "in")
    found = read_volume(path)
    np.testing.assert_allclose(found.affine[:3, 3], made.placed_volume().affine[:3] @ (0, 0, 3, 1))
    assert found.shape == (12, 14, 1)
    assert found.spacing_mm[2] == pytest.approx(2.5)


def test_a_slice_of_unknown_thickness_is_logged(tmp_path):
    dataset = made.slices_of(made.placed_volume((12, 14, 1)))[0]
    del dataset.SliceThickness
    made.save([dataset], tmp_path / "in")
    found = read_volume(tmp_path / "in")
    assert found.spacing_mm[2] == 1
    assert "unknown thickness" in found.notes[0]


def test_two_slices_with_one_missing_between_are_refused(tmp_path):
    slices = made.slices_of(made.placed_volume())
    for dataset in slices:
        dataset.SpacingBetweenSlices = 2.5
    made.save(slices[:3:2], tmp_path / "in")
    with pytest.raises(GeometryError, match=r"two slices 5 mm apart where SpacingBetweenSlices says 2.5"):
        read_volume(tmp_path / "in")
    assert read_volume(tmp_path / "in", allow_gap=True).shape == (12, 14, 2)


def test_an_evenly_thinned_stack_is_logged(tmp_path):
    slices = made.slices_of(made.placed_volume())
    for dataset in slices:
        dataset.SpacingBetweenSlices = 2.5
    made.save(slices[::2], tmp_path / "in")
    assert "some may be missing" in read_volume(tmp_path / "in").notes[0]


def test_a_slice_twice_with_other_pixels_is_refused(tmp_path):
    volume = made.placed_volume()
    again = made.slices_of(volume.replace(array=(volume.array + 1).astype(np.int16)))[3]
    del again.SOPInstanceUID
    again.InstanceNumber = 11
    made.save([*made.slices_of(volume), again], tmp_path / "in")
    with pytest.raises(AmbiguousError, match=r"several different images at one position"):
        read_volume(tmp_path / "in")


def test_max_voxels_counts_before_memory_is_taken(tmp_path):
    made.save(made.slices_of(made.placed_volume()), tmp_path / "in")
    with pytest.raises(ReadError, match=r"1680 voxels, over the limit of 1000.*--max-voxels 1680"):
        read_volume(tmp_path / "in", max_voxels=1000)
    with pytest.raises(ReadError, match=r"resampled it would have"):
        read_volume_with_gap(tmp_path / "gap", 1700)


def read_volume_with_gap(folder: Path, most: int) -> None:
    slices = made.slices_of(made.placed_volume())
    slices[-1].ImagePositionPatient[2] += 50
    made.save(slices, folder)
    read_volume(folder, allow_gap_mm=60, max_voxels=most)


def test_two_volumes_at_nearly_one_place_are_no_fine_stack(tmp_path):
    slices = made.slices_of(made.placed_volume())
    moved = made.slices_of(made.placed_volume())
    for dataset in moved:
        dataset.ImagePositionPatient[2] += 0.03
        del dataset.SOPInstanceUID
    made.save([*slices, *moved], tmp_path / "in")
    with pytest.raises(GeometryError, match="slice spacing varies"):
        read_volume(tmp_path / "in")
    with pytest.raises(GeometryError, match="not a slice spacing but two volumes"):
        read_volume(tmp_path / "in", allow_gap=True)


def test_hostile_text_reaches_a_message_on_one_line_only(tmp_path):
    first, second = made.slices_of(made.placed_volume()), made.slices_of(made.placed_volume(), seed="other")
    for dataset in first:
        dataset.add_new("SeriesDescription", "LO", "\x1b[31mred\r\n../../etc")
    made.save([*first, *second], tmp_path / "in")
    with pytest.raises(AmbiguousError) as caught:
        read_volume(tmp_path / "in")
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_invalid_values_do_not_warn(tmp_path):
    slices = made.slices_of(made.placed_volume())
    for dataset in slices:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.add_new("PatientAge", "AS", "about forty years of age")
            dataset.add_new("StudyDate", "DA", "*** anonymous ***")
            dataset.add_new("Manufacturer", "LO", "x" * 100)
    made.save(slices, tmp_path / "in")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_volume(tmp_path / "in").shape == (12, 14, 10)
