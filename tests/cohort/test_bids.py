"""Names and metadata of a derivative dataset."""

import json

import pytest

from medcyclegan.cohort import derivative_path, open_derivative, parse_bids_name
from medcyclegan.errors import WriteError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01_T1w", ({"sub": "01"}, "T1w")),
        ("sub-01/ses-2/anat/sub-01_ses-2_run-1_T2w", ({"sub": "01", "ses": "2", "run": "1"}, "T2w")),
        ("patient-07", ({}, None)),
        ("scan_of_anna_T1w", ({}, None)),
        ("T1w", ({}, None)),
    ],
)
def test_names_are_parsed(name, expected):
    assert parse_bids_name(name) == expected


@pytest.mark.parametrize(
    ("name", "domain", "expected"),
    [
        ("sub-01/anat/sub-01_T1w", "t2", "sub-01/anat/sub-01_desc-synthetic_T2w.nii.gz"),
        ("sub-01_ses-2_T1w", "T2w", "sub-01/ses-2/anat/sub-01_ses-2_desc-synthetic_T2w.nii.gz"),
        ("sub-01_desc-n4_T1w", "flair", "sub-01/anat/sub-01_desc-n4synthetic_FLAIR.nii.gz"),
        ("sub-01_T1w", "ct", "sub-01/anat/sub-01_desc-synthetic_ct.nii.gz"),
        ("patient-07/visit 1", "cbct", "sub-patient07visit1/anat/sub-patient07visit1_desc-synthetic_cbct.nii.gz"),
        ("_", "t2", "sub-unnamed/anat/sub-unnamed_desc-synthetic_T2w.nii.gz"),
    ],
)
def test_outputs_are_named_as_derivatives(name, domain, expected):
    assert str(derivative_path(name, domain)) == expected


def test_a_data_set_is_begun_once_and_continued(tmp_path):
    out = tmp_path / "derivatives" / "fake"
    open_derivative(out, tmp_path / "bids", "t2")
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["DatasetLinks"] == {"raw": "../../bids"}
    assert description["GeneratedBy"][0]["Name"] == "medcyclegan"
    before = (out / "dataset_description.json").stat().st_mtime_ns
    open_derivative(out, tmp_path / "bids", "t2")
    assert (out / "dataset_description.json").stat().st_mtime_ns == before


def test_somebody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(WriteError, match="contains other files"):
        open_derivative(tmp_path, tmp_path, "t2")
    (tmp_path / "dataset_description.json").write_text('{"Name": "raw", "GeneratedBy": [{"Name": "fmriprep"}]}')
    with pytest.raises(WriteError, match="did not write"):
        open_derivative(tmp_path, tmp_path, "t2")
