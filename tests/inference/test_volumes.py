"""From Python: the quality of a translation, the files that write_volume makes of it, and what it refuses."""

import json
import sys

import numpy as np
import pytest
from support import dicom_phantoms as made
from support.models import tiny_model, with_fitness
from support.phantoms import head_ct, make_affine, write_nifti

from medcyclegan import read_volume, translate_volume, write_volume
from medcyclegan.errors import WriteError
from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.io import sidecar_path

GRID = ((20, 24, 6), make_affine("LPS", (9.0, 9.0, 9.0)))


@pytest.fixture
def scan(tmp_path):
    write_nifti(head_ct(*GRID), tmp_path / "in.nii.gz")
    return read_volume(tmp_path / "in.nii.gz")


def test_the_verdict_is_that_of_the_command(tmp_path, scan):
    model = with_fitness(tiny_model())
    result = translate_volume(scan, model, "mr", device="cpu")
    translate_file(tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", model, TranslationOptions(to="mr"))
    recorded = json.loads((tmp_path / "out.json").read_text())["quality"]
    assert result.quality is not None
    assert json.loads(json.dumps(result.quality)) == recorded
    assert recorded["verdict"] == "check"
    assert recorded["reasons"][0].startswith("translated back, it differs")
    assert scan.quality is None
    assert translate_volume(scan, model, "mr", device="cpu", quality=False).quality is None


def test_a_failed_measurement_does_not_lose_the_translation(scan, monkeypatch, caplog):
    monkeypatch.setattr(sys.modules["medcyclegan.inference.volumes"], "assess", lambda *_, **__: 1 / 0)
    result = translate_volume(scan, tiny_model(), "mr", device="cpu")
    assert (result.shape, result.quality) == (scan.shape, None)
    assert result.derivation.record["failed"] == ["quality"]
    assert "the quality of the translation was not measured (ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("name", ["out.nii.gz", "out.mha", "out"])
def test_a_translation_is_written_with_its_sidecar(tmp_path, scan, name):
    if name == "out":
        made.save(made.slices_of(head_ct(*GRID)), tmp_path / "series")
        scan = read_volume(tmp_path / "series")
    result = translate_volume(scan, tiny_model(), "mr", device="cpu")
    write_volume(result, tmp_path / name)
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["synthetic"] is True
    assert record["model"] == result.derivation.model_sha256
    assert record["quality"]["verdict"] == result.quality["verdict"]
    assert record["seconds"].keys() == {"translate", "assess"}
    translate_file(tmp_path / ("series" if name == "out" else "in.nii.gz"), tmp_path / "by-command" / name,
                   tiny_model(), TranslationOptions(to="mr"))  # fmt: skip
    same = json.loads(sidecar_path(tmp_path / "by-command" / name).read_text())
    assert record.keys() == same.keys()
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, read_volume(tmp_path / "by-command" / name).array)


@pytest.mark.parametrize("name", ["out.nii.gz", "out"])
def test_nothing_is_replaced_unasked(tmp_path, scan, name):
    made.save(made.slices_of(head_ct(*GRID)), tmp_path / "series")
    scan = read_volume(tmp_path / "series")
    result = translate_volume(scan, tiny_model(), "mr", device="cpu")
    write_volume(result, tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(WriteError, match=r"exists: outputs are not replaced unless you pass --overwrite"):
        write_volume(result, tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    other = result.replace(array=result.array + 1)
    write_volume(other, tmp_path / name, overwrite=True)
    assert not np.array_equal(read_volume(tmp_path / name).array, result.array)


def test_a_sidecar_of_another_program_is_kept(tmp_path, scan):
    (tmp_path / "out.json").write_text('{"EchoTime": 0.1}')
    result = translate_volume(scan, tiny_model(), "mr", device="cpu", quality=False)
    with pytest.raises(WriteError, match=r"out\.json exists"):
        write_volume(result, tmp_path / "out.nii.gz")
    assert (tmp_path / "out.json").read_text() == '{"EchoTime": 0.1}'
    assert not (tmp_path / "out.nii.gz").exists()


def test_an_acquired_volume_does_not_inherit_the_sidecar_of_a_translation(tmp_path, scan):
    write_volume(translate_volume(scan, tiny_model(), "mr", device="cpu", quality=False), tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").unlink()
    with pytest.raises(WriteError, match=r"a\.json says that a\.nii\.gz is synthetic.*overwrite=True"):
        write_volume(scan, tmp_path / "a.nii.gz")
    write_volume(scan, tmp_path / "a.nii.gz", overwrite=True)
    assert not (tmp_path / "a.json").exists()
    assert read_volume(tmp_path / "a.nii.gz", allow_synthetic=False).synthetic is False


def test_a_failed_write_leaves_neither_volume_nor_sidecar(tmp_path, scan):
    result = translate_volume(scan, tiny_model(), "mr", device="cpu", quality=False)
    bad = result.replace(array=np.full_like(result.array, np.nan))
    with pytest.raises(WriteError, match="not finite"):
        write_volume(bad, tmp_path / "out.nii.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.nii.gz"]
