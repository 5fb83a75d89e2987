"""Validation: the scores on held-out slices, and the choice of the model's weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.stores import blobs, make_store

from medcyclegan.config import Config, parse_config
from medcyclegan.errors import ConfigError, TrainingError
from medcyclegan.manifest import MANIFEST, load_manifest, rows_to_text
from medcyclegan.metrics import ssim
from medcyclegan.model import ModelBundle
from medcyclegan.networks import build_cyclegan
from medcyclegan.training import train
from medcyclegan.training.monitor.scores import HeldOut, held_out_slices, patches_of, scores_of, scores_of_inputs
from medcyclegan.training.monitor.validation import Validation, key_value
from medcyclegan.training.plan import build_plan
from medcyclegan.training.update.step import CycleGANStep, build_step


class Exchanged(torch.nn.Module):
    """Translates bright discs in grey rings to grey discs in bright rings and back; air stays dark."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.where(images < -0.9, images, 0.6 - images)


def exchanged(images: np.ndarray) -> np.ndarray:
    return Exchanged()(torch.from_numpy(images)).numpy()


@pytest.fixture
def paired_store(tmp_path: Path) -> Path:
    """Return a store whose held-out patient has both domains on one grid, T2 the true translation of T1."""
    discs = blobs(6, 32, 7)
    stacks = {"t1": [blobs(5, 32, 0), discs], "t2": [exchanged(blobs(5, 32, 1)), exchanged(discs[1:])]}
    rows = make_store(tmp_path / "slices", stacks, {"t1": ["train", "validation"], "t2": ["train", "validation"]})
    changed = []
    for row in rows:
        values = dict(row.__dict__)
        if row.split == "validation":
            values |= {"patient": "ab" * 8, "shape": (32, 32, 6)}
            values["slices"] = tuple(range(6)) if row.domain == "t1" else tuple(range(1, 6))
        changed.append(type(row)(**values))
    (tmp_path / "slices" / MANIFEST).write_text(rows_to_text(changed), "utf-8")
    assert len(load_manifest(tmp_path / "slices")) == 4
    return tmp_path / "slices"


def with_values(config: Config, **validation) -> Config:
    values = config.model_dump(mode="json")
    values["validation"] |= validation
    return parse_config(values, "test")


def step_of(config: Config, there: torch.nn.Module, back: torch.nn.Module) -> CycleGANStep:
    step = build_step(config, build_cyclegan(config.networks, 32, 0), torch.device("cpu"), "fp32")
    for networks in (step.networks, step.model):
        networks.G_AB, networks.G_BA = there, back
    return step


def test_the_true_translation_scores_best(paired_store: Path, tiny: Config) -> None:
    plan = build_plan(paired_store, with_values(tiny, slices=4))
    slices = held_out_slices(plan)
    assert slices.pairs == ((0, 0), (1, 1), (2, 2), (3, 3))
    torch.testing.assert_close(Exchanged()(slices.inputs[0]), slices.inputs[1], rtol=0, atol=1e-3)
    good = scores_of(step_of(plan.config, Exchanged(), Exchanged()), slices)
    same = scores_of(step_of(plan.config, torch.nn.Identity(), torch.nn.Identity()), slices)
    names = {
        f"{name}_{way}" for name in ("sliced_wasserstein", "histogram", "mae", "psnr", "ssim") for way in ("AB", "BA")
    }
    assert set(good) == names | {"cycle_A", "cycle_B"}
    assert good["cycle_A"] == pytest.approx(0, abs=1e-6)
    assert same["cycle_A"] == 0
    assert good["mae_AB"] < 1e-3 < 0.5 < same["mae_AB"]
    assert good["psnr_AB"] > 60 > 10 > same["psnr_BA"]
    assert good["ssim_BA"] == pytest.approx(1, abs=1e-3)
    assert same["ssim_BA"] < 0.5
    for name in ("sliced_wasserstein", "histogram"):
        assert key_value(good, name) < 0.3 * key_value(same, name)


def test_pairs_are_scored_in_the_union_of_both_heads(tiny: Config) -> None:
    """Errors count in the union of both heads, not in air, and each slice is compared with its partner."""
    first, second = np.full((2, 3, 32, 32), -1.0, dtype=np.float32)
    for n in range(3):
        first[n, 8:24, 4 + n : 20], second[n, 8:24, 12 : 28 - n] = 0.5 - n / 8, -0.25 + n / 8
        second[n, 26 : 28 + n, 2:10] = 0.75
    inputs = tuple(torch.from_numpy(images)[:, None] for images in (first, second))
    pairs = ((0, 1), (1, 2), (2, 0))
    slices = HeldOut(inputs, (first, second), (-0.75, -0.75), pairs)
    same = scores_of(step_of(tiny, torch.nn.Identity(), torch.nn.Identity()), slices)
    ours, theirs = first[[0, 1, 2]], second[[1, 2, 0]]
    union = (ours > -0.75) | (theirs > -0.75)
    for way, (fake, real) in {"AB": (ours, theirs), "BA": (theirs, ours)}.items():
        inside = np.abs(fake - real)[union].astype(np.float64)
        ssims = [
            ssim(a[None], b[None], value_range=(-1, 1), mask=m[None]) for a, b, m in zip(fake, real, union, strict=True)
        ]
        assert same[f"mae_{way}"] == pytest.approx(inside.mean())
        assert same[f"psnr_{way}"] == pytest.approx(10 * np.log10(4 / np.square(inside).mean()))
        assert same[f"ssim_{way}"] == pytest.approx(np.mean(ssims))


def test_generators_that_make_nan_are_named(paired_store: Path, tiny: Config) -> None:
    plan = build_plan(paired_store, tiny)
    broken = torch.nn.Threshold(2.0, float("nan"))
    with pytest.raises(TrainingError, match=r"return NaN or infinite slices.*learning_rate"):
        scores_of(step_of(plan.config, broken, torch.nn.Identity()), held_out_slices(plan))


def test_pairs_need_one_patient_and_one_grid(paired_store: Path, tiny: Config) -> None:
    text = (paired_store / MANIFEST).read_text("utf-8")
    patient = f'"patient":"{"ab" * 8}","split":"validation","file":"t2'
    assert patient in text
    (paired_store / MANIFEST).write_text(text.replace(patient, patient.replace("ab", "cd")), "utf-8")
    assert held_out_slices(build_plan(paired_store, tiny)).pairs == ()
    rows = [json.loads(line) for line in text.splitlines()]
    for domain, split, pairs in (("t1", "train", ((0, 0), (1, 1))), ("t1", "validation", ()), ("t2", "validation", ())):
        cropped = [{**row, "cropped": (row["domain"], row["split"]) == (domain, split)} for row in rows]
        (paired_store / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in cropped), "utf-8")
        assert held_out_slices(build_plan(paired_store, tiny)).pairs == pairs
    (paired_store / MANIFEST).write_text(text.replace(patient, patient.replace("ab", "cd")), "utf-8")
    with pytest.raises(ConfigError, match="key_metric = psnr compares pairs, but no held-out patient"):
        train(paired_store, config=with_values(tiny, key_metric="psnr"), out=paired_store.parent / "runs", device="cpu")
    assert not (paired_store.parent / "runs").exists()


def test_patches_are_in_the_head() -> None:
    images = np.zeros((2, 32, 32), dtype=np.float32)
    images[:, 8:24, 8:24] = 1.0
    assert patches_of(images, images > 0).mean() > 0.6
    assert patches_of(images, images > 5).shape == (2 * 7 * 7, 64)  # no head: the whole image
    assert len(patches_of(np.zeros((40, 128, 128), np.float32), np.ones((40, 128, 128), np.bool_))) == 8192


@pytest.fixture
def falling(monkeypatch) -> list[float]:
    """Return the scores of the next validations: those after steps 8, 16 and 17, unless changed."""
    values = [0.1, 0.5, 0.3]
    monkeypatch.setattr(
        "medcyclegan.training.monitor.validation.scores_of",
        lambda step, slices: {"sliced_wasserstein_AB": values.pop(0)},
    )
    return values


def test_the_best_weights_become_the_model_and_the_last_are_kept(store: Path, tiny, tmp_path, falling, caplog) -> None:
    caplog.set_level("INFO")
    run = train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    assert "of step 8, the best by validation.key_metric sliced_wasserstein (0.1)" in caplog.text
    model, last = ModelBundle.load(run / "model"), ModelBundle.load(run / "model-last")
    assert model.provenance["steps"] == 8
    assert model.provenance["chosen_by"] == {"key_metric": "sliced_wasserstein", "value": 0.1}
    assert last.provenance["steps"] == 17
    scores = {bundle.provenance["steps"]: bundle.provenance["fitness"]["scores"] for bundle in (model, last)}
    assert scores == {8: {"sliced_wasserstein_AB": 0.1}, 17: {"sliced_wasserstein_AB": 0.3}}
    assert model.provenance["fitness"]["steps"] == 8
    assert set(model.provenance["fitness"]["input_scores"]) >= {"sliced_wasserstein_AB", "histogram_BA"}
    checkpoint = torch.load(run / "checkpoints" / "step-000017.pt", weights_only=True)
    for name in ("G_AB", "G_BA"):
        for key, tensor in last.weights[name].items():
            assert torch.equal(tensor, checkpoint["averages"][name][key])
            assert torch.equal(model.weights[name][key], checkpoint["validation"]["best"]["weights"][name][key])


@pytest.mark.parametrize(
    ("metric", "best"),
    [("sliced_wasserstein", 24), ("histogram", 24), ("cycle", 24), ("mae", 24), ("psnr", 16), ("ssim", 16)],
)
def test_the_best_is_the_highest_of_what_rises_and_the_lowest_of_the_rest(
    store, tiny, monkeypatch, metric: str, best: int
) -> None:
    """The mean over two directions or domains counts; of equal values the first stays."""
    ends = ("A", "B") if metric == "cycle" else ("AB", "BA")
    values = {8: (0.5, 0.3), 16: (0.9, 0.7), 24: (0.1, 0.3), 25: (0.3, 0.1), 26: (0.7, 0.9)}
    plan = build_plan(store, with_values(tiny, key_metric=metric, every_steps=1))
    step = step_of(plan.config, torch.nn.Conv2d(1, 1, 1), torch.nn.Identity())
    rows: dict[int, dict[str, float]] = {}
    validation = Validation(plan, step, SimpleNamespace(write_row=rows.__setitem__))
    now = SimpleNamespace(state=SimpleNamespace(iteration=0))
    for now.state.iteration, scores in values.items():
        torch.nn.init.constant_(step.model.G_AB.weight, now.state.iteration)
        named = {f"{metric}_{end}": value for end, value in zip(ends, scores, strict=True)}
        monkeypatch.setattr(
            "medcyclegan.training.monitor.validation.scores_of",
            lambda step, slices, named=named: {**named, "other_AB": 99.0},
        )
        validation._validate_if_due(now)
    assert rows[8] == {
        f"validation_{metric}_{ends[0]}": 0.5,
        f"validation_{metric}_{ends[1]}": 0.3,
        "validation_other_AB": 99,
    }
    assert validation.best["step"] == best
    assert validation.best["value"] == pytest.approx(sum(values[best]) / 2)
    assert validation.best["weights"]["G_AB"]["weight"].item() == best


def test_pairs_are_scored_in_both_heads_and_each_way_round() -> None:
    """Slice 0 of A shows what slice 1 of B does; the head of B is larger than that of A by a ring."""
    rows, columns = np.mgrid[:48, :48]
    distance = np.hypot(rows - 24, columns - 24)
    small, large = (
        np.where(distance < radius, level, -1.0).astype(np.float32) for radius, level in ((9, 0.5), (14, 0.1))
    )
    empty = np.full_like(small, -1.0)
    images = {"A": np.stack([small, empty]), "B": np.stack([empty, large])}
    slices = HeldOut(
        inputs=tuple(torch.from_numpy(images[name])[:, None] for name in "AB"),
        real=(images["A"], images["B"]),
        levels=(-0.5, -0.5),
        pairs=((0, 1),),
    )
    config = parse_config({}, "test")
    darker = type("Darker", (torch.nn.Module,), {"forward": lambda self, image: image - 0.25})()
    scores = scores_of(step_of(config, torch.nn.Identity(), darker), slices)
    union = distance < 14
    assert scores["mae_AB"] == pytest.approx(np.abs(small - large)[union].mean(), rel=1e-5)
    assert scores["mae_BA"] == pytest.approx(np.abs(large - 0.25 - small)[union].mean(), rel=1e-5)
    for name, fake, real in (("AB", small, large), ("BA", large - 0.25, small)):
        square = np.square(fake - real)[union].mean()
        assert scores[f"psnr_{name}"] == pytest.approx(10 * np.log10(4 / square), rel=1e-4)


def test_a_resumed_run_keeps_the_best_of_before(store: Path, tiny, tmp_path, falling) -> None:
    run = train(store, config=tiny, out=tmp_path / "runs", device="cpu")
    expected = {path.name: path.read_bytes() for path in (run / "model").glob("*.safetensors")}
    for path in (run / "checkpoints").glob("step-000017*"):
        path.unlink()
    shutil.rmtree(run / "model")
    record = json.loads((run / "run.json").read_text("utf-8")) | {"state": "running", "step": 15}
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    falling[:] = [0.5, 0.3]  # of three validations, the first was before the checkpoint of step 15
    train(resume=run, device="cpu")
    assert {path.name: path.read_bytes() for path in (run / "model").glob("*.safetensors")} == expected
    provenance = ModelBundle.load(run / "model").provenance
    assert provenance["steps"] == 8
    assert provenance["fitness"]["scores"] == {"sliced_wasserstein_AB": 0.1}


def test_where_nothing_is_held_out_the_last_weights_are_the_model(tiny, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    make_store(tmp_path / "slices", {"t1": [blobs(3, 32, 0)], "t2": [blobs(3, 32, 1)]})
    run = train(tmp_path / "slices", config=tiny, out=tmp_path / "runs", max_steps=2, device="cpu")
    assert "of the last step, since no volumes are held out" in caplog.text
    assert not (run / "model-last").exists()
    provenance = ModelBundle.load(run / "model").provenance
    assert provenance["steps"] == 2
    assert provenance["fitness"]["scores"] == provenance["fitness"]["input_scores"] == {}


def test_doing_nothing_has_the_scores_of_the_inputs(paired_store: Path, tiny: Config) -> None:
    slices = held_out_slices(build_plan(paired_store, with_values(tiny, slices=4)))
    step = step_of(tiny, torch.nn.Identity(), torch.nn.Identity())
    given = scores_of(step, slices)
    assert scores_of_inputs(slices) == {name: value for name, value in given.items() if not name.startswith("cycle")}
