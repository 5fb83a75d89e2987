"""Burned-in text: an output repeats the statement of its source, and is de-identified only if there is none."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from support import dicom_phantoms as made
from support import dicom_readback as peers
from support.models import tiny_model
from support.phantoms import head_ct, make_affine, write_nifti

from medcyclegan import Volume
from medcyclegan.errors import WriteError
from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.io import ReadOptions, read_volume, write_volume
from medcyclegan.io.inspect import inspect_paths

needs_tools = pytest.mark.skipif(bool(peers.MISSING_TOOLS), reason=peers.MISSING_TOOLS or "all there")
NOTE = "BurnedInAnnotation is YES: text in the pixels may name the patient, and every output may show it"


def series(folder: Path, *statements: str | None, volume: Volume | None = None) -> Path:
    """Write a series with ``statements`` as BurnedInAnnotation of its slices, in turn; None: without the attribute."""
    slices = made.slices_of(made.placed_volume() if volume is None else volume)
    for number, dataset in enumerate(slices):
        dataset.ReferringPhysicianName = dataset.AccessionNumber = dataset.StudyID = ""
        dataset.BodyPartExamined, dataset.PositionReferenceIndicator = "HEAD", ""
        statement = statements[number % len(statements)]
        if statement is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "yes" is not a valid code string
                dataset.BurnedInAnnotation = statement
    made.save(slices, folder)
    return folder


def stated(folder: Path) -> set[Any]:
    return {pydicom.dcmread(path).get("BurnedInAnnotation") for path in folder.iterdir()}


@needs_tools
@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (("YES",), "YES"),
        (("NO",), "NO"),
        ((None,), None),
        (("NO", "NO", "YES", None, "NO"), "YES"),
        (("NO", None), None),
        (("yes",), "YES"),
        (("PERHAPS",), None),
    ],
)
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_sources_statement_is_copied(
    statements: tuple[str | None, ...], expected: str | None, modality: str, tmp_path: Path
) -> None:
    source = series(tmp_path / "in", *statements)
    write_volume(peers.made_from(read_volume(source), modality), tmp_path / "out")
    assert stated(tmp_path / "out") == {expected}
    assert peers.new_verdicts(peers.files_of(source), peers.files_of(tmp_path / "out")) == []


def test_an_enhanced_sources_statement_is_copied(tmp_path: Path) -> None:
    dataset = made.enhanced_of(made.placed_volume())
    dataset.BurnedInAnnotation = "YES"
    made.save([dataset], tmp_path / "in")
    write_volume(peers.made_from(read_volume(tmp_path / "in"), "MR"), tmp_path / "out")
    assert stated(tmp_path / "out") == {"YES"}


def test_the_statement_of_a_template_counts_if_the_volume_is_derived_from_it(tmp_path: Path) -> None:
    template = series(tmp_path / "template", "YES")
    volume = read_volume(write_nifti(made.placed_volume(), tmp_path / "ct.nii"))
    write_volume(peers.made_from(volume.replace(modality="CT"), "MR"), tmp_path / "from-ct", template=template)
    assert stated(tmp_path / "from-ct") == {"YES"}
    with pytest.raises(WriteError, match="BurnedInAnnotation is YES"):
        write_volume(
            peers.made_from(volume.replace(modality="CT"), "MR"), tmp_path / "x", template=template, deidentify=True
        )
    write_volume(peers.made_from(volume.replace(modality="MR"), "MR"), tmp_path / "from-mr", template=template)
    assert stated(tmp_path / "from-mr") == {None}


def test_it_is_logged_by_reading_and_listed_by_inspection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = series(tmp_path / "in", "NO", "YES")
    with caplog.at_level(logging.WARNING):
        assert read_volume(source).notes == (NOTE,)
    assert NOTE in caplog.text
    (row,) = inspect_paths([source], ReadOptions()).volumes
    assert (row.verdict, row.notes) == ("ok", (NOTE,))
    assert read_volume(series(tmp_path / "clean", "NO")).notes == ()


def test_deidentify_refuses_it_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = head_ct((40, 48, 5), make_affine("LPS", (5.0, 5.0, 8.0)))
    source = series(tmp_path / "in", "YES", volume=volume)
    model = tiny_model().save(tmp_path / "model")
    options = TranslationOptions(to="mr", deidentify=True)
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules[translate_file.__module__], "translate", None)
        with pytest.raises(WriteError, match=r"BurnedInAnnotation is YES.*--deidentify does not change pixels: remove"):
            translate_file(source, tmp_path / "out", model, options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "model"]
    translate_file(source, tmp_path / "named", model, TranslationOptions(to="mr"))
    assert stated(tmp_path / "named") == {"YES"}
    with pytest.raises(WriteError, match="BurnedInAnnotation is YES"):
        write_volume(read_volume(source), tmp_path / "out", deidentify=True)
    assert not (tmp_path / "out").exists()


def test_deidentify_keeps_the_statement_that_nothing_is_burned_in(tmp_path: Path) -> None:
    volume = read_volume(series(tmp_path / "in", "NO"))
    write_volume(peers.made_from(volume, "CT"), tmp_path / "out", deidentify=True)
    assert stated(tmp_path / "out") == {"NO"}
    np.testing.assert_array_equal(read_volume(tmp_path / "out").array, peers.made_from(volume, "CT").array)
