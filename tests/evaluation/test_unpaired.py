"""Unpaired sets: closer sets have smaller distances on any grid, and baselines and floor are right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.models import identity_model

from medcyclegan.errors import IntensityError, ReadError, UsageError
from medcyclegan.evaluation import SetSamples, compare_sets, frechet_of_files, sample_set, sample_tissue_means
from medcyclegan.metrics import TissueMeans, head_mask
from medcyclegan.model.training_set import TrainingSet
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.volume import Volume

COARSE = (5.0, 5.0, 6.0)
DISTANCES = ("histogram", "sliced_wasserstein", "mmd")


def heads(*seeds, spacing=(3.0, 3.0, 4.0)):
    shape = tuple(round(n * 2 / mm) for n, mm in zip((96, 120, 80), spacing, strict=True))
    return [make_head(seed, shape=shape, spacing_mm=spacing) for seed in seeds]


@pytest.fixture(scope="module")
def references():
    return sample_set(t2_volume(head) for head in heads(1, 2, 3, 4))


@pytest.fixture(scope="module")
def cts():
    """Three small CTs, and their samples with those of water."""
    volumes = [ct_volume(head) for head in heads(1, 2, 3, spacing=COARSE)]
    return volumes, sample_set(volumes, water=True)


@pytest.fixture(scope="module")
def coarse_t1():
    return [t1_volume(head) for head in heads(4, 5, spacing=COARSE)]


def test_other_heads_of_one_contrast_are_nearer_than_another_contrast(references):
    fakes = sample_set(t2_volume(head) for head in heads(5, 6, 7, 8))
    inputs = sample_set(t1_volume(head) for head in heads(5, 6, 7, 8))
    result = compare_sets(fakes, references, inputs)
    for name in DISTANCES:
        assert result[name] < 0.5 * result["baselines"]["input"][name]
        assert result["floor"][name] < 0.5 * result["baselines"]["input"][name]
    assert result["baselines"].keys() == {"input"}
    assert (result["unit"], result["fakes"], result["references"]) == ("of the range 0 to 1", 4, 4)


def test_patches_are_taken_at_pixels_of_1_2_and_4_mm():
    """In a ramp of 4 HU per mm, the outer pixels of seven differ by 24 HU at 1 mm."""
    ramp = np.broadcast_to(4 * 2.0 * np.arange(48, dtype=np.float32)[:, None, None], (48, 48, 4))
    samples = sample_set([Volume(ramp.copy(), np.diag([2.0, 2.0, 3.0, 1.0]), modality="CT")])
    patches = [patches.reshape(-1, 7, 7) for patches in samples.patches[0]]
    assert [round(float(np.median(each[:, -1] - each[:, 0]))) for each in patches] == [24, 48, 96]
    assert samples.slices[0].shape == (4, 32 * 32)


def test_the_pixel_size_does_not_matter_much(references):
    coarse = compare_sets(sample_set(t2_volume(head) for head in heads(1, 4, spacing=(2.0, 2.0, 6.0))), references)
    t1 = compare_sets(sample_set(t1_volume(head) for head in heads(1, 4)), references)
    for name in DISTANCES:
        assert coarse[name] < 0.5 * t1[name]


def test_a_shift_in_hu_is_found_in_hu(cts):
    volumes, _ = cts
    plain = sample_set(volumes)
    louder = sample_set(v.replace(array=v.array + np.int16(30)) for v in volumes)
    result = compare_sets(louder, plain)
    assert result["unit"] == "HU"
    assert result["histogram"] == pytest.approx(30, rel=0.1)
    assert result["baselines"] == {}


def test_the_floor_is_the_distance_of_the_two_halves(cts):
    """Volumes alternate between the halves, so a set compared with itself has a distance of 0."""
    _, references = cts
    floor = compare_sets(references.part(slice(1)), references)["floor"]
    first, second = (SetSamples(references.values[part], references.patches[part], references.slices[part], "HU")
                     for part in (slice(None, None, 2), slice(1, None, 2)))  # fmt: skip
    assert [len(half.values) for half in (first, second)] == [2, 1]
    expected = compare_sets(first, second)
    assert floor == {name: expected[name] for name in DISTANCES}
    assert all(floor[name] > 0 for name in ("histogram", "sliced_wasserstein"))


def test_each_part_of_a_set_is_that_of_the_same_volumes(cts):
    _, samples = cts
    part = samples.part(slice(1, None, 2))
    assert part.values[0] is samples.values[1]
    assert part.patches[0] is samples.patches[1]
    assert part.slices[0] is samples.slices[1]
    assert (len(part.values), len(part.patches), len(part.slices), part.unit) == (1, 1, 1, "HU")


def test_the_numbers_of_an_mr_are_no_baseline_in_hu(cts, coarse_t1):
    """Their distance to HU would be large regardless of their content."""
    _, references = cts
    result = compare_sets(references, references, sample_set(coarse_t1))
    assert result["baselines"].keys() == {"water"}
    in_hu = compare_sets(references, references, references)
    assert in_hu["baselines"]["input"]["histogram"] == 0


def test_water_is_0_hu_in_the_same_places(cts):
    volumes, references = cts
    water = sample_set(v.replace(array=np.where(head_mask(v), 0, -1024).astype(np.int16)) for v in volumes)
    ours, expected = compare_sets(references, references)["baselines"]["water"], compare_sets(water, references)
    inside = np.concatenate([v.array[head_mask(v)] for v in volumes]).astype(float)
    assert ours["histogram"] == pytest.approx(np.abs(inside).mean(), rel=0.02)
    for name in DISTANCES:
        assert ours[name] == pytest.approx(expected[name], rel=0.05)


def test_inputs_at_their_tissue_means_are_a_baseline(cts, coarse_t1):
    known = TrainingSet(
        1, (0.0,) * 64, 0.1, (3.0, 3.0), (4.0, 4.0), {"axial": 1}, TissueMeans((-0.6,), (600.0, 30.0), "shares", 1)
    )
    model = dataclasses.replace(identity_model(), provenance={"training_set": {"ct": known.to_dict()}})
    means = sample_tissue_means(coarse_t1, model)
    assert set(np.concatenate(means.values)) == {600, 30}
    assert means.slices[0].min() == -1024, "air outside the head"
    baselines = compare_sets(cts[1], cts[1], tissue_means=means)["baselines"]
    assert baselines["tissue_means"]["histogram"] < baselines["water"]["histogram"]


def test_drawing_is_repeatable():
    volume = t2_volume(heads(1)[0])
    first, again = sample_set([volume]), sample_set([volume])
    assert np.array_equal(first.values[0], again.values[0])
    assert all(np.array_equal(one, other) for one, other in zip(first.patches[0], again.patches[0], strict=True))
    assert np.array_equal(first.slices[0], again.slices[0])


def test_one_reference_has_no_halves(caplog):
    one = sample_set(t2_volume(head) for head in heads(1))
    assert compare_sets(one, one)["floor"] is None
    assert "one reference volume" in caplog.text


def test_what_cannot_be_compared_is_refused(references, tmp_path):
    head = heads(1)[0]
    with pytest.raises(IntensityError, match="contains CT and other volumes"):
        sample_set([ct_volume(head), t1_volume(head)])
    with pytest.raises(IntensityError, match="fakes in HU and references in"):
        compare_sets(sample_set([ct_volume(head)]), references)
    with pytest.raises(UsageError, match="set of volumes is empty"):
        sample_set([])
    with pytest.raises(IntensityError, match="smaller than a patch"):
        sample_set([Volume(np.random.default_rng(0).random((5, 5, 5)).astype(np.float32), np.eye(4))])
    (tmp_path / "no.npy").write_bytes(b"\x93NUMPY broken")
    np.save(tmp_path / "flat.npy", np.ones(3))
    np.save(tmp_path / "good.npy", np.random.default_rng(0).normal(size=(10, 3)))
    for name in ("no.npy", "flat.npy", "missing.npy"):
        with pytest.raises(ReadError, match=name):
            frechet_of_files(tmp_path / "good.npy", tmp_path / name)
    assert frechet_of_files(tmp_path / "good.npy", tmp_path / "good.npy") == pytest.approx(0, abs=1e-9)
