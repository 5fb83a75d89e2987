"""Derived DICOM series have the right geometry and voxels, are valid for other programs, and are never incomplete."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from support import dicom_phantoms as made
from support import dicom_readback as peers
from support.phantoms import GRIDS, TILTED_GRID, Grid, linear_values, make_affine

from medcyclegan import Volume
from medcyclegan.errors import WriteError
from medcyclegan.io import read_volume, write_volume
from medcyclegan.io.dicom.write import series as dicom_write

needs_tools = pytest.mark.skipif(bool(peers.MISSING_TOOLS), reason=peers.MISSING_TOOLS or "all there")

#: Grids as DICOM reads them: right-handed, slices ascending along their normal.
STACKS: dict[str, Grid] = {
    name: GRIDS[name]
    for name in ("axial_ras", "axial_lps", "oblique", "oblique_sagittal", "anisotropic", "off_centre", "one_slice")
}
STACKS["coronal_lip"] = Grid((12, 9, 14), make_affine("LIP", (1.0, 1.0, 2.0), origin=(20.0, 30.0, -10.0)))
STACKS["tilted"] = TILTED_GRID


def series(folder: Path, grid: Grid = STACKS["oblique"], modality: str = "CT", **changes: Any) -> Path:
    """Write a synthetic series with the header attributes of a hospital; ``changes`` are applied to every slice."""
    slices = made.slices_of(made.placed_volume(grid.shape, grid.affine, modality), intercept=-8192 * 4)
    for dataset in slices:
        dataset.ReferringPhysicianName, dataset.AccessionNumber, dataset.StudyID = "", "A1", "7"
        dataset.BodyPartExamined, dataset.PositionReferenceIndicator = "HEAD", ""
        dataset.SeriesDescription = "t1 mprage"
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    made.save(slices, folder)
    return folder


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


def test_what_a_synthetic_image_says(tmp_path: Path) -> None:
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
        write_volume(changed, tmp_path / "out")
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


def test_resampled_slices_refer_to_the_slices_they_lie_between(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("value", "modality", "reason"),
    [
        (float("nan"), "MR", "not finite"),
        (float("inf"), "CT", "not finite"),
        (40000.0, "CT", "int16"),
        (1.0, "PT", "only CT and MR"),
        (1.0, None, "only CT and MR"),
    ],
)
def test_values_and_modalities_that_are_refused(value: float, modality: str, reason: str, tmp_path: Path) -> None:
    volume = read_volume(series(tmp_path / "in"))
    array = np.zeros(volume.shape)
    array[3, 2, 1] = value
    with pytest.raises(WriteError, match=reason):
        write_volume(volume.replace(array=array, modality=modality), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_volume_off_the_grid_of_its_headers_is_refused(tmp_path: Path) -> None:
    volume = read_volume(series(tmp_path / "in"))
    moved = volume.affine.copy()
    moved[0, 3] += 0.1
    for changed in (volume.replace(affine=moved), volume.replace(array=volume.array[..., 1:])):
        with pytest.raises(WriteError, match=r"replace\(source=None\), and name a template"):
            write_volume(changed, tmp_path / "out")


def test_images_of_two_studies_are_refused(tmp_path: Path) -> None:
    source = series(tmp_path / "in")
    last = max(source.iterdir())
    dataset = pydicom.dcmread(last)
    dataset.StudyInstanceUID = "1.2.3"
    dataset.save_as(last)
    with pytest.raises(WriteError, match="2 different values of StudyInstanceUID"):
        write_volume(read_volume(source), tmp_path / "out")


def test_an_existing_folder_is_replaced_only_if_it_is_ours(tmp_path: Path) -> None:
    source = series(tmp_path / "in", TILTED_GRID)
    volume = read_volume(source)
    out = tmp_path / "out"
    out.mkdir()
    write_volume(volume, out)
    write_volume(volume.replace(array=volume.array + 1), out)
    np.testing.assert_array_equal(read_volume(out).array, volume.array + 1)
    (out / "report.pdf").write_text("precious")
    with pytest.raises(WriteError, match=r"report\.pdf.*never replaced"):
        write_volume(volume, out)
    assert (out / "report.pdf").read_text() == "precious"
    scanner = tmp_path / "scanner"
    made.save(made.slices_of(made.placed_volume()), scanner, name=lambda number: f"{number:04d}.dcm")
    with pytest.raises(WriteError, match=r"0001\.dcm, which is not an image of a synthetic series"):
        write_volume(volume, scanner)
    assert len(list(scanner.iterdir())) == 10
    (tmp_path / "file").write_text("precious")
    with pytest.raises(WriteError, match="is a file"):
        write_volume(volume, tmp_path / "file")


def shifted(image: Dataset) -> None:
    image.ImagePositionPatient[0] = f"{float(image.ImagePositionPatient[0]) + 0.001:.6f}"


def flipped_bit(image: Dataset) -> None:
    image.PixelData = bytes([image.PixelData[0] ^ 1]) + image.PixelData[1:]


@pytest.mark.parametrize(("fault", "reason"), [(shifted, "off by"), (flipped_bit, "1[0-9]* voxels differ")])
def test_a_fault_on_the_way_to_the_disk_is_found(
    fault: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = read_volume(series(tmp_path / "in"))
    true_build = dicom_write.build_image

    def faulty(*arguments: Any) -> Dataset:
        image = true_build(*arguments)
        fault(image)
        return image

    monkeypatch.setattr(dicom_write, "build_image", faulty)
    with pytest.raises(WriteError, match=reason):
        write_volume(volume, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


_WRITE = """
import resource, signal, sys
import numpy as np
from medcyclegan.errors import MedCycleGANError
from medcyclegan.io import read_volume, write_volume
volume = read_volume(sys.argv[1])
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
print("go", flush=True)
try:
    write_volume(volume, sys.argv[2])
except MedCycleGANError as error:
    print(error)
"""


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files simulates a full disk: writing fails in the middle of an image."""
    source = series(tmp_path / "in", Grid((40, 40, 6), STACKS["oblique"].affine))
    command = [sys.executable, "-c", _WRITE, str(source), str(tmp_path / "out"), "3000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.fullmatch(r"go\n.*/out cannot be written: File too large\n", done.stdout), done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_killed_while_writing_leaves_no_folder(tmp_path: Path) -> None:
    source = series(tmp_path / "in", Grid((96, 96, 120), STACKS["oblique"].affine))
    command = [sys.executable, "-c", _WRITE, str(source), str(tmp_path / "out")]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "go\n"
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".tmp-*/*.dcm")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(writer.pid, signal.SIGKILL)
    writer.stdout.close()
    writer.wait(timeout=20)
    assert not (tmp_path / "out").exists()
    write_volume(read_volume(source), tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 120


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
