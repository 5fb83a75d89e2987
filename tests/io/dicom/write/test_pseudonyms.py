"""Pseudonyms: stable for a patient, different between patients, in a key file that only its owner can read."""

from __future__ import annotations

import datetime
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner
from reliability import planted
from support import dicom_phantoms as made
from support import dicom_readback as peers
from support.models import tiny_model
from support.phantoms import head_ct, make_affine

from medcyclegan import read_volume, write_volume
from medcyclegan.cli.main import main
from medcyclegan.errors import ReadError, UsageError, WriteError
from medcyclegan.io.dicom.write.pseudonyms import find_pseudonym, identify_key_file

GRID = ((20, 24, 4), make_affine("LPS", (9.0, 9.0, 9.0)))


def scan(folder: Path, patient: str = "DOE-1", *, seed: str = "a", date: str = "20240131", **changes: str) -> Path:
    slices = made.slices_of(head_ct(*GRID), seed=seed)
    for image in slices:
        image.PatientID, image.StudyDate = patient, date
        image.StudyInstanceUID = f"1.2.3.{len(date)}.{date or 0}"
        for keyword, value in changes.items():
            setattr(image, keyword, value)
    made.save(slices, folder)
    return folder


def write(source: Path, out: Path, keys: Path) -> list[pydicom.Dataset]:
    volume = peers.made_from(read_volume(source), "MR")
    write_volume(volume, out, deidentify=True, pseudonyms=keys)
    return [pydicom.dcmread(path) for path in sorted(out.iterdir())]


def shift(image: pydicom.Dataset, date: str) -> int:
    days = [datetime.datetime.strptime(text, "%Y%m%d").replace(tzinfo=datetime.UTC) for text in (date, image.StudyDate)]
    return (days[0] - days[1]).days


def test_a_patient_keeps_the_pseudonym_and_the_intervals(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    first = write(scan(tmp_path / "1"), tmp_path / "out1", keys)
    later = write(scan(tmp_path / "2", seed="b", date="20240315"), tmp_path / "out2", keys)
    other = write(scan(tmp_path / "3", "DOE-2", seed="c"), tmp_path / "out3", keys)
    for images in (first, later, other):
        assert len({(image.PatientID, str(image.PatientName), image.StudyDate) for image in images}) == 1
    assert first[0].PatientID == later[0].PatientID == str(first[0].PatientName)
    assert first[0].PatientID != other[0].PatientID
    assert shift(first[0], "20240131") == shift(later[0], "20240315")
    assert 30 <= shift(first[0], "20240131") <= 3650
    assert first[0].StudyTime == "", "a time of day could be matched with a schedule"
    assert "DOE" not in first[0].PatientID
    for image in (first[0], other[0]):
        assert image.PatientIdentityRemoved == "YES"
        assert image.LongitudinalTemporalInformationModified == "MODIFIED"
        codes = {(code.CodeValue, code.CodingSchemeDesignator) for code in image.DeidentificationMethodCodeSequence}
        assert codes == {("113100", "DCM"), ("113107", "DCM")}
        assert (image.PatientBirthDate, image.AccessionNumber, image.StudyID) == ("", "", "")
        assert "SeriesDate" not in image or not image.SeriesDate
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
    assert keys.stat().st_mode & 0o777 == 0o600


def test_uids_are_the_same_in_every_run_with_the_key_file_and_only_with_it(tmp_path: Path) -> None:
    source = scan(tmp_path / "in")
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    volume = peers.made_from(read_volume(source), "MR")
    runs = []
    for number, keys in enumerate(("k", "k", "l")):
        code = (
            "import sys; from pathlib import Path\nsys.path.insert(0, sys.argv[4])\n"
            "from medcyclegan import read_volume, write_volume\nfrom support import dicom_readback as peers\n"
            "write_volume(peers.made_from(read_volume(sys.argv[1]), 'MR'), sys.argv[2], deidentify=True,"
            " pseudonyms=sys.argv[3])\n"
        )
        out = tmp_path / f"out{number}"
        command = [
            sys.executable,
            "-c",
            code,
            str(source),
            str(out),
            str(tmp_path / keys),
            str(Path(__file__).parents[3]),
        ]
        subprocess.run(command, check=True, capture_output=True)
        images = [pydicom.dcmread(path) for path in sorted(out.iterdir())]
        runs.append([[str(image[keyword].value) for keyword in keywords] for image in images])
    assert runs[0] == runs[1]
    assert not {uid for image in runs[0] for uid in image} & {uid for image in runs[2] for uid in image}
    write_volume(volume, tmp_path / "named")
    named = pydicom.dcmread(tmp_path / "named/0001.dcm")
    assert not {str(named[keyword].value) for keyword in keywords} & set(runs[0][0])
    assert all(pydicom.uid.UID(uid).is_valid for image in runs[0] for uid in image)


def test_no_byte_of_the_source_but_the_geometry_is_left(tmp_path: Path) -> None:
    folder = tmp_path / planted.IN_NAMES / "series"
    planted.write_series(head_ct((40, 48, 5), make_affine("LPS", (5.0, 5.0, 8.0))), folder, "1")
    tiny_model().save(tmp_path / "model")
    keys = tmp_path / "private" / "keys.json"
    options = ["--model", tmp_path / "model", "--to", "mr", "--deidentify", "--pseudonyms", keys]
    done = CliRunner().invoke(main, [str(word) for word in ("translate-volume", folder, tmp_path / "out/mr", *options)])
    assert done.exit_code == 0, done.output
    assert planted.find(tmp_path / "out", (planted.IN_NAMES, *planted.IN_HEADERS)) == []
    for path in (tmp_path / "out/mr").iterdir():
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
        assert "Error" not in said, said
    assert [path.name for path in (tmp_path / "out").iterdir()] in (["mr", "mr.json"], ["mr.json", "mr"])


def test_a_study_without_a_date_gets_no_date(tmp_path: Path) -> None:
    (image, *_) = write(scan(tmp_path / "in", date=""), tmp_path / "out", tmp_path / "keys")
    assert (image.StudyDate, image.StudyTime) == ("", "")
    assert image.LongitudinalTemporalInformationModified == "REMOVED"
    assert [code.CodeValue for code in image.DeidentificationMethodCodeSequence] == ["113100"]
    assert image.PatientID


def test_the_same_id_of_two_issuers_is_two_patients(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    names = []
    for number, issuer in enumerate(("Boston", "Osaka", "Boston")):
        source = scan(tmp_path / f"in{number}", IssuerOfPatientID=issuer, seed=issuer)
        names.append(write(source, tmp_path / f"out{number}", keys)[0].PatientID)
    assert names[0] == names[2] != names[1]


def test_a_patient_without_an_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="no PatientID"):
        write(scan(tmp_path / "in", ""), tmp_path / "out", tmp_path / "keys")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_key_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    keys = tmp_path / "keys"
    find_pseudonym(keys, "DOE-1")
    keys.chmod(mode)
    before = keys.read_bytes()
    with pytest.raises(ReadError, match=r"others can read or change it.*chmod 600"):
        write(scan(tmp_path / "in"), tmp_path / "out", keys)
    assert not (tmp_path / "out").exists()
    assert keys.read_bytes() == before


def test_a_damaged_key_file_is_refused_and_kept(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    find_pseudonym(keys, "DOE-1")
    whole = keys.read_bytes()
    record = json.loads(whole)
    damages = [b"", b"{", whole[:-40], whole.replace(b"DOE-1", b"DOE-2"), b"[]", b"precious notes", b"\xff"]
    damages.append(json.dumps({**record, "patients": []}).encode())
    for damage in damages:
        keys.write_bytes(damage)
        with pytest.raises(ReadError, match="not a key file of pseudonyms, or it is damaged"):
            find_pseudonym(keys, "DOE-1")
        assert keys.read_bytes() == damage
    keys.write_bytes(whole)
    assert find_pseudonym(keys, "DOE-1").patient_id == record["patients"][0]["pseudonym"]


def test_processes_at_once_agree_and_lose_no_patient(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    code = (
        "import sys; from pathlib import Path\nfrom medcyclegan.io.dicom.write.pseudonyms import find_pseudonym\n"
        "sys.stdin.readline()\n"
        "for n in range(30): print(n, find_pseudonym(Path(sys.argv[1]), f'DOE-{n}').patient_id)\n"
    )
    command = [sys.executable, "-c", code, str(keys)]
    jobs = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for job in jobs:
        job.stdin.write("go\n")
        job.stdin.flush()
    results = {job.communicate()[0] for job in jobs}
    assert all(job.returncode == 0 for job in jobs)
    assert len(results) == 1
    names = [line.split()[1] for line in results.pop().splitlines()]
    assert len(set(names)) == 30
    assert len(json.loads(keys.read_text())["patients"]) == 30
    assert keys.stat().st_mode & 0o777 == 0o600


def test_a_link_to_the_key_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "safe").mkdir()
    (tmp_path / "keys").symlink_to(tmp_path / "safe" / "keys")
    one = find_pseudonym(tmp_path / "keys", "DOE-1")
    assert (tmp_path / "keys").is_symlink()
    assert find_pseudonym(tmp_path / "safe" / "keys", "DOE-1") == one
    assert "key" not in repr(one)


def test_it_belongs_to_deidentify_and_not_into_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scan(tmp_path / "in")
    tiny_model().save(tmp_path / "model")
    volume = peers.made_from(read_volume(tmp_path / "in"), "MR")
    with pytest.raises(UsageError, match="add --deidentify"):
        write_volume(volume, tmp_path / "out", pseudonyms=tmp_path / "keys")
    for words, said in (
        (["in", "out", "--pseudonyms", "keys"], "add --deidentify"),
        (["in", "out", "--deidentify", "--pseudonyms", "out/keys"], "keep the key file elsewhere"),
        (["in", "out", "--deidentify", "--pseudonyms", "out.json"], "keep the key file elsewhere"),
        (["in", "in", "many", "--deidentify", "--pseudonyms", "many/keys"], "keep the key file in another folder"),
        (["in", "many", "-i", "in", "--pseudonyms", "keys"], "add --deidentify"),
    ):
        done = CliRunner().invoke(main, ["translate-volume", *words, "--model", "model", "--to", "mr"])
        assert (done.exit_code, said in done.stderr) == (2, True), done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "model"]


def test_a_folder_of_patients_gets_their_pseudonyms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_model().save(tmp_path / "model")
    for number, patient in enumerate(("DOE-1", "DOE-2", "DOE-1")):
        scan(tmp_path / "in" / f"DOE{number}", patient, seed=str(number), date=f"2024010{number + 1}")
    words = ["in", "out", "--model", "model", "--to", "mr", "--deidentify", "--pseudonyms", "keys"]
    done = CliRunner().invoke(main, ["translate-volume", *words])
    assert done.exit_code == 0, done.output
    found = {
        str(path.parent.relative_to(tmp_path / "out")): pydicom.dcmread(path).PatientID
        for path in (tmp_path / "out").rglob("0001.dcm")
    }
    assert sorted(found) == ["patient-001/series-01", "patient-001/series-02", "patient-002/series-01"]
    assert found["patient-001/series-01"] == found["patient-001/series-02"] != found["patient-002/series-01"]
    again = CliRunner().invoke(main, ["translate-volume", *words])
    assert "0 translated, 3 unchanged" in again.stdout
    assert os.path.exists("keys")


def test_a_key_file_is_identified_without_its_contents(tmp_path):
    first = identify_key_file(tmp_path / "one.json")
    assert stat.S_IMODE((tmp_path / "one.json").stat().st_mode) == 0o600
    find_pseudonym(tmp_path / "one.json", "P-1")
    assert identify_key_file(tmp_path / "one.json") == first, "new patients do not change it"
    assert identify_key_file(tmp_path / "two.json") != first
    assert first not in (tmp_path / "one.json").read_text()
