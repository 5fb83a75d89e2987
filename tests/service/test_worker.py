"""What the process that translates does with refusals and with a full disk."""

import errno

import pydicom
import pytest
from support import dicom_phantoms
from support.dicom_studies import make_study
from support.models import tiny_model

from medcyclegan.errors import WriteError
from medcyclegan.inference import InferenceOptions
from medcyclegan.service import worker
from medcyclegan.service.worker import SeriesJob, StudyJob, translate_study


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job with one CT series of four slices."""
    monkeypatch.setattr(worker, "_silence", lambda: None)
    monkeypatch.setattr("os.umask", lambda mode: mode)
    tiny_model().save(tmp_path / "model")
    images = make_study("one")
    files = dicom_phantoms.save(images, tmp_path / "study" / "in")
    series = SeriesJob(images[0].SeriesInstanceUID, tuple(files), tmp_path / "study" / "out" / "s", None, False)
    models, computing = (str(tmp_path / "model"),), InferenceOptions(device="cpu")
    return StudyJob(
        tmp_path / "study" / "in", tmp_path / "study" / "out", (series,), models, computing, True, tmp_path / "lock"
    )


def test_what_a_killed_process_left_is_replaced_and_uids_stay_the_same(job):
    job.series[0].out.mkdir(parents=True)
    (job.series[0].out / "half.dcm").write_bytes(b"half")
    uids = []
    for _ in range(2):
        (result,) = translate_study(job)
        assert result.refused == ""
        assert sorted(path.name for path in job.out.iterdir()) == ["s", "s.json"]
        uids.append([pydicom.dcmread(path).SOPInstanceUID for path in sorted(job.series[0].out.iterdir())])
    assert uids[0] == uids[1]
    assert len(uids[0]) == 4


def test_a_refusal_names_no_patient_and_its_note_has_the_whole_reason(job):
    job.series[0].files[2].unlink()
    (result,) = translate_study(job)
    assert "slice spacing varies from 9.0 to 18.0 mm" in result.refused
    assert job.series[0].uid not in result.refused
    assert "(a slice is missing" in pydicom.dcmread(result.note / "0001.dcm").ContentSequence[0].TextValue


def test_a_study_that_cannot_hold_a_note_is_refused_without_one(job):
    for path in job.series[0].files:
        image = pydicom.dcmread(path)
        image.PatientID = "a\x1bb"
        image.save_as(path)
    (result,) = translate_study(job)
    assert "PatientID" in result.refused
    assert result.note is None


@pytest.mark.parametrize("part", ["translate_file", "write_note"])
def test_a_full_disk_is_not_a_refusal(job, monkeypatch, part):
    def full(*_arguments):
        raise WriteError("out cannot be written") from OSError(errno.ENOSPC, "No space left on device")

    job.series[0].files[2].unlink()
    monkeypatch.setattr(worker, part, full)
    with pytest.raises(WriteError, match="cannot be written"):
        translate_study(job)


def test_the_check_of_free_space_counts_as_a_full_disk(job, monkeypatch):
    from medcyclegan.storage import check_space

    with pytest.raises(WriteError) as caught:
        check_space(job.out, 1 << 62, "the output")
    assert isinstance(caught.value.__cause__, OSError)
