"""Derived DICOM series have the right geometry and voxels, are valid for other programs, and are never incomplete."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from support import dicom_phantoms as made
from support import dicom_readback as peers
from support.hospital_series import STACKS, series
from support.phantoms import linear_values

from medcyclegan import Volume
from medcyclegan.io import read_volume, write_volume

needs_tools = pytest.mark.skipif(bool(peers.MISSING_TOOLS), reason=peers.MISSING_TOOLS or "all there")


def images(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@needs_tools
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("name", STACKS)
def test_every_program_finds_it_in_its_place(name: str, modality: str, tmp_path: Path) -> None:
    source = series(tmp_path / "in", STACKS[name], "MR" if modality == "CT" else "CT")
    volume = peers.made_from(read_volume(source), modality)
    write_volume(volume, tmp_path / "out")
    found = read_volume(tmp_path / "out")
    np.testing.assert_allclose(found.affine, volume.affine, atol=1e-9)
    np.testing.assert_array_equal(found.array, volume.array)
    assert found.modality == modality
    assert peers.new_verdicts(peers.files_of(source), peers.files_of(tmp_path / "out")) == []
    readers = [peers.read_simpleitk_slices, peers.read_highdicom_slices]
    if name != "tilted":
        readers += [
            peers.read_highdicom, peers.read_simpleitk, lambda path: peers.read_dcm2niix(path, tmp_path / "nifti")
        ]  # fmt: skip
    for reader in readers:
        array, affine = peers.turned_to(*reader(tmp_path / "out"), volume.affine)
        np.testing.assert_allclose(affine, volume.affine, atol=1e-4)
        np.testing.assert_array_equal(array, volume.array)


def test_the_attributes_of_a_synthetic_image(tmp_path: Path) -> None:
    source = series(tmp_path / "in", modality="MR", Manufacturer="Scanner & Co")
    volume = peers.made_from(read_volume(source), "CT")
    write_volume(volume, tmp_path / "out")
    before, after = images(source), images(tmp_path / "out")
    assert [path.name for path in sorted((tmp_path / "out").iterdir())][:2] == ["0001.dcm", "0002.dcm"]
    assert len(after) == len(before)
    for number, image in enumerate(after, start=1):
        assert image.preamble == bytes(128)
        assert image.SOPClassUID == image.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
        assert list(image.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert (image.SyntheticData, image.ContentQualification) == ("YES", "RESEARCH")
        assert image.SeriesDescription == "SYNTHETIC CT from t1 mprage"
        assert "5f" * 32 in image.DerivationDescription
        assert "medcyclegan 0.1.0" in image.DerivationDescription
        assert (image.RescaleSlope, image.RescaleIntercept, image.RescaleType) == (1, 0, "HU")
        assert (image.BitsStored, image.PixelRepresentation) == (16, 1)
        assert (image.KVP, image.AcquisitionNumber, image.InstanceNumber) == (None, None, number)
        assert not [element for element in image.iterall() if element.tag.is_private]
        reference = image.SourceImageSequence[0]
        match = next(each for each in before if each.SOPInstanceUID == reference.ReferencedSOPInstanceUID)
        assert image.ImagePositionPatient == pytest.approx(match.ImagePositionPatient, abs=1e-9)
        assert reference.SpatialLocationsPreserved == "YES"
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        again = image.ReferencedSeriesSequence[0]
        assert again.SeriesInstanceUID == before[0].SeriesInstanceUID
        assert again.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == match.SOPInstanceUID
        equipment = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in image.ContributingEquipmentSequence]
        assert equipment == ["109102", "109101"]
        assert image.ContributingEquipmentSequence[1].Manufacturer == "Scanner & Co"
        assert image.Manufacturer.startswith("medcyclegan")
        for kept in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID", "StudyID"):
            assert image[kept].value == match[kept].value, kept
        assert image.SeriesDate == image.ContentDate == image.InstanceCreationDate != match.StudyDate
        assert image.SOPInstanceUID not in [each.SOPInstanceUID for each in before]
        assert image.SeriesInstanceUID != match.SeriesInstanceUID
    assert len({image.SOPInstanceUID for image in after}) == len(after)


@needs_tools
@pytest.mark.parametrize(
    ("modality", "domain", "source", "expected"),
    [
        ("MR", "t2", "T1/SE/extrp", "SYNTHETIC MR t2 from T1/SE/extrp"),
        ("CT", "CT", "T1/SE/extrp", "SYNTHETIC CT from T1/SE/extrp"),
        ("MR", "mr", "", "SYNTHETIC MR from CT"),
        ("CT", "head_ct", "a" * 64, f"SYNTHETIC CT head_ct from {'a' * 38}"),
        ("MR", "x" * 90, "a" * 64, f"SYNTHETIC MR {'x' * 24} from {'a' * 21}"),
        ("MR", "\u00fc\\t2", "T1", "SYNTHETIC MR ??t2 from T1"),
    ],
)
def test_the_description_names_the_target_domain(
    modality: str, domain: str, source: str, expected: str, tmp_path: Path
) -> None:
    folder = series(tmp_path / "in", SeriesDescription=source)
    volume = peers.made_from(read_volume(folder), modality)
    assert volume.derivation is not None
    volume = volume.replace(derivation=dataclasses.replace(volume.derivation, target_domain=domain))
    write_volume(volume, tmp_path / "out")
    assert {image.SeriesDescription for image in images(tmp_path / "out")} == {expected}
    assert peers.new_verdicts(peers.files_of(folder), peers.files_of(tmp_path / "out")) == []
    write_volume(volume, tmp_path / "nameless", deidentify=True)
    kept = {image.SeriesDescription for image in images(tmp_path / "nameless")}
    assert kept == {expected.partition(" from ")[0]}


def test_without_a_known_derivation_the_description_names_the_modality(tmp_path: Path) -> None:
    write_volume(read_volume(series(tmp_path / "in")), tmp_path / "out")
    assert images(tmp_path / "out")[0].SeriesDescription == "SYNTHETIC CT from t1 mprage"


def test_a_synthetic_mr_claims_no_sequence_and_no_rescale(tmp_path: Path) -> None:
    volume = peers.made_from(read_volume(series(tmp_path / "in")), "MR")
    write_volume(volume, tmp_path / "out")
    image = images(tmp_path / "out")[0]
    assert image.SOPClassUID == pydicom.uid.MRImageStorage
    assert list(image.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
    assert (image.ScanningSequence, image.SequenceVariant) == ("RM", "NONE")
    assert (image.EchoTime, image.RepetitionTime, image.EchoTrainLength) == (None, None, None)
    assert not {"RescaleSlope", "RescaleIntercept", "InversionTime", "KVP"} & set(image.dir())
    assert (image.PixelRepresentation, image.BitsStored) == (0, 16)


def test_the_same_translation_twice_is_one_series(tmp_path: Path) -> None:
    volume = peers.made_from(read_volume(series(tmp_path / "in")), "MR")
    assert volume.derivation is not None

    def uids(changed: Volume) -> list[str]:
        write_volume(changed, tmp_path / "out", overwrite=True)
        return [str(image.SOPInstanceUID) for image in images(tmp_path / "out")]

    def with_derivation(**changes: Any) -> list[str]:
        return uids(volume.replace(derivation=dataclasses.replace(volume.derivation, **changes)))

    first = uids(volume)
    rounded = volume.array.copy()
    rounded[0, 0, 0] += 1  # as another device might
    assert uids(volume.replace(array=rounded)) == first
    assert with_derivation(input_sha256="0" * 64) == first
    others = [
        with_derivation(model_sha256="0" * 64),
        with_derivation(version="9.9"),
        with_derivation(target_domain="t2"),
        with_derivation(settings=("median of three planes",)),
        uids(volume.replace(derivation=None)),
        uids(volume.replace(derivation=None, array=rounded)),
    ]
    assert len({uid for each in [first, *others] for uid in each}) == 7 * len(first)


def test_frames_of_an_enhanced_image_come_out_as_single_images(tmp_path: Path) -> None:
    dataset = made.enhanced_of(made.placed_volume(modality="MR"))
    made.reorder_frames(dataset, [3, 1, 0, 2, 9, 8, 7, 6, 5, 4])
    made.save([dataset], tmp_path / "in")
    volume = peers.made_from(read_volume(tmp_path / "in"), "CT")
    write_volume(volume, tmp_path / "out")
    found = images(tmp_path / "out")
    numbers = [image.SourceImageSequence[0].ReferencedFrameNumber for image in found]
    assert numbers == [3, 2, 4, 1, 10, 9, 8, 7, 6, 5]
    assert {image.SourceImageSequence[0].ReferencedSOPInstanceUID for image in found} == {dataset.SOPInstanceUID}
    assert all("NumberOfFrames" not in image for image in found)
    np.testing.assert_array_equal(read_volume(tmp_path / "out").array, volume.array)


def test_resampled_slices_refer_to_the_slices_that_they_are_between(tmp_path: Path) -> None:
    source = series(tmp_path / "in", STACKS["axial_lps"])
    sorted(source.iterdir())[3].unlink()
    volume = peers.made_from(read_volume(source, allow_gap=True), "MR")
    write_volume(volume, tmp_path / "out")
    uids = [str(image.SOPInstanceUID) for image in images(source)]
    found = images(tmp_path / "out")
    assert len(found) == len(uids) + 1
    referred = [[str(item.ReferencedSOPInstanceUID) for item in image.SourceImageSequence] for image in found]
    assert referred[2:5] == [[uids[2]], [uids[2], uids[3]], [uids[3]]]
    assert found[0].SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    assert "resampled" in found[0].DerivationDescription
    upright = read_volume(series(tmp_path / "leaning", STACKS["tilted"]), resample_tilt=True)
    write_volume(peers.made_from(upright, "MR"), tmp_path / "upright")
    assert max(len(image.SourceImageSequence) for image in images(tmp_path / "upright")) > 1


def test_positions_that_jitter_are_kept(tmp_path: Path) -> None:
    slices = made.slices_of(made.placed_volume())
    for number, dataset in enumerate(slices):
        dataset.ImagePositionPatient[2] = f"{float(dataset.ImagePositionPatient[2]) + 0.004 * (-1) ** number:.4f}"
    made.save(slices, tmp_path / "in")
    write_volume(peers.made_from(read_volume(tmp_path / "in"), "MR"), tmp_path / "out")
    for before, after in zip(slices, images(tmp_path / "out"), strict=True):
        assert after.ImagePositionPatient == pytest.approx(before.ImagePositionPatient, abs=1e-9)


def test_a_volume_without_a_known_origin_is_still_synthetic(tmp_path: Path) -> None:
    volume = read_volume(series(tmp_path / "in"))
    write_volume(volume, tmp_path / "out")
    image = images(tmp_path / "out")[0]
    assert image.SyntheticData == "YES"
    assert "not known" in image.DerivationDescription


@pytest.mark.parametrize(
    ("values", "signed", "exponent"),
    [
        ((0.0, 812.4), 0, 0),
        ((0.2, 99.4), 0, 2),
        ((0.1, 1.0), 0, 4),
        ((0.0, 1.0), 0, 0),
        ((-0.4, 3.0e-7), 1, 4),
        ((-0.4, 700.0), 0, 0),
        ((-3.0, 700.2), 1, 0),
        ((-0.25, 0.5), 1, 4),
        ((0.0, 65535.0), 0, 0),
        ((0.0, 65536.0), 0, -1),
        ((0.0, 3.1e8), 0, -4),
        ((0.0, 7.0), 0, 0),
        ((0.0, 0.0), 0, 0),
    ],
)
def test_mr_values_in_16_bits(values: tuple[float, float], signed: int, exponent: int, tmp_path: Path) -> None:
    volume = read_volume(series(tmp_path / "in"))
    array = np.resize(np.array(values, np.float64), volume.shape)
    write_volume(volume.replace(array=array, modality="MR"), tmp_path / "out")
    image = images(tmp_path / "out")[0]
    assert image.PixelRepresentation == signed
    assert ("10^" in image.DerivationDescription) == (exponent != 0)
    assert not exponent or f"10^{exponent}" in image.DerivationDescription
    stored = read_volume(tmp_path / "out").array
    np.testing.assert_array_equal(stored, np.rint(array * 10.0**exponent))


def test_values_are_where_they_belong(tmp_path: Path) -> None:
    """Every voxel, as read by pydicom alone, is a linear function of its position."""
    grid = STACKS["oblique"]
    volume = read_volume(series(tmp_path / "in", grid, "MR"))
    write_volume(volume.replace(modality="CT"), tmp_path / "out")
    for image in images(tmp_path / "out"):
        affine = np.eye(4)
        cosines = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        affine[:3, 0], affine[:3, 1] = cosines[0] * image.PixelSpacing[1], cosines[1] * image.PixelSpacing[0]
        affine[:3, 2] = np.cross(*cosines)
        affine[:3, 3] = image.ImagePositionPatient
        expected = linear_values((image.Columns, image.Rows, 1), np.diag([-1, -1, 1, 1]) @ affine, made.COEFFICIENTS)
        assert np.abs(image.pixel_array.T - expected[..., 0]).max() <= 0.5 + 1e-3
