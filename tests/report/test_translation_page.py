"""The page of a translation: it contains the exact voxels and no names of files."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medcyclegan.errors import ReadError
from medcyclegan.evaluation import evaluate_volumes
from medcyclegan.io import read_volume, write_volume
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.report import ReportOptions, write_report
from medcyclegan.report.translation_page import build_translation_page
from medcyclegan.report.viewing import error_volume, view_error, view_volume
from medcyclegan.volume import Volume

REAL = Path(__file__).parents[3] / "shared" / "data" / "nifti" / "openms_patient12"
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
    """Unpack voxels as the viewer does, one by one."""
    content = gzip.decompress(base64.b85decode(text.encode().translate(bytes.maketrans(b",.", b"<&"))))
    low, high = np.frombuffer(content, np.uint8).reshape(2, -1).astype(np.int64)
    coded = (low + 256 * high).reshape(metadata["shape"], order="F")
    differences = (coded >> 1) ^ -(coded & 1)
    stored = np.zeros_like(coded)
    for i in range(coded.shape[0]):
        for j in range(coded.shape[1]):
            around = ([stored[i - 1, j]] if i else []) + ([stored[i, j - 1]] if j else [])
            expected = sum(around) >> 1 if len(around) == 2 else sum(around)
            stored[i, j] = (expected + differences[i, j]).astype(np.int16)
    return stored * metadata["slope"] + metadata["intercept"]


def test_the_page_holds_the_volumes(files):
    options = options_for(files, out=files / "page.html", exact=True)
    page = write_report(files / "MARKER-fake.nii.gz", options).read_text()
    metadata = volumes_in(page)
    assert list(metadata) == ["input", "fake", "reference", "error", "uncertainty"]
    voxels = {name: re.search(rf'id="voxels-{name}">(.*?)</script>', page)[1] for name in metadata if name != "error"}
    for name, file in {"fake": "fake", "reference": "ref", "input": "in", "uncertainty": "uncertainty"}.items():
        volume = read_volume(files / f"MARKER-{file}.nii.gz")
        found = voxels_of(voxels[name], metadata[name])
        exact = name in ("fake", "reference")
        assert np.abs(found - volume.array).max() <= (
            0 if exact else np.ptp(volume.array) / 4095 * 0.51 + 0.5 * (name == "uncertainty")
        )
        assert np.array_equal(np.reshape(metadata[name]["affine"], (4, 4)), volume.affine)
    assert metadata["error"]["computed"] == {"from": ["fake", "reference"], "ranges": None, "matrix": None}
    assert 'id="voxels-error"' not in page
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
    out = write_report(
        files / "MARKER-fake.nii.gz", options_for(files, out=files / "page.html", embedded_mb=0.0, exact=True)
    )
    page = out.read_text()
    metadata = volumes_in(page)
    assert 'id="voxels-fake"' not in page
    assert 'src="page-volumes/fake.js"' in page
    assert sorted(path.name for path in (files / "page-volumes").iterdir()) == [
        "fake.js", "input.js", "reference.js", "uncertainty.js",
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


def test_the_scores_are_those_of_evaluate(files):
    page = write_report(files / "MARKER-fake.nii.gz", options_for(files)).read_text()
    fake, reference, given = (read_volume(files / f"MARKER-{name}.nii.gz") for name in ("fake", "ref", "in"))
    scores = evaluate_volumes(fake, reference, baseline=given)
    table = page[page.index('id="scores"') : page.index('id="viewer"')]
    assert f'<th scope="row">mae</th><td>{scores.mae:.4g}</td>' in table
    for name, baseline in scores.baselines.items():
        assert f">{name}</th>" in table
        assert f"<td>{baseline.mae:.4g}</td>" in table
    best = min(baseline.mae for baseline in scores.baselines.values())
    assert f"The MAE of the translation, {scores.mae:.4g}, is lower than that of the best baseline" in table
    assert f"{best:.4g}." in table


def test_a_reference_elsewhere_gives_no_scores_but_a_page(files):
    reference = read_volume(files / "MARKER-ref.nii.gz")
    affine = reference.affine.copy()
    affine[:3, 3] += 5000.0
    write_volume(reference.replace(affine=affine, source=None), files / "far.nii.gz")
    options = ReportOptions(reference=files / "far.nii.gz", out=files / "page.html")
    page = write_report(files / "MARKER-fake.nii.gz", options).read_text()
    assert "There are no scores: " in page
    assert 'id="scores"' not in page
    assert list(volumes_in(page)) == ["fake", "reference"], "an error of 0 everywhere would look perfect"


def test_the_labels_are_the_domains(files):
    record = json.loads((files / "MARKER-fake.json").read_text())
    (files / "MARKER-fake.json").write_text(json.dumps({**record, "from": {"domain": "t1"}}))
    metadata = volumes_in(write_report(files / "MARKER-fake.nii.gz", options_for(files)).read_text())
    labels = [metadata[name]["label"] for name in ("input", "fake", "reference")]
    assert labels == ["input t1", "fake ct", "reference ct"]
    assert [metadata[name]["unit"] for name in ("input", "fake", "error", "uncertainty")] == ["a.u.", "HU", "HU", "HU"]


def test_noise_is_rounded_and_the_rounding_stated(files):
    """The step is at most 2.2 standard deviations of the noise, and the mean of a region stays what it was."""
    random = np.random.default_rng(1)
    noisy = Volume(
        1000 + random.normal(0, 10, (256, 256, 8)).astype(np.float32), np.diag([1.0, 1, 3, 1]), modality="MR"
    )
    view = view_volume(noisy, "fake", "fake")
    assert view.metadata["slope"] == pytest.approx(22, rel=0.05)
    found = voxels_of(view.voxels, view.metadata)
    assert np.abs(found - noisy.array).max() <= view.metadata["slope"] / 2 + 0.01
    assert found.mean() == pytest.approx(noisy.array.mean(), abs=0.3)
    assert view_volume(noisy, "fake", "fake", exact=True).metadata["slope"] == pytest.approx(np.ptp(noisy.array) / 4095)
    assert view.metadata["rounded"]
    page = build_translation_page({"fake": noisy}, {}, folder="f", most_bytes=10**9).html
    assert "rounded to steps that their noise hides, by at most 11 a.u. (fake)" in page
    small = write_report(files / "MARKER-fake.nii.gz", options_for(files)).read_text()
    assert "rounded to steps" not in small, "small volumes are exact"


@pytest.mark.parametrize(("noise", "steps"), [(0.0, 255), (0.01, 50), (0.5, 32)])
def test_maps_are_rounded_to_the_steps_of_their_bar_or_to_their_noise(noise, steps):
    random = np.random.default_rng(2)
    values = np.tile(np.linspace(0, 60, 256, dtype=np.float32)[:, None, None], (1, 256, 8))
    values += random.normal(0, 60 * noise, values.shape).astype(np.float32) * (values > 5)
    values[:, :128] = random.random((256, 128, 8)) * 1e-3  # air: no noise to speak of
    view = view_volume(Volume(np.abs(values), np.diag([1.0, 1, 3, 1])), "uncertainty", "map", colormap="inferno")
    (_, low, high), slope = view.metadata["presets"][0], view.metadata["slope"]
    assert (low, high / slope) == (0, pytest.approx(steps, rel=0.08))
    assert np.abs(voxels_of(view.voxels, view.metadata) - np.abs(values)).max() <= slope * 0.51


def test_a_map_that_reaches_far_above_its_bar_fits_16_bits():
    values = np.full((256, 256, 8), 0.01, np.float32)
    values[128, 128, 4] = 1e6
    view = view_volume(Volume(values, np.eye(4)), "uncertainty", "map", colormap="inferno")
    assert voxels_of(view.voxels, view.metadata).max() == pytest.approx(1e6, rel=1e-3)


def test_the_error_on_another_grid_takes_no_space():
    head = make_head(3, **GRID)
    fake = t2_volume(head)
    moved = t2_volume(make_head(4, shape=(20, 30, 16), spacing_mm=(8.0, 7.0, 8.0)))
    view = view_error(fake, moved)
    assert view.voxels == ""
    assert view.metadata["computed"]["matrix"] == (np.linalg.inv(moved.affine) @ fake.affine)[:3].ravel().tolist()


def test_a_page_of_a_head_has_at_most_5_mb(tmp_path):
    """Input, fake and reference of 256 x 256 x 48 voxels, all of them noisy."""
    head = make_head(3, shape=(256, 256, 48), spacing_mm=(0.9, 0.9, 3.5))
    random = np.random.default_rng(0)
    for name, volume in (("in", t1_volume(head)), ("fake", t2_volume(head)), ("ref", t2_volume(head))):
        noise = random.normal(0, 8, volume.shape).astype(np.float32)
        write_volume(volume.replace(array=np.abs(volume.array + noise)), tmp_path / f"{name}.nii.gz")
    options = ReportOptions(source=tmp_path / "in.nii.gz", reference=tmp_path / "ref.nii.gz")
    assert write_report(tmp_path / "fake.nii.gz", options).stat().st_size <= 5_000_000


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the development set ../shared/data is absent")
def test_a_page_of_a_real_head_with_a_map_and_a_finer_reference_has_at_most_5_mb(tmp_path):
    fake = read_volume(REAL / "t1_visit2.nii.gz")
    values = fake.array.astype(np.float32)
    spread = np.abs(values - ndimage.gaussian_filter(values, 1.0))
    write_volume(Volume(spread, fake.affine), tmp_path / "map.nii.gz")
    options = ReportOptions(
        out=tmp_path / "page.html",
        source=REAL / "t1.nii.gz",
        reference=REAL / "t2.nii.gz",
        uncertainty=tmp_path / "map.nii.gz",
    )
    size = write_report(REAL / "t1_visit2.nii.gz", options).stat().st_size
    assert size <= 5_000_000, f"{size / 1e6:.2f} MB"


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
