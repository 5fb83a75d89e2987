"""Gaps between slices are interpolated up to 10 mm with --allow-gap, and beyond only with --allow-gap-mm."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import dicom_phantoms as made
from support import phantoms

from medcyclegan.errors import GeometryError, UsageError
from medcyclegan.io import ReadOptions, read_volume
from medcyclegan.io.inspect import inspect_paths

DATA = Path(__file__).parents[3] / "shared" / "data"
THICK = phantoms.make_affine("LPS", (0.9, 1.1, 5.0), origin=(5.4, 7.7, -21.25))


def series(folder: Path, kept: list[int], **fields: Any) -> Path:
    """Write the ``kept`` slices of ten that are 5 mm apart, with ``fields`` in every slice."""
    slices = made.slices_of(made.placed_volume(affine=THICK))
    for dataset in slices:
        for keyword, value in fields.items():
            setattr(dataset, keyword, value)
    made.save([slices[k] for k in kept], folder)
    return folder


def test_gaps_of_ten_millimetres_need_one_option(tmp_path: Path) -> None:
    folder = series(tmp_path / "in", [0, 1, 2, 4, 5, 7, 8, 9])
    with pytest.raises(GeometryError, match=r"varies from 5\.0 to 10\.0 mm .*: export .*, or pass --allow-gap$"):
        read_volume(folder)
    assert read_volume(folder, allow_gap=True).shape == (12, 14, 10)


def test_more_needs_the_width(tmp_path: Path) -> None:
    folder = series(tmp_path / "in", [0, 1, 2, 5, 6, 7, 8, 9])
    advice = r"if you want 15 mm interpolated, pass --allow-gap-mm 15 \(--allow-gap fills 10 mm\)$"
    for options in ({}, {"allow_gap": True}):
        with pytest.raises(GeometryError, match=advice):
            read_volume(folder, **options)
    for options in ({"allow_gap_mm": 14.9}, {"allow_gap_mm": 14.9, "allow_gap": True}):
        with pytest.raises(GeometryError, match=r"if you want 15 mm interpolated, pass --allow-gap-mm 15$"):
            read_volume(folder, **options)
    for options in ({"allow_gap_mm": 15}, {"allow_gap_mm": 15, "allow_gap": True}):
        found = read_volume(folder, **options)
        assert found.shape == (12, 14, 10)
        expected = phantoms.linear_values(found.shape, found.affine, made.COEFFICIENTS)
        assert np.abs(found.array - expected).max() <= 0.5 + 1e-3
        assert "resampled to 10" in found.notes[0]


def test_a_smaller_width_is_a_stricter_limit(tmp_path: Path) -> None:
    folder = series(tmp_path / "in", [0, 1, 2, 4, 5, 6, 7, 8, 9])
    with pytest.raises(GeometryError, match=r"--allow-gap-mm 10$"):
        read_volume(folder, allow_gap=True, allow_gap_mm=7)


def test_two_slices_far_apart(tmp_path: Path) -> None:
    folder = series(tmp_path / "in", [0, 3], SpacingBetweenSlices=5)
    for options in ({}, {"allow_gap": True}):
        with pytest.raises(GeometryError, match=r"two slices 15 mm apart where .* says 5 mm.*--allow-gap-mm 15"):
            read_volume(folder, **options)
    assert read_volume(folder, allow_gap_mm=15).shape == (12, 14, 2)


def test_the_inspection_advises_the_same(tmp_path: Path) -> None:
    folder = series(tmp_path / "in", [0, 1, 2, 5, 6, 7, 8, 9])
    (row,) = inspect_paths([folder], ReadOptions()).volumes
    assert (row.verdict, row.options, row.gap_mm) == ("ok with options", ("--allow-gap-mm N",), (5.0, 15.0))
    assert row.remedy.startswith("export the complete series, or, if you want 15 mm interpolated, pass --allow-gap-mm")
    assert inspect_paths([folder], ReadOptions(allow_gap_mm=15)).volumes[0].verdict == "ok"


@pytest.mark.parametrize("width", [0, -3, float("nan"), float("inf")])
def test_an_impossible_width_is_refused(width: float) -> None:
    with pytest.raises(UsageError, match=r"--allow-gap-mm .*: give mm above 0"):
        ReadOptions(allow_gap_mm=width)


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data, the real scans, is absent")
def test_eight_of_35_real_slices_are_no_volume(tmp_path: Path) -> None:
    slices = sorted((DATA / "dicom/mr_siemens_prisma_sag_t1_hfs/in").iterdir())
    assert len(slices) == 35
    for number in (0, 1, 10, 13, 18, 24, 30, 34):
        shutil.copy(slices[number], tmp_path)
    for options in ({}, {"allow_gap": True}):
        with pytest.raises(GeometryError, match=r"from 4\.8 to 43\.2 mm .*pass --allow-gap-mm 44"):
            read_volume(tmp_path, **options)
    assert read_volume(tmp_path, allow_gap_mm=44).shape == (256, 256, 35)
