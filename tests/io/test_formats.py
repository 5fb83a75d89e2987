"""The table of formats: its functions exist, its endings are unique, and reading and writing use it."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medcyclegan.errors import MedCycleGANError, WriteError
from medcyclegan.io import ReadOptions, read_volume
from medcyclegan.io.formats import (
    FORMATS,
    READABLE,
    VOLUME_ENDINGS,
    WRITTEN_ENDINGS,
    find_output_format,
    format_of_ending,
    readable_endings,
)
from medcyclegan.io.inspect import inspect_paths
from medcyclegan.io.write import check_output_format


@pytest.mark.parametrize("entry", FORMATS.values(), ids=lambda entry: entry.name)
def test_its_functions_exist(entry) -> None:
    for name in filter(None, (entry.reader, entry.inspector, entry.writer, entry.checker)):
        module, _, function = name.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_each_ending_is_of_one_format() -> None:
    read = [ending for entry in FORMATS.values() for endings in entry.endings.values() for ending in endings]
    assert len(set(read)) == len(read)
    assert all(format_of_ending(ending) is not None for ending in read)
    assert set(WRITTEN_ENDINGS) <= set(read)
    assert VOLUME_ENDINGS == (".nii.gz", ".nii", ".mha", ".nrrd")
    assert READABLE == "NIfTI, DICOM, MetaImage, NRRD, PNG, JPEG"
    assert readable_endings().startswith("NIfTI (.nii, .nii.gz), a folder of DICOM, MetaImage (.mha, .mhd), NRRD")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "nifti"), ("a.NII", "nifti"), ("a.mha", "itk"), ("a.jpeg", "image"), ("a", "dicom"), ("a.mhd", None)],
)
def test_the_format_of_an_output(name: str, expected: str | None) -> None:
    found = find_output_format(Path(name))
    assert (found.name if found else None) == expected


def test_the_refusal_lists_what_is_written() -> None:
    with pytest.raises(WriteError) as caught:
        check_output_format(Path("out.mhd"))
    assert all(ending in caught.value.remedy for ending in WRITTEN_ENDINGS)


@pytest.mark.parametrize("length", [1.0, 1.0005, 1.002, 1.5])
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_directions_not_of_length_1_are_treated_alike(tmp_path: Path, ending: str, length: float) -> None:
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 4, 3), np.int16)), str(path))
    content = path.read_bytes()
    for field in (b"TransformMatrix = 1 ", b"space directions: (1,0,0)"):
        content = content.replace(field, field.replace(b"1", f"{length}".encode(), 1))
    path.write_bytes(content)
    (row,) = inspect_paths([path], ReadOptions()).volumes
    try:
        spacing = read_volume(path).spacing_mm
    except MedCycleGANError as error:
        assert (row.verdict, row.reason, row.remedy) == ("refused", str(error), error.remedy)  # noqa: PT017
    else:
        assert row.verdict == "ok"
        assert row.spacing_mm == pytest.approx(spacing)
    if ending == ".mha":
        assert (row.verdict == "refused") == (length > 1.001)
