"""A folder in, a folder out: what is translated, skipped, kept and refused, with tiny models on synthetic volumes."""

import json
import os
import shutil
import sys
import weakref

import nibabel as nib
import numpy as np
import pydicom
import pytest
from support import dicom_phantoms as made
from support.exports import GRID, outputs, run
from support.models import tiny_model
from support.phantoms import head_ct, write_nifti

from medcyclegan.cohort import find_many, read_ledger, translate_folder
from medcyclegan.errors import ReadError, UsageError, WriteError
from medcyclegan.inference import TranslationOptions
from medcyclegan.io import ReadOptions


def test_an_export_becomes_a_folder_of_series(export):
    result = run("export", "out", "--to", "mr")
    assert result.exit_code == 0, result.output
    assert outputs(export / "out") == ["more/head", "patient-001/series-01", "patient-002/series-01"]
    patients = set()
    for number in ("001", "002"):
        images = [pydicom.dcmread(path) for path in sorted((export / f"out/patient-{number}/series-01").iterdir())]
        patients |= {(image.Modality, image.PatientID) for image in images}
        assert len({image.PatientID for image in images}) == 1
        assert len(images) == 6
    assert patients == {("MR", "P-a"), ("MR", "P-b")}
    assert nib.load(export / "out/more/head.nii.gz").shape == GRID[0]
    assert "3 translated, 0 unchanged, 2 skipped, 0 failed" in result.stdout
    assert "it is MR, and the model's ct is CT" in result.stdout
    assert "it is a picture" in result.stdout
    assert read_ledger(export / "out") == []
    assert max(len(line) for line in result.stdout.splitlines() if line[0] != "[") <= 80


def test_a_repeated_call_translates_only_what_is_missing(export, monkeypatch):
    run("export", "out", "--to", "mr")
    stamps = {path: path.stat().st_mtime_ns for path in (export / "out").rglob("*.dcm")}
    shutil.rmtree(export / "out/patient-002")
    made.save(made.slices_of(head_ct(*GRID), seed="d"), export / "export" / "DISK2")
    result = run("export", "out", "--to", "mr")
    assert "2 translated, 2 unchanged, 2 skipped, 0 failed" in result.stdout
    after = {path: path.stat().st_mtime_ns for path in (export / "out").rglob("*.dcm")}
    assert all(after[path] == stamp for path, stamp in stamps.items() if "patient-001" in str(path))
    assert (export / "out/DISK2/0001.dcm").exists()
    module = sys.modules["medcyclegan.inference.translate_file"]
    monkeypatch.setattr(module, "translate", lambda *_, **__: 1 / 0)
    assert "0 translated, 4 unchanged, 2 skipped, 0 failed" in run("export", "out", "--to", "mr").stdout


def test_failures_are_listed_and_the_others_are_translated(export):
    (export / "export/more/bad.nii.gz").write_bytes(b"\x1f\x8b\x08 not a volume")
    result = run("export", "out", "--to", "mr")
    assert result.exit_code == 1
    assert "3 translated, 0 unchanged, 2 skipped, 1 failed" in result.stdout
    assert "Error: 1 of 6 volumes failed: see out/ledger.jsonl" in result.stderr
    (failure,) = read_ledger(export / "out")
    assert failure.case == "more/bad"
    assert failure.reason in result.stdout
    write_nifti(head_ct(*GRID), export / "export/more/bad.nii.gz")
    assert run("export", "out", "--to", "mr").exit_code == 0
    assert read_ledger(export / "out") == []


def test_one_series_and_a_chosen_one_keep_their_meaning(export):
    made.save(made.slices_of(head_ct(*GRID)), export / "one")
    made.save([made.localizer(head_ct(*GRID), "series")], export / "one", name=lambda _: "scout.dcm")
    assert find_many([export / "one"], "out", ReadOptions()) is None
    result = run("one", "out", "--to", "mr", "--preview", "previews")
    assert result.exit_code == 2
    assert "--preview previews: its name must end in .png, as IN is one volume" in result.output
    result = run("one", "out", "--to", "mr")
    assert (result.exit_code, result.stdout) == (0, "out\n")
    assert (export / "out/0001.dcm").exists()
    assert result.stderr.count("localizer") == 1, "the scout is reported once"
    uid = made.slices_of(head_ct(*GRID), seed="b")[0].SeriesInstanceUID
    assert run("export", "chosen", "--to", "mr", "--series", uid).stdout == "chosen\n"
    assert pydicom.dcmread(export / "chosen/0001.dcm").PatientID == "P-b"


def test_the_options_name_inputs_and_output_too(export):
    assert run("-i", "export/more/head.nii.gz", "-o", "a.nii.gz", "--to", "mr").stdout == "a.nii.gz\n"
    assert run("-i", "export/more/head.nii.gz", "b.nii.gz", "--to", "mr").stdout == "b.nii.gz\n"
    assert run("export/more/head.nii.gz", "-o", "c.nii.gz", "--to", "mr").stdout == "c.nii.gz\n"
    made.save(made.slices_of(head_ct(*GRID), seed="e"), export / "one")
    result = run("-i", "export/more/head.nii.gz", "-i", "one", "-o", "both", "--to", "mr")
    assert "2 translated" in result.stdout, result.stderr
    assert outputs(export / "both") == ["export/more/head", "one"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export/more/head.nii.gz"], "the input or the output is missing"),
        (["-i", "export"], "the input or the output is missing"),
        (["export", "-i", "export", "-o", "out"], "leave the argument out"),
        (["export", "export/more/head.nii.gz", "out.nii.gz"], "takes one volume, and 2 inputs are named"),
        (["export", "export/more", "dicom://A@h:1"], "takes one volume, and 2 inputs are named"),
        (["export", "export/more", "out", "--series", "1.2"], "chooses one series of one IN"),
        (["export", "out", "--preview", "a.png"], "--preview a.png is a file, and IN holds 5 volumes: name a folder"),
        (["export", "out", "--uncertainty", "a.nii"], "--uncertainty a.nii is a file"),
        (["export", "out", "--uncertainty", "model/model.json"], "--uncertainty model/model.json is a file"),
        (["export", "out", "--preview", "out/previews"], "--preview out/previews is inside out"),
        (["export", "out", "--uncertainty", "export/maps"], "--uncertainty export/maps is inside export"),
        (["export", "out", "--coverage", "0.8"], "add --uncertainty FILE"),
        (["export", "out", "--dicom-template", "export/more"], "--dicom-template export/more belongs to one volume"),
        (["export", "export/out"], "is inside the input folder"),
        (["export", "."], "is an existing folder|contains other files"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(export, words, said):
    before = sorted(export.rglob("*"))
    result = run(*words)
    assert result.exit_code == 2 or "contains other files" in result.stderr
    assert any(phrase in result.stderr for phrase in said.split("|")), result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(export.rglob("*")) == before


def test_a_file_for_several_series_is_refused_with_the_list_of_them(export):
    result = run("export", "out.nii.gz", "--to", "mr")
    assert result.exit_code == 1
    assert "3 series: choose one with --series UID" in result.stderr


def test_a_folder_of_other_files_is_never_the_output(export):
    (export / "mine").mkdir()
    (export / "mine/thesis.txt").write_text("precious")
    result = run("export", "mine", "--to", "mr")
    assert result.exit_code == 1
    assert "contains other files" in result.stderr
    assert [path.name for path in (export / "mine").iterdir()] == ["thesis.txt"]


def test_a_folder_without_a_fitting_volume_is_an_error(export):
    shutil.rmtree(export / "export/more")
    for folder in ("DISK0", "DISK1"):
        for path in (export / "export" / folder).iterdir():
            if pydicom.dcmread(path, stop_before_pixels=True).Modality == "CT":
                path.unlink()
    result = run("export", "out", "--to", "mr")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "none of the 2 volumes is ct" in result.stderr
    assert not (export / "out").exists()
    assert run("export", "out").exit_code == 0, "without --to, the direction follows the modality"


def test_inputs_of_one_name_never_replace_each_other(export):
    options = TranslationOptions(to="mr")
    time = 1_700_000_000
    for number, folder in enumerate(("a", "b")):
        volume = head_ct(*GRID)
        volume = volume.replace(array=(volume.array + number).astype(np.int16))
        os.utime(write_nifti(volume, export / folder / "x.nii"), (time, time))
        write_nifti(volume, export / folder / "y.nii")
        source = export / folder
        found = find_many([source], "out", ReadOptions())
        done = translate_folder([source], found, export / "out", "model", options)
        if folder == "a":
            first = (export / "out/x.nii").read_bytes()
            assert len(done.translated) == 2
        else:
            assert "x.nii was made with another input" in done.failed["x"]
            assert (export / "out/x.nii").read_bytes() == first
    both = find_many([export / "a", export / "b"], "both", ReadOptions())
    done = translate_folder([export / "a", export / "b"], both, export / "both", "model", options)
    assert sorted(str(path.relative_to(export / "both")) for path in done.translated) == [
        "a/x.nii", "a/y.nii", "b/x.nii", "b/y.nii",
    ]  # fmt: skip


def test_inputs_of_one_name_are_counted_and_recorded_separately(export):
    for ending in ("nii", "nii.gz"):
        (export / f"two/a.{ending}").parent.mkdir(exist_ok=True)
        (export / f"two/a.{ending}").write_bytes(b"no volume")
    result = run("two", "export/more", "out", "--to", "mr")
    assert "1 translated, 0 unchanged, 2 failed" in result.stdout
    assert "2 of 3 volumes failed" in result.output
    assert [row.case for row in read_ledger(export / "out")] == ["two/a.nii", "two/a.nii.gz"]


def test_a_file_that_the_user_put_there_is_not_replaced(export):
    run("export", "out", "--to", "mr")
    write_nifti(head_ct(*GRID), export / "export/more/new.nii.gz")
    (export / "out/more/new.nii.gz").write_bytes(b"precious")
    result = run("export", "out", "--to", "mr")
    assert result.exit_code == 1
    assert "new.nii.gz exists, and no marker of this command belongs to it" in result.stdout
    assert (export / "out/more/new.nii.gz").read_bytes() == b"precious"
    (export / "out/more/new.nii.gz").rename(export / "out/more/new.json")
    assert "new.json exists, and no marker" in run("export", "out", "--to", "mr").stdout
    assert (export / "out/more/new.json").read_bytes() == b"precious"
    assert run("export", "out", "--to", "mr", "--overwrite").exit_code == 0
    assert nib.load(export / "out/more/new.nii.gz").shape == GRID[0]


def test_an_output_that_was_only_begun_is_made_again(export, monkeypatch):
    module = sys.modules["medcyclegan.inference.translate_file"]
    found = find_many([export / "export"], "out", ReadOptions())

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "assess", stopped)
        with pytest.raises(KeyboardInterrupt):
            translate_folder([export / "export"], found, export / "out", "model", TranslationOptions(to="mr"))
    assert (export / "out/patient-001/series-01/0001.dcm").exists()
    result = run("export", "out", "--to", "mr")
    assert "3 translated, 0 unchanged" in result.stdout, "the begun one again"
    record = json.loads((export / "out/patient-001/series-01.json").read_text())
    assert record["quality"]["verdict"]


def test_nothing_of_the_headers_or_paths_is_in_a_deidentified_folder(export):
    (export / "export").rename(export / "Doe_John")
    (export / "Doe_John/DISK0/IM0099.dcm").write_bytes((export / "Doe_John/DISK0/IM0001.dcm").read_bytes()[:2000])
    made.save(made.slices_of(head_ct(*GRID), seed="e"), export / "Doe_John" / "Doe^Jane")
    result = run("Doe_John", "out", "--to", "mr", "--deidentify")
    assert result.exit_code == 1, "NIfTI is refused, and a damaged file"
    names = [str(path.relative_to(export / "out")) for path in (export / "out").rglob("*")]
    contents = b"".join(path.read_bytes() for path in (export / "out").rglob("*") if path.is_file())
    assert read_ledger(export / "out")
    for text in ("Doe", "P-a", "P-e", "DISK", "head.nii", "IM0099"):
        assert not any(text in name for name in names), text
        assert text.encode() not in contents, text


def test_results_with_and_without_patients_are_not_mixed(export):
    run("export", "out", "--to", "mr")
    before = sorted((export / "out").rglob("*"))
    result = run("export", "out", "--to", "mr", "--deidentify", "--overwrite")
    assert result.exit_code == 1
    assert "contains results that are not de-identified" in result.stderr
    assert sorted((export / "out").rglob("*")) == before
    run("export", "anonymous", "--to", "mr", "--deidentify")
    assert "contains results that are de-identified" in run("export", "anonymous", "--to", "mr").stderr


def test_only_one_volume_is_in_memory(export, monkeypatch):
    for number in range(4):
        write_nifti(head_ct(*GRID), export / "many" / f"{number}.nii")
    module = sys.modules["medcyclegan.inference.translate_file"]
    read, alive, counts = module.read_found_volume, [], []

    def watched(found, options):
        counts.append(sum(ref() is not None for ref in alive))
        volume = read(found, options)
        alive.append(weakref.ref(volume))
        return volume

    monkeypatch.setattr(module, "read_found_volume", watched)
    loads = []
    monkeypatch.setattr(
        sys.modules["medcyclegan.inference.translate"].ModelBundle,
        "load",
        classmethod(lambda *_: loads.append(1) or tiny_model()),
    )
    found = find_many([export / "many"], "out", ReadOptions())
    done = translate_folder([export / "many"], found, export / "out", "model", TranslationOptions(to="mr"))
    assert len(done.translated) == 4
    assert counts == [0, 0, 0, 0]
    assert loads == [1], "the model is loaded once"


def test_errors_of_python_calls(export):
    (export / "empty").mkdir()
    (export / "void").mkdir()
    with pytest.raises(ReadError, match="no volume found"):
        find_many([export / "empty", export / "void"], "out", ReadOptions())
    with pytest.raises(UsageError):
        find_many([export / "empty", export / "void"], "out.nii", ReadOptions())
    found = find_many([export / "export"], "out", ReadOptions())
    (export / "plain").write_text("x")
    with pytest.raises(WriteError, match="is a file"):
        translate_folder([export / "export"], found, export / "plain", "model")


def test_results_of_two_key_files_are_not_mixed(export, tmp_path):
    for name in ("DISK0", "DISK1"):
        for path in (export / "export" / name).iterdir():
            image = pydicom.dcmread(path)
            image.PatientID = "P-1"
            image.save_as(path)
    words = ("export/DISK0", "export/DISK1", "out", "--to", "mr", "--deidentify")
    (tmp_path / "keys").mkdir()
    first = run(*words, "--pseudonyms", "keys/one.json")
    assert first.exit_code == 0, first.stderr
    again = run(*words, "--pseudonyms", "keys/one.json")
    assert "2 translated" not in again.stdout
    other = run(*words, "--pseudonyms", "keys/two.json")
    assert other.exit_code == 1
    assert "was made with another settings" in other.stdout + other.stderr + (tmp_path / "out/ledger.jsonl").read_text()


def test_remarks_on_the_model_are_printed_once(export):
    result = run("export", "out", "--to", "mr")
    remarks = [line for line in result.stderr.splitlines() if "quality: " in line]
    assert remarks
    assert len(remarks) == len(set(remarks))


def test_the_table_fits_a_narrow_terminal(export, monkeypatch):
    wide = run("export", "out", "--to", "mr").stdout
    monkeypatch.setattr("medcyclegan.terminal._PIPE_COLUMNS", 50)
    narrow = run("export", "out", "--to", "mr").stdout
    assert max(map(len, narrow.splitlines())) <= 60, "words are not broken"
    assert "\n  unchanged, check [1]: more/head.nii.gz" in narrow
    assert "more/head" in narrow.splitlines()
    assert sum("translated" in line for line in wide.splitlines()) >= 3
