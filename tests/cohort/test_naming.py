"""Names of outputs: one for each input, the same in every call, and without header text where it must not show."""

from pathlib import Path

import pytest

from medcyclegan.cohort.naming import assign_names, derivative_names, find_derivative, folder_names
from medcyclegan.io import FoundVolume, sidecar_path


def series(place, uid, patient="P1", modality="CT"):
    relative = Path(place)
    return FoundVolume(Path("in") / place, "dicom", place or "in", relative, uid, patient, modality=modality)


def file(place, kind="nifti"):
    name = place.removesuffix(".gz").rpartition(".")[0]
    return FoundVolume(Path("in") / place, kind, name, Path(place), files=(Path("in") / place,))


def named(volumes, known=None, **options):
    return folder_names(volumes, known or {}, **options)


def test_a_volume_keeps_its_place_and_its_format():
    volumes = [file("b/x.nii.gz"), file("y.NII"), file("z.mhd", "itk"), file("p.png", "image"), file("q.JPEG", "image")]
    assert named(volumes) == ["b/x.nii.gz", "y.nii", "z.mha", "p.png", "q.jpeg"]
    assert named([series("ct/0001", "1"), series("ct/0002.v1", "2")]) == ["ct/0001", "ct/0002_v1"]


def test_series_of_one_folder_are_named_by_patient_and_number():
    export = [series("", "1"), series("", "2"), series("", "3", "P2"), series("", "4", None), series("", "5", None)]
    assert named(export) == [
        "patient-001/series-01", "patient-001/series-02", "patient-002/series-01", "patient-003/series-01",
        "patient-004/series-01",
    ]  # fmt: skip
    assert not any("P1" in name for name in named([series("Doe^John", "1")], anonymous=True))


@pytest.mark.parametrize(
    "volumes",
    [
        [file("a.nii.gz"), file("a.mha", "itk"), file("a.nii")],
        [file("a.nii.gz"), series("a", "1")],
        [file("A.nii.gz"), file("a.nii.gz")],
        [series("a", "1"), series("a/b", "2"), series("a_b", "3")],
        [series("a/b", "2"), series("a", "1")],
        [series("a", "1"), series("b", "1"), series("a/c", "1")],
        [file("u\u0308.nii"), file("\u00fc.nii")],
        [series("a.b", "1"), series("a_b", "2")],
    ],
)
def test_outputs_sidecars_and_folders_never_collide(volumes):
    outputs = named(volumes)
    claimed = [path.casefold() for name in outputs for path in (name, str(sidecar_path(Path(name))))]
    assert len(set(claimed)) == 2 * len(volumes)
    parents = {str(parent).casefold() for name in outputs for parent in Path(name).parents}
    assert not parents & set(claimed), "a DICOM folder holds DICOM files only"
    assert outputs[0] in (volumes[0].relative_path.as_posix(), "a_b"), "the first one keeps its name"


def test_names_stay_when_volumes_are_added(tmp_path):
    first = [series("", "5", "P2"), series("", "6", "P3")]
    before = assign_names(tmp_path, lambda known: folder_names(first, known), first)
    assert before == ["patient-001/series-01", "patient-002/series-01"]
    more = [series("", "1", "P0"), series("", "2", "P2"), *first, file("patient-003.nii.gz")]
    after = assign_names(tmp_path, lambda known: folder_names(more, known), more)
    assert after[2:4] == before
    assert after[:2] == ["patient-003/series-01", "patient-001/series-02"]
    assert len(set(after)) == len(more)
    record = (tmp_path / ".names.jsonl").read_text()
    assert not any(text in record for text in ("P0", "P2", "P3")), "no PatientID is recorded"
    assert (tmp_path / ".names.jsonl").stat().st_mode & 0o077 == 0


def test_a_derivative_dataset_numbers_patients_without_bids_names(tmp_path):
    volumes = [
        series("sub-07/dicom", "4", "P7"),
        series("sub-07/more", "5", "P7"),
        series("x/1", "1"),
        series("x/2", "2"),
        series("y", "3", "P2"),
    ]
    names = assign_names(tmp_path, lambda known: derivative_names(volumes, "mr", known), volumes)
    assert names == [
        "sub-07/anat/sub-07_desc-synthetic_MRI.nii.gz",
        "sub-07/anat/sub-07_run-02_desc-synthetic_MRI.nii.gz",
        "sub-001/anat/sub-001_desc-synthetic_MRI.nii.gz",
        "sub-001/anat/sub-001_run-02_desc-synthetic_MRI.nii.gz",
        "sub-002/anat/sub-002_desc-synthetic_MRI.nii.gz",
    ]
    assert [str(find_derivative(tmp_path, volume, "mr").relative_to(tmp_path)) for volume in volumes] == names
    assert not find_derivative(tmp_path, series("z", "9", "P9"), "mr").exists()
