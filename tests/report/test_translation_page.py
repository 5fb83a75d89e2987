"""The page of a translation: it contains the exact voxels and no names of files."""

from __future__ import annotations

import base64
import gzip
import json
import re

import numpy as np
import pytest

from medcyclegan.errors import ReadError
from medcyclegan.io import read_volume, write_volume
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.report import ReportOptions, write_report
from medcyclegan.report.viewing import error_volume
from medcyclegan.volume import Volume

GRID = {"shape": (30, 36, 20), "spacing_mm": (6.0, 6.0, 7.0)}


@pytest.fixture
def files(tmp_path):
    """A fake CT, its sidecar, MR input, reference and uncertainty map, under names that must not appear."""
    head = make_head(3, **GRID)
    reference = ct_volume(head)
    fake = reference.replace(array=reference.array + np.int16(20))
    uncertainty = np.random.default_rng(0).random(fake.shape).astype(np.float32)
    for name, volume in {
        "in": t1_volume(head),
        "ref": reference,
        "fake": fake,
        "uncertainty": Volume(uncertainty, fake.affine),
    }.items():
        write_volume(volume, tmp_path / f"MARKER-{name}.nii.gz")
    record = {
        "made_by": "medcyclegan translate-volume", "synthetic": True, "Modality": "CT", "model": "ab" * 32,
        "to": {"domain": "ct", "modality": "CT"}, "quality": {"verdict": "check", "reasons": ["odd <histogram>"]},
    }  # fmt: skip
    (tmp_path / "MARKER-fake.json").write_text(json.dumps(record))
    return tmp_path


def options_for(files, **more):
    paths = {"source": "in", "reference": "ref", "uncertainty": "uncertainty"}
    return ReportOptions(**{name: files / f"MARKER-{file}.nii.gz" for name, file in paths.items()}, **more)


def volumes_in(page):
    metadata = json.loads(re.search(r'id="volumes">(.*?)</script>', page, re.S)[1])
    return {volume["name"]: volume for volume in metadata}


def voxels_of(text, metadata):
    stored = np.frombuffer(gzip.decompress(base64.b64decode(text)), "<i2").reshape(metadata["shape"], order="F")
    return stored * metadata["slope"] + metadata["intercept"]


def test_the_page_holds_the_volumes(files):
    page = write_report(files / "MARKER-fake.nii.gz", options_for(files, out=files / "page.html")).read_text()
    metadata = volumes_in(page)
    assert list(metadata) == ["input", "fake", "reference", "error", "uncertainty"]
    voxels = {name: re.search(rf'id="voxels-{name}">(.*?)</script>', page)[1] for name in metadata}
    for name, file in {"fake": "fake", "reference": "ref", "input": "in", "uncertainty": "uncertainty"}.items():
        volume = read_volume(files / f"MARKER-{file}.nii.gz")
        found = voxels_of(voxels[name], metadata[name])
        exact = name in ("fake", "reference")
        assert np.abs(found - volume.array).max() <= (
            0 if exact else np.ptp(volume.array) / 4095 * 0.51 + 0.5 * (name == "uncertainty")
        )
        assert np.array_equal(np.reshape(metadata[name]["affine"], (4, 4)), volume.affine)
    assert np.all(voxels_of(voxels["error"], metadata["error"]) == 20)
    assert (metadata["fake"]["kind"], metadata["input"]["kind"], metadata["error"]["kind"]) == ("CT", "MR", "map")
    assert "MARKER" not in page
    assert "odd &lt;histogram&gt;" in page
    assert "<b>check</b>" in page


def test_presets_begin_with_soft_tissue_and_with_the_patients_range(files):
    page = write_report(files / "MARKER-fake.nii.gz", options_for(files)).read_text()
    metadata = volumes_in(page)
    assert metadata["fake"]["presets"][0] == ["soft tissue -160 to 240", -160.0, 240.0]
    name, black, white = metadata["input"]["presets"][0]
    inside = t1_volume(make_head(3, **GRID)).array
    assert (name, black) == ("standard", 0)
    assert np.percentile(inside, 90) < white <= inside.max()


def test_large_volumes_are_put_next_to_the_page(files):
    out = write_report(files / "MARKER-fake.nii.gz", options_for(files, out=files / "page.html", embedded_mb=0.0))
    page = out.read_text()
    metadata = volumes_in(page)
    assert 'id="voxels-fake"' not in page
    assert 'src="page-volumes/fake.js"' in page
    assert sorted(path.name for path in (files / "page-volumes").iterdir()) == [
        "error.js", "fake.js", "input.js", "reference.js", "uncertainty.js",
    ]  # fmt: skip
    script = (files / "page-volumes/fake.js").read_text()
    text = re.fullmatch(r'\(window\.medcycleganVoxels \?\?= \{\}\)\["fake"\] = "([^"]+)";\n', script)[1]
    assert np.array_equal(voxels_of(text, metadata["fake"]), read_volume(files / "MARKER-fake.nii.gz").array)


def test_a_volume_alone_is_enough(tmp_path):
    volume = t2_volume(make_head(3, **GRID))
    write_volume(volume, tmp_path / "a.nii.gz")
    page = write_report(tmp_path / "a.nii.gz").read_text()
    assert list(volumes_in(page)) == ["fake"]
    assert "There is no record next to this volume of how it was made" in page
    assert 'id="overlay"' not in page


def test_the_error_is_taken_on_the_fakes_grid():
    fake = ct_volume(make_head(3, **GRID))
    shifted = fake.affine.copy()
    shifted[:3, 3] += fake.affine[:3, 0] * 5
    reference = Volume(fake.array[5:] + np.int16(7), shifted, modality="CT")
    error = error_volume(fake, reference)
    assert np.all(error.array[5:] == 7)
    assert np.all(error.array[:5] == 0)


def test_the_error_of_mr_does_not_depend_on_gain():
    head, other = make_head(3, **GRID), make_head(4, **GRID)
    fake, reference = t2_volume(head), t2_volume(other)
    plain, louder = (
        error_volume(fake, reference),
        error_volume(fake, reference.replace(array=reference.array * 5 + 100)),
    )
    assert np.allclose(plain.array, louder.array, atol=1e-4)
    assert 0 < plain.array.max() <= 1


def test_a_broken_sidecar_is_refused(files):
    (files / "MARKER-fake.json").write_text("{")
    with pytest.raises(ReadError, match=r"MARKER-fake\.json cannot be read"):
        write_report(files / "MARKER-fake.nii.gz", options_for(files))


def with_record(files, **fields):
    """Add fields to the sidecar of the fake."""
    path = files / "MARKER-fake.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_calibrated_map_is_an_interval_and_has_a_reliability_diagram(files):
    reliability = {"coverages": [0.5, 0.9, 0.95], "found": [0.52, 0.91, 0.0]}
    with_record(
        files,
        uncertainty={"calibrated": True, "coverage": 0.9, "reliability": reliability},
        quality={"verdict": "ok", "expected_error": {"patient": {"mae": 61.2, "interval_90": [50.0, 80.5]}}},
    )
    page = write_report(files / "MARKER-fake.nii.gz", options_for(files)).read_text()
    assert volumes_in(page)["uncertainty"]["label"] == "half-width of the 90% interval"
    assert volumes_in(page)["uncertainty"]["unit"] == "HU"
    assert "in the patient: 52.0% for 50%, 91.0% for 90%." in page, "no interval of 95 % was possible"
    assert "<b>61.2 (50 to 80.5)</b>" in page


def test_an_uncalibrated_map_is_named_so(files):
    with_record(files, uncertainty={"calibrated": False, "mean": 3.0})
    page = write_report(files / "MARKER-fake.nii.gz", options_for(files)).read_text()
    assert volumes_in(page)["uncertainty"]["label"] == "uncertainty map, not calibrated"
    assert "Reliability of the intervals" not in page


def test_a_sidecar_with_a_broken_calibration_is_refused(files):
    with_record(files, uncertainty={"calibrated": True, "coverage": "much"})
    with pytest.raises(ReadError, match=r"is damaged: \['much'\] are not numbers"):
        write_report(files / "MARKER-fake.nii.gz", options_for(files))
