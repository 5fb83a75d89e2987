"""Runs on label maps and on slice stores: models, resuming, refused calls."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from support.label_phantoms import label_array, write_labels
from support.phantoms import head_mr, write_nifti
from support.pretraining import CPU, changed
from support.run_folders import PowerCutError, cut_power, record_of, rows_of, weights_of

from medcyclegan.data import Sampling
from medcyclegan.errors import StoreError, TrainingError, UsageError
from medcyclegan.inference import InferenceOptions, TranslationOptions, translate_file
from medcyclegan.io import read_volume
from medcyclegan.model import ModelBundle
from medcyclegan.slicing import slice_volumes
from medcyclegan.storage import scratch_folder
from medcyclegan.training import train
from medcyclegan.training.plan import build_plan
from medcyclegan.training.pretraining.pretrain import PretrainingData, pretrain
from medcyclegan.training.update.paired_step import PairedStep


class TestRuns:
    def test_a_run_gives_a_model_that_knows_what_it_was_trained_on(self, pretrained):
        record = record_of(pretrained)
        assert (record["state"], record["domains"], record["slices"]) == ("finished", ["t1", "t2"], "reference")
        rows = rows_of(pretrained)
        assert {"l1_AB", "gradient_BA"} <= rows[0].keys()
        assert any("validation_mae_AB" in row for row in rows), "pairs of the reference are validated on"
        bundle = ModelBundle.load(pretrained / "model")
        # 9 steps of 2 samples, 5 of each patient.
        drawn = {"kind": "label maps", "label_maps": 2, "label_maps_for_validation": 2, "patients": 4}
        steps = bundle.provenance["steps"]
        assert bundle.provenance["pairs"] == {**drawn, "patients": -(-steps * 2 // 5)}
        assert ModelBundle.load(pretrained / "model-last").provenance["pairs"] == drawn
        assert bundle.provenance["fitness"]["patients"] == {"t1": -(-steps * 2 // 5), "t2": -(-steps * 2 // 5)}
        assert set(bundle.provenance["training_set"]) == {"t1", "t2"}
        card = (pretrained / "model-last" / "MODEL_CARD.md").read_text()
        assert "4 synthetic patients were generated from 2 label maps during the training" in card
        assert "No image of a real patient was used" in card
        assert "Unpaired" not in card
        assert "l1 weight 1.0" in card
        for file in (pretrained / "model").iterdir():
            assert b"one.nii.gz" not in file.read_bytes(), "no path"
        assert bundle.provenance["config"]["validation"]["key_metric"] == "mae"
        assert [domain.name for domain in bundle.domains] == ["t1", "t2"]
        assert bundle.preparation.pixel_mm == 8.0
        assert (pretrained / "panels").is_dir()

    @pytest.mark.parametrize("lost", [2, 6])
    def test_a_killed_run_is_resumed_bit_by_bit(self, pretrained, labels, small, tmp_path, monkeypatch, lost):
        original, calls = PairedStep.__call__, []

        def step(self, engine, batch):
            calls.append(1)
            if len(calls) == lost + 1:
                cut_power()
            return original(self, engine, batch)

        monkeypatch.setattr(PairedStep, "__call__", step)
        with pytest.raises(PowerCutError):
            pretrain(PretrainingData((labels,)), config=small, out=tmp_path / "runs", device="cpu")
        monkeypatch.undo()
        run = pretrain(out=tmp_path / "runs", resume=True, device="cpu")
        assert weights_of(run) == weights_of(pretrained)
        assert rows_of(run) == rows_of(pretrained)
        assert [s["first_step"] for s in record_of(run)["sessions"]] == [0, lost // 4 * 4]

    def test_what_a_kill_leaves_is_removed(self, pretrained, labels, small, tmp_path):
        """A killed process leaves its scratch folder; one that is in use, which is locked, stays."""
        runs = tmp_path / "runs"
        left = runs / ".tmp-0123abcd-reference"
        config = changed(small, training={"max_steps": 1})
        with scratch_folder(runs, "reference") as used:
            for resume in (None, True):
                (left / "slices").mkdir(parents=True)
                data, settings = (None, None) if resume else (PretrainingData((labels,)), config)
                pretrain(data, config=settings, out=runs, resume=resume, device="cpu")
                assert sorted(runs.glob(".tmp-*")) == [used]
        assert not list(runs.glob(".tmp-*"))

    def test_health_warnings_name_settings_that_pretrain_has(self, labels, small, tmp_path):
        config = changed(small, training={"max_steps": 40, "learning_rate": 1e-9, "panel_every": 2})
        run = pretrain(PretrainingData((labels,)), config=config, out=tmp_path / "runs", device="cpu")
        messages = [warning["message"] for warning in record_of(run)["health"]["warnings"]]
        assert messages, "a network that does not learn is noticed"
        assert all("losses." not in message and "section pretraining" in message for message in messages)
        # The cycle is not trained: reconstructed inputs have the protocol of the targets.
        assert not any("nothing is learned" in message for message in messages)
        assert ModelBundle.load(run / "model").provenance["fitness"]["learned"] is None

    def test_a_finished_run_is_left_as_it_is(self, pretrained):
        before = weights_of(pretrained)
        assert pretrain(resume=pretrained, device="cpu") == pretrained
        assert weights_of(pretrained) == before

    def test_train_continues_with_real_slices_and_translate_uses_the_model(self, pretrained, small, tmp_path):
        for name in ("t1", "t2"):
            for n in range(2):
                volume = head_mr((24, 28, 16), seed=n, inverted=name == "t2")
                write_nifti(volume, tmp_path / "volumes" / name / f"{n}.nii.gz")
        slice_volumes(tmp_path / "volumes", tmp_path / "slices", config=small)
        config = changed(small, training={"max_steps": 2})
        run = train(
            tmp_path / "slices", config=config, out=tmp_path / "runs", device="cpu", init_from=pretrained / "model"
        )
        assert record_of(run)["init_from"] == ModelBundle.load(pretrained / "model").fingerprint
        source = tmp_path / "volumes" / "t1" / "0.nii.gz"
        options = TranslationOptions("t2", InferenceOptions(device="cpu"))
        translate_file(source, tmp_path / "out.nii.gz", pretrained / "model", options)
        assert read_volume(tmp_path / "out.nii.gz").shape == read_volume(source).shape

    def test_train_and_pretrain_send_each_other_their_runs(self, pretrained, whole_run):
        with pytest.raises(TrainingError, match="is a run of pretrain: continue it with medcyclegan pretrain --resume"):
            train(resume=pretrained, device="cpu")
        with pytest.raises(TrainingError, match="is a run of train: continue it with medcyclegan train --resume"):
            pretrain(resume=whole_run, device="cpu")

    def test_the_key_metric_may_be_edited(self, labels, small, tmp_path, caplog):
        caplog.set_level("INFO")
        config = changed(small, training={"max_steps": 1, "schedule": "constant"})
        run = pretrain(PretrainingData((labels,)), config=config, out=tmp_path / "runs", device="cpu")
        text = (run / "config.yaml").read_text()
        assert text.count("key_metric: mae") == 2, "of the sections validation and pretraining"
        head, tail = text.rsplit("key_metric: mae", 1)
        edited = f"{head}key_metric: ssim{tail}"
        assert "key_metric: ssim" in edited.partition("pretraining:")[2]
        (run / "config.yaml").write_text(edited.replace("max_steps: 1", "max_steps: 2"))
        pretrain(resume=run, device="cpu")
        assert "the best by pretraining.key_metric ssim" in caplog.text
        assert ModelBundle.load(run / "model").provenance["chosen_by"]["key_metric"] == "ssim"

    @pytest.mark.parametrize("pairs", ["x", {}, {"kind": "label maps"}, {"kind": "label maps", "table": 3}])
    def test_a_damaged_record_is_refused(self, pretrained, tmp_path, pairs):
        run = shutil.copytree(pretrained, tmp_path / "run")
        values = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(values | {"state": "stopped", "pairs": pairs}))
        with pytest.raises(TrainingError, match=r"pairs.*cannot be read"):
            pretrain(resume=run, device="cpu")

    def test_a_changed_label_map_is_refused(self, labels, small, tmp_path):
        maps = tmp_path / "labels"
        write_labels(maps / "one.nii.gz")
        config = changed(small, training={"max_steps": 1})
        run = pretrain(PretrainingData((maps,)), config=config, out=tmp_path / "runs", device="cpu")
        values = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(values | {"state": "stopped"}))
        write_labels(maps / "one.nii.gz", label_array((46, 54, 54)))
        with pytest.raises(TrainingError, match="the label map is missing or has changed"):
            pretrain(resume=run, device="cpu")


class TestStores:
    def test_training_on_pairs_of_a_store_resumes_to_the_bit(self, paired_store, small, tmp_path):
        config = changed(small, training={"max_steps": 6, "flip_probability": 0.5})
        whole = pretrain(PretrainingData(slices=paired_store), config=config, out=tmp_path / "whole", device="cpu")
        half = pretrain(
            PretrainingData(slices=paired_store),
            config=changed(config, training={"max_steps": 6, "schedule": "constant"}),
            out=tmp_path / "half",
            device="cpu",
        )
        assert weights_of(whole) != weights_of(half), "the schedule counts"
        assert record_of(whole)["pairs"] == {"kind": "slice store"}
        assert pretrain(resume=whole, device="cpu") == whole

    def test_both_slices_of_a_pair_are_of_one_place_and_mirrored_together(self, paired_store, small):
        from medcyclegan.training.pretraining.store_pairs import StorePairs

        plan = build_plan(paired_store, small)
        pairs = StorePairs(plan.store, plan.training, "off")
        assert len(pairs.pairs) > 20
        assert all(a.patient == b.patient for (a, _), (b, _) in pairs.pairs)
        batches = []
        for flip in (0.0, 1.0):
            with pairs.opened(CPU, Sampling(batch_size=2, flip_probability=flip)) as read:
                batches.append(read(4))
            assert torch.equal(batches[-1][0], batches[-1][2])
        assert all(torch.equal(mirrored.flip(3), still) for still, mirrored in zip(*batches, strict=True))

    def test_a_store_without_pairs_is_refused(self, store, tiny, tmp_path):
        with pytest.raises(StoreError, match="contains no pairs: no training patient has both t1 and t2 on one grid"):
            pretrain(PretrainingData(slices=store), config=tiny, out=tmp_path / "runs", device="cpu")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "name either label maps or, with --slices, a slice store"),
        (PretrainingData(), "name either label maps or, with --slices, a slice store"),
        (PretrainingData(("a",), "b"), "name either label maps or"),
        (PretrainingData(("a",), domains=("t1", "t3")), "name two different contrasts"),
        (PretrainingData(("a",), domains=("t1", "t1")), "name two different contrasts"),
    ],
)
def test_wrong_calls_are_refused(data, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        pretrain(data, out=tmp_path, device="cpu")
    with pytest.raises(UsageError, match="a resumed run keeps its label maps"):
        pretrain(PretrainingData(("a",)), resume=True)
