"""Inspection lists a row per volume, with the verdict that reading confirms."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from support import dicom_phantoms as made
from support import phantoms
from support.dicom_own_cases import ALL_CASES

from medcyclegan.errors import MedCycleGANError, ReadError
from medcyclegan.io import ReadOptions, read_volume
from medcyclegan.io.inspect import inspect_paths


def rows_of(*paths, **options):
    return inspect_paths(list(paths), ReadOptions(**options)).volumes


def test_a_dicom_series(tmp_path):
    made.save(made.slices_of(made.placed_volume()), tmp_path / "ct")
    (row,) = rows_of(tmp_path)
    assert (row.path, row.kind, row.verdict, row.files) == ((tmp_path / "ct").as_posix(), "dicom", "ok", 10)
    assert (row.series_number, row.description, row.modality) == ("3", "made CT", "CT")
    assert (row.columns, row.rows, row.slices, row.volumes) == (12, 14, 10, 1)
    assert row.spacing_mm == (0.9, 1.1, 2.5)
    assert row.gap_mm == (2.5, 2.5)
    assert (row.orientation, row.oblique_degrees) == ("LPS", 0)
    assert row.transfer_syntax == "Explicit VR Little Endian"
    assert (row.reason, row.remedy, row.notes) == ("", "", ())


def test_only_headers_are_read(tmp_path, monkeypatch):
    from medcyclegan.io.dicom.read import pixels as dicom_pixels

    monkeypatch.setattr(dicom_pixels, "read_frames", None)
    monkeypatch.setattr(dicom_pixels, "_pixel_bytes", None)
    made.save(made.slices_of(made.placed_volume()), tmp_path)
    assert rows_of(tmp_path)[0].verdict == "ok"


def test_options_that_are_needed(tmp_path):
    slices = made.slices_of(made.placed_volume())
    made.save(slices[:4] + slices[5:], tmp_path / "gap")
    times = []
    for number in (1, 2):
        for dataset in made.slices_of(made.placed_volume(), seed="times"):
            dataset.TemporalPositionIdentifier = number
            dataset.PixelData = bytes(len(dataset.PixelData)) if number == 2 else dataset.PixelData
            times.append(dataset)
    made.save(times, tmp_path / "times")
    gap, time = rows_of(tmp_path)
    assert (gap.verdict, gap.options, gap.gap_mm) == ("ok with options", ("--allow-gap",), (2.5, 5.0))
    assert gap.remedy == "export the complete series, or pass --allow-gap"
    assert (time.verdict, time.options, time.volumes) == ("ok with options", ("--volume N",), 2)
    assert rows_of(tmp_path / "gap", allow_gap=True)[0].verdict == "ok"


def test_refused_and_left_out(tmp_path):
    slices = made.slices_of(made.placed_volume())
    slices[4].RescaleSlope = 2
    made.save(slices, tmp_path / "bad")
    made.save([made.localizer(made.placed_volume(), "scout")], tmp_path / "bad", name=lambda number: "scout.dcm")
    (tmp_path / "cut.dcm").write_bytes(bytes(128) + b"DICM")
    rows = {(row.verdict, row.path.rpartition("/")[2]): row for row in rows_of(tmp_path)}
    assert set(rows) == {("refused", "bad"), ("left out", "scout.dcm"), ("refused", "cut.dcm")}
    assert "1 of 10 slices have another RescaleSlope" in rows["refused", "bad"].reason
    assert "a localizer" in rows["left out", "scout.dcm"].reason
    assert (
        rows["refused", "cut.dcm"].remedy == "a damaged DICOM file may be a missing slice; export it again or remove it"
    )


def test_other_formats(tmp_path):
    phantoms.write_nifti(phantoms.head_mr((8, 9, 4)), tmp_path / "a.nii.gz")
    (tmp_path / "b.nii").write_bytes(b"no NIfTI")
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"\x89PNG")
    image = sitk.GetImageFromArray(np.zeros((5, 4, 3), np.int16))
    image.SetSpacing((1.0, 2.0, 3.0))
    sitk.WriteImage(image, tmp_path / "e.mha")
    sitk.WriteImage(image, tmp_path / "f.nrrd")
    (tmp_path / "g.hdr").write_bytes(bytes(348))
    (tmp_path / "readme.txt").write_text("text")
    found = inspect_paths([tmp_path], ReadOptions())
    rows = {row.path.rpartition("/")[2]: row for row in found.volumes}
    assert {name: (row.kind, row.verdict) for name, row in rows.items()} == {
        "a.nii.gz": ("nifti", "ok"),
        "b.nii": ("nifti", "refused"),
        "c.png": ("image", "ok"),
        "d.png": ("image", "refused"),
        "e.mha": ("itk", "ok"),
        "f.nrrd": ("itk", "ok"),
        "g.hdr": ("nifti", "refused"),
    }
    assert (rows["c.png"].columns, rows["c.png"].rows) == (6, 4)
    assert rows["e.mha"].spacing_mm == rows["f.nrrd"].spacing_mm == (1, 2, 3)
    assert (rows["e.mha"].orientation, rows["e.mha"].slices) == ("LPS", 5)
    assert found.others == {"no volume (.txt)": 1}


def test_a_4d_nifti(tmp_path):
    import nibabel as nib

    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 7), np.int16), np.eye(4)), tmp_path / "bold.nii.gz")
    (row,) = rows_of(tmp_path)
    assert (row.verdict, row.options, row.volumes, row.slices) == ("ok with options", ("--volume N",), 7, 6)
    assert rows_of(tmp_path, volume=6)[0].verdict == "ok"


def test_a_nifti_without_the_directions_of_its_axes(tmp_path):
    path = phantoms.write_nifti(phantoms.head_mr((8, 9, 4)), tmp_path / "a.nii.gz", sform_code=0, qform_code=0)
    (row,) = rows_of(path)
    assert (row.verdict, row.options, row.orientation) == ("ok with options", ("--assume-axes LAS",), "LAS")
    assert row.reason.endswith("as most programs assume")
    (row,) = rows_of(path, assume_axes="RAS")
    assert (row.verdict, row.options, row.orientation) == ("ok", (), "RAS")
    phantoms.write_nifti(phantoms.head_mr((8, 9, 4)), path, sform_code=0, qform_code=0, pixdim=[1, 0, 1, 1, 1, 1, 1, 1])
    assert rows_of(path)[0].verdict == "refused"


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ReadError, match="no such file or folder"):
        rows_of(tmp_path / "absent")


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_the_verdict_is_kept_by_reading(case, tmp_path):
    case.make(tmp_path / "in")
    rows = [row for row in rows_of(tmp_path / "in") if row.verdict != "left out"]
    try:
        read_volume(tmp_path / "in")
    except MedCycleGANError as error:
        said, remedy = str(error), error.remedy
    else:
        said, remedy = "", ""
    assert said.endswith(remedy)
    assert bool(said) == bool(remedy), "a refusal has a remedy"
    if said and "2 series" not in said and "do not decode" not in said:
        assert [row for row in rows if row.verdict != "ok"], said
        assert any(row.reason in said for row in rows), said
    if not said:
        whole = [row for row in rows if row.kind == "dicom"]
        assert [row.verdict for row in whole if (row.slices and row.slices > 1) or len(whole) == 1][:1] == ["ok"]
