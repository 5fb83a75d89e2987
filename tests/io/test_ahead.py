"""A volume that is read in a thread is, for the caller, read when it is asked for."""

from __future__ import annotations

import logging
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.models import tiny_model
from support.phantoms import head_ct, write_nifti

from medcyclegan.cli.main import main
from medcyclegan.errors import IntensityError, ReadError
from medcyclegan.io import ReadOptions, ahead, read_ahead, read_volume


def test_messages_come_with_the_volume(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_nifti(head_ct(), tmp_path / "a.nii", units="micron")
    caplog.set_level(logging.INFO)
    expected = read_volume(path)
    messages = list(caplog.messages)
    assert messages
    caplog.clear()
    finish = read_ahead(path, ReadOptions())
    for thread in threading.enumerate():
        if thread.name.startswith("medcyclegan-read"):
            thread.join()
    assert caplog.messages == []
    found = finish()
    assert caplog.messages == messages
    assert found.notes == expected.notes
    np.testing.assert_array_equal(found.array, expected.array)


def test_an_error_is_raised_when_the_volume_is_requested(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    volume = head_ct()
    broken = volume.array.astype(np.float32)
    broken[1, 1, 1] = np.nan
    path = write_nifti(volume.replace(array=broken), tmp_path / "a.nii", units="micron")
    finish = read_ahead(path, ReadOptions())
    with pytest.raises(IntensityError, match="not finite"):
        finish()
    assert "micrometres" in caplog.text, "the messages before the error"
    for name in ("missing.nii.gz", "unknown"):
        finish = read_ahead(tmp_path / name, ReadOptions())
        with pytest.raises(ReadError, match=name):
            finish()


def test_a_nifti_file_is_read_meanwhile_and_others_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(head_ct(), tmp_path / "a.nii")
    begun = threading.Event()
    true_read = ahead.read_with_options

    def watched(*arguments):
        begun.set()
        return true_read(*arguments)

    monkeypatch.setattr(ahead, "read_with_options", watched)
    finish = read_ahead(path, ReadOptions())
    assert begun.wait(20)
    kept = weakref.ref(finish())
    assert kept() is None, "no reference stays"
    begun.clear()
    finish = read_ahead(tmp_path, ReadOptions())
    assert not begun.wait(0.2)
    with pytest.raises(ReadError):
        finish()


@pytest.mark.parametrize("fault", ["model", "output", "input", "domain"])
def test_the_command_reports_the_same_error_as_before(tmp_path: Path, fault: str) -> None:
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz", units="micron")
    content = source.read_bytes()
    source.write_bytes(content[:-100])  # cut short: found only at the end of reading
    model, out, to = tiny_model().save(tmp_path / "model"), tmp_path / "out.nii.gz", "mr"
    if fault == "model":
        (model / "G_AB.safetensors").write_bytes(b"")
    if fault == "output":
        out.write_bytes(b"precious")
    if fault == "domain":
        to = "pet"
    done = CliRunner().invoke(main, ["translate-volume", str(source), str(out), "--model", str(model), "--to", to])
    reasons = {"model": "SHA-256", "output": "exists", "input": "cut short", "domain": "--to pet"}
    assert done.exit_code == 1
    assert reasons[fault] in done.stderr.splitlines()[-1]
    assert ("micrometres" in done.stderr) == (fault == "input"), "nothing about a volume that was not asked for"
    assert "cut short" not in done.stderr or fault == "input"
