"""Supervised training on pairs: the pairs, the step, resumed runs, and the models."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from support.label_phantoms import label_array, write_labels
from support.phantoms import head_mr, write_nifti
from support.run_folders import PowerCutError, cut_power, record_of, rows_of, weights_of

from medcyclegan.config import Config, Domain, parse_config
from medcyclegan.data import Sampling, random_at
from medcyclegan.data.counter_random import Stream
from medcyclegan.errors import StoreError, TrainingError, UsageError
from medcyclegan.inference import InferenceOptions, TranslationOptions, translate_file
from medcyclegan.io import read_volume
from medcyclegan.manifest import load_manifest
from medcyclegan.model import ModelBundle
from medcyclegan.networks import build_cyclegan
from medcyclegan.slicing import slice_volumes
from medcyclegan.slicing.case import cut_slices
from medcyclegan.storage import scratch_folder
from medcyclegan.synthesis import FREESURFER, Cohort, Variation, build_head, draw_patient, render_patient, synthesize
from medcyclegan.synthesis.patient_files import scan_volume
from medcyclegan.training import train
from medcyclegan.training.monitor.scores import _compare, held_out_slices
from medcyclegan.training.plan import build_plan
from medcyclegan.training.pretraining.cutting import cut_pairs
from medcyclegan.training.pretraining.pretrain import PretrainingData, pretrain
from medcyclegan.training.pretraining.reference import split_maps
from medcyclegan.training.pretraining.synthetic_pairs import SyntheticPairs, variation_of
from medcyclegan.training.update.paired_step import PairedStep, gradient_loss, ssim_loss
from medcyclegan.training.update.step import build_step

CPU = torch.device("cpu")


def changed(config: Config, **sections) -> Config:
    values = config.model_dump(mode="json")
    for name, section in sections.items():
        values[name] |= section
    return parse_config(values, "test")


@pytest.fixture(scope="module")
def small(tiny) -> Config:
    """Return ``tiny`` with slices and patients of a size for tests."""
    return changed(
        tiny,
        slicing={"size": 32, "pixel_mm": 8.0},
        training={"max_steps": 9, "checkpoint_steps": 4, "log_every": 2},
        pretraining={
            "patients_at_once": 2, "slices_per_patient": 5, "reference_patients": 1, "validation_patients": 1,
            "workers": 0,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    write_labels(folder / "one.nii.gz")
    write_labels(folder / "two.nii.gz", label_array((46, 54, 54)))
    return folder


@pytest.fixture(scope="module")
def pretrained(labels, small, tmp_path_factory) -> Path:
    """Return a complete pretraining, which is read-only."""
    out = tmp_path_factory.mktemp("pretrained") / "runs"
    return pretrain(PretrainingData((labels,)), config=small, out=out, device="cpu")


@pytest.fixture(scope="module")
def paired_store(labels, small, tmp_path_factory) -> Path:
    """Return a slice store of synthetic patients with both domains."""
    folder = tmp_path_factory.mktemp("paired")
    synthesize([labels], folder / "volumes", Cohort(("t1", "t2"), 6, variation=Variation(spacing_mm=6.0)))
    slice_volumes(folder / "volumes", folder / "slices", config=small)
    return folder / "slices"


class TestPairs:
    def test_they_are_the_slices_that_slice_volumes_makes_of_the_same_volumes(self, labels, small):
        head = build_head(read_volume(labels / "one.nii.gz"))
        config = changed(small, pretraining={"slices_per_patient": 12, "targets": "scan"})
        for seed, domains in ((1, ("t1", "ct")), (2, ("ct", "t2"))):
            patient = draw_patient(seed, head, domains, Variation(finest_mm=3.0))
            images = render_patient(patient, head)
            pairs = cut_pairs(images.scans, images.scans, patient, config, domains, random_at(seed, Stream.SAMPLE, 0))
            assert pairs.shape == (12, 4, 1, 32, 32)
            assert torch.equal(pairs[:, :2], pairs[:, 2:])
            expected = []
            for name in domains:
                volume = scan_volume(images, patient, name)
                expected.append(cut_slices(volume, volume.modality, config.slicing, Domain()))
            # Where both volumes keep a slice, its pair must be among those that were cut.
            shared = sorted(set(expected[0]["image_slices"]) & set(expected[1]["image_slices"]))
            stacks = [
                torch.stack(
                    [torch.as_tensor(np.asarray(items["image"]))[items["image_slices"].index(k)] for k in shared]
                )
                for items in expected
            ]
            found = 0
            for pair in pairs[:, :2, 0].float():
                distance = [(stack - image).abs().amax(dim=(1, 2)) for stack, image in zip(stacks, pair, strict=True)]
                found += int((torch.maximum(*distance) < 2e-3).any())
            assert found >= 11, f"{found} of 12 (a slice at the very end may be kept in one contrast alone)"

    def test_targets_are_clean_and_inputs_are_not(self, labels, small):
        images = synthetic_pairs([labels / "one.nii.gz"], small).patient(3, CPU).float()
        assert images.shape == (5, 4, 1, 32, 32)
        assert images.min() >= -1
        assert images.max() <= 1
        for input_, target in ((0, 2), (1, 3)):
            assert not torch.equal(images[:, input_], images[:, target])
            together = np.corrcoef(images[:, input_].flatten(), images[:, target].flatten())[0, 1]
            assert together > 0.7, "of the same places"

    def test_a_sample_is_a_function_of_the_seed_and_its_number(self, labels, small):
        pairs = synthetic_pairs(labels.iterdir(), small)
        sampling = Sampling(seed=small.seed, batch_size=2)
        with pairs.opened(CPU, sampling) as read:
            forwards = [read(step) for step in range(10)]
        with pairs.opened(CPU, sampling) as read:
            assert all(torch.equal(a, b) for a, b in zip(read(9), forwards[9], strict=True)), "in the fourth round"
        halves = []
        for rank in (0, 1):
            with pairs.opened(CPU, dataclasses.replace(sampling, rank=rank, world=2)) as read:
                halves.append(read(3))
        for whole, first, second in zip(forwards[3], *halves, strict=True):
            assert torch.equal(whole, torch.cat([first, second]))

    def test_every_slice_of_every_patient_is_used_once_and_patients_are_mixed(self, labels, small):
        pairs = synthetic_pairs([labels / "one.nii.gz"], small)
        patients = [[image.float().numpy().tobytes() for image in pairs.patient(n, CPU)[:, 0]] for n in range(5)]
        of_patient = {image: n for n, images in enumerate(patients) for image in images}
        with pairs.opened(CPU, Sampling(seed=small.seed, batch_size=5)) as read:
            rounds = [[image.numpy().tobytes() for image in read(step)[0]] for step in range(5)]
        assert sorted({of_patient[image] for image in rounds[0]}) == [0], "there is no earlier one"
        for number in (1, 2, 3):
            assert sorted({of_patient[image] for image in rounds[number]}) == [number - 1, number]
            assert set(patients[number]) < {*rounds[number], *rounds[number + 1]}
        later = [image for images in rounds[1:] for image in images]
        assert len(set(later)) == len(later)

    def test_samples_are_mirrored_with_their_targets(self, labels, small):
        pairs = synthetic_pairs([labels / "one.nii.gz"], small)
        batches = []
        for flip in (0.0, 1.0):
            with pairs.opened(CPU, Sampling(batch_size=2, flip_probability=flip)) as read:
                batches.append(read(0))
        assert all(torch.equal(mirrored.flip(3), still) for still, mirrored in zip(*batches, strict=True))

    def test_worker_processes_draw_the_same(self, labels, small):
        batches = []
        for workers in (0, 1):
            pairs = synthetic_pairs(labels.iterdir(), changed(small, pretraining={"workers": workers}))
            with pairs.opened(CPU, Sampling(batch_size=2)) as read:
                batches.append(read(1))
        assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))

    def test_a_killed_worker_is_one_line(self, labels, small):
        pairs = synthetic_pairs(labels.iterdir(), changed(small, pretraining={"workers": 1}))
        with pairs.opened(CPU, Sampling(batch_size=2)) as read:
            read(0)
            for worker in psutil.Process().children(recursive=True):
                if "spawn_main" in " ".join(worker.cmdline()):
                    worker.kill()
            with pytest.raises(TrainingError, match="a process that generates patients was killed"):
                read(40)

    def test_a_worker_ignores_signals_and_ends_with_the_training(self, labels, small, tmp_path):
        config = changed(small, pretraining={"workers": 1}).model_dump(mode="json")
        script = tmp_path / "training.py"
        script.write_text(
            "import json, pathlib, sys, time\n"
            "import torch\n"
            "from medcyclegan.config import parse_config\n"
            "from medcyclegan.data import Sampling\n"
            "from medcyclegan.synthesis import FREESURFER\n"
            "from medcyclegan.training.pretraining.synthetic_pairs import SyntheticPairs\n"
            "if __name__ == '__main__':\n"
            f"    config = parse_config(json.loads({json.dumps(config)!r}), 'test')\n"
            f"    maps = (pathlib.Path({str(labels / 'one.nii.gz')!r}),)\n"
            "    pairs = SyntheticPairs(maps, maps, FREESURFER, ('t1', 't2'), config)\n"
            "    with pairs.opened(torch.device('cpu'), Sampling(batch_size=2)) as read:\n"
            "        read(0)\n"
            "        print('drawn', flush=True)\n"
            "        time.sleep(600)\n"
        )
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as training:
            assert training.stdout.readline() == "drawn\n"
            workers = [
                child
                for child in psutil.Process(training.pid).children(recursive=True)
                if "spawn_main" in " ".join(child.cmdline())
            ]
            assert len(workers) == 1
            for number in (signal.SIGINT, signal.SIGTERM):
                workers[0].send_signal(number)
            with pytest.raises(psutil.TimeoutExpired):
                workers[0].wait(1.0)
            training.kill()
        _, alive = psutil.wait_procs(workers, 20.0)
        assert not alive

    def test_neighbors_are_those_of_the_stack(self, labels, small):
        config = changed(small, networks={"generator": {"context_slices": 3}})
        pairs = synthetic_pairs([labels / "one.nii.gz"], config)
        three = pairs.patient(0, CPU)
        one = dataclasses.replace(pairs, config=small).patient(0, CPU)
        assert three.shape == (5, 4, 3, 32, 32)
        assert torch.equal(three[:, :, 1:2], one)
        assert not torch.equal(three[:, :, 0], three[:, :, 2])

    def test_one_of_four_label_maps_is_for_validation_alone(self, small):
        maps = tuple(Path(f"{n}.nii.gz") for n in range(5))
        training, validation = split_maps(maps, small)
        assert len(training) == 4
        assert set(training) | set(validation) == set(maps)
        assert split_maps(maps[:3], small) == (maps[:3], maps[:3])
        none = changed(small, pretraining={"validation_patients": 0})
        assert split_maps(maps, none) == (maps, ())

    def test_the_configuration_decides_what_patients_are_like(self, labels, small):
        fractions = {"lesion_fraction": 1.0, "extracted_fraction": 0.25, "metal_fraction": 0.5}
        variation = variation_of(changed(small, pretraining=fractions))
        assert (variation.lesions, variation.extracted, variation.metal) == (1.0, 0.25, 0.5)
        heads, brains = (
            synthetic_pairs([labels / "one.nii.gz"], changed(small, pretraining={"extracted_fraction": fraction}))
            .patient(0, CPU)[:, 0]
            .float()
            for fraction in (0.0, 1.0)
        )
        # Half of a head's width at this height is skull, skin and fluid.
        assert (brains > -0.99).float().mean() < 0.8 * (heads > -0.99).float().mean()


def synthetic_pairs(maps, config: Config) -> SyntheticPairs:
    maps = tuple(sorted(maps))
    return SyntheticPairs(maps, maps, FREESURFER, ("t1", "t2"), config)


def paired_step(config: Config) -> PairedStep:
    step = build_step(config, build_cyclegan(config.networks, 32, 0), CPU, "fp32", kind=PairedStep)
    assert isinstance(step, PairedStep)
    return step


class TestStep:
    def batch(self):
        random = torch.Generator().manual_seed(0)
        a, b = (torch.rand((2, 1, 32, 32), generator=random) * 2 - 1 for _ in range(2))
        return a, b, a.flip(2), b.flip(2)

    def test_the_loss_is_the_weighted_sum_of_its_terms(self, small):
        weights = {"l1_weight": 3.0, "gradient_weight": 0.5, "ssim_weight": 2.0, "adversarial_weight": 0.25}
        step = paired_step(changed(small, pretraining=weights))
        _, _, losses = step.update_on_pairs(*self.batch())
        expected = sum(
            3.0 * losses[f"l1_{d}"]
            + 0.5 * losses[f"gradient_{d}"]
            + 2.0 * losses[f"ssim_{d}"]
            + 0.25 * losses[f"adversarial_{d}"]
            for d in ("AB", "BA")
        )
        assert float(losses["generators"]) == pytest.approx(float(expected), rel=1e-5)

    def test_every_weight_changes_the_update(self, small):
        results = []
        for weights in (
            {},
            {"l1_weight": 0.5},
            {"gradient_weight": 0.0},
            {"ssim_weight": 1.0},
            {"adversarial_weight": 1.0},
        ):
            step = paired_step(changed(small, pretraining=weights, training={"ema_decay": None}))
            torch.manual_seed(0)
            step.update_on_pairs(*self.batch())
            results.append(torch.cat([p.flatten() for p in step.networks.G_AB.parameters()]))
        assert all(not torch.equal(results[0], other) for other in results[1:])

    def test_each_generator_is_compared_with_its_own_target(self, small):
        step = paired_step(small)
        a, b, target_A, target_B = self.batch()
        with step.evaluating() as networks:
            fake_B, fake_A = networks.G_AB(a), networks.G_BA(b)
        # Without dropout, so that the passes are the same.
        for network in (step.networks.G_AB, step.networks.G_BA):
            network.eval()
        _, _, losses = step.update_on_pairs(a, b, target_A, target_B)
        assert float(losses["l1_AB"]) == pytest.approx(float((fake_B - target_B).abs().mean()), rel=1e-5)
        assert float(losses["l1_BA"]) == pytest.approx(float((fake_A - target_A).abs().mean()), rel=1e-5)

    def test_without_an_adversarial_term_discriminators_stay_as_they_are(self, small):
        from types import SimpleNamespace

        engine = SimpleNamespace(state=SimpleNamespace(iteration=1))
        for weight, same in ((0.0, True), (0.1, False)):
            step = paired_step(changed(small, pretraining={"adversarial_weight": weight}))
            before = {name: p.clone() for name, p in step.networks.named_parameters()}
            losses = step(engine, self.batch())
            after = dict(step.networks.named_parameters())
            assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("D_")) is same
            assert not any(
                torch.equal(before[n], after[n]) for n in before if n.startswith("G_") and n.endswith("weight")
            )
            assert ("discriminator_A" in losses) is not same

    def test_gradients_differ_where_edges_do(self):
        ramp = torch.arange(8.0).expand(1, 1, 8, 8)
        assert float(gradient_loss(ramp, ramp + 3)) == 0
        assert float(gradient_loss(ramp, -ramp)) == pytest.approx(2)
        assert float(gradient_loss(ramp, ramp.transpose(2, 3))) == pytest.approx(2)

    def test_ssim_is_that_of_its_equation(self):
        random = torch.Generator().manual_seed(0)
        target = torch.rand((2, 1, 32, 32), generator=random) * 2 - 1
        fake = (target + 0.3 * torch.randn(target.shape, generator=random)).clamp(-1, 1)
        assert float(ssim_loss(target, target)) == pytest.approx(0, abs=1e-6)
        # Wang et al. 2004, equation 13, in each window; L = 2.
        x, y = (
            np.lib.stride_tricks.sliding_window_view(images[:, 0].double().numpy() + 1, (7, 7), (1, 2)).reshape(-1, 49)
            for images in (fake, target)
        )
        covariance = ((x - x.mean(1, keepdims=True)) * (y - y.mean(1, keepdims=True))).mean(1)
        c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
        ssim = (2 * x.mean(1) * y.mean(1) + c1) * (2 * covariance + c2)
        ssim /= (x.mean(1) ** 2 + y.mean(1) ** 2 + c1) * (x.var(1) + y.var(1) + c2)
        assert float(ssim_loss(fake, target)) == pytest.approx(1 - ssim.mean(), abs=1e-4)

    def test_it_learns(self, small):
        step = paired_step(changed(small, networks={"generator": {"kind": "resnet", "filters": 4, "blocks": 1}}))
        from types import SimpleNamespace

        random = torch.Generator().manual_seed(0)
        a = torch.nn.functional.avg_pool2d(torch.rand((4, 1, 36, 36), generator=random) * 2 - 1, 5, 1)
        errors = []
        for n in range(60):
            losses = step(SimpleNamespace(state=SimpleNamespace(iteration=n + 1)), (a, -a, a, -a))
            errors.append(float(losses["l1_AB"] + losses["l1_BA"]))
        assert np.mean(errors[-5:]) < 0.5 * np.mean(errors[:5])


class TestValidation:
    """Fakes of held-out patients are compared with the targets of the training, not with other scans of them."""

    @pytest.mark.parametrize("targets", ["standard", "scan"])
    def test_the_targets_score_best(self, labels, small, pretrained, targets):
        config = changed(small, pretraining={"targets": targets}, validation={"slices": 7})
        plan = build_plan(pretrained / "reference", config, ("t1", "t2"))
        pairs = synthetic_pairs([labels / "one.nii.gz"], plan.config)
        slices = held_out_slices(dataclasses.replace(plan, pairs=pairs))
        input_A, input_B, target_A, target_B = pairs.held_out(7, CPU)
        assert input_A.shape == (7, 1, 32, 32)
        assert all(torch.equal(*two) for two in zip(slices.inputs, (input_A, input_B), strict=True))
        assert np.array_equal(slices.real[0], target_A[:, 0].numpy())
        perfect = _compare(slices, 0, target_B[:, 0].numpy())
        assert (perfect["mae_AB"], perfect["psnr_AB"]) == (0.0, 100.0)
        scanned = _compare(slices, 0, input_B[:, 0].numpy())
        assert (scanned["mae_AB"] == 0.0) == (targets == "scan")

    def test_they_are_the_patients_of_the_reference(self, labels, small, pretrained):
        """A slice of the reference's volume for validation is that which is drawn again, up to its scaling's sample."""
        plan = build_plan(pretrained / "reference", small, ("t1", "t2"))
        pairs = synthetic_pairs(sorted(labels.iterdir()), plan.config)
        input_A, *_ = pairs.held_out(5, CPU)
        row = plan.held_out[0][0]
        stack = np.load(pretrained / "reference" / row.file).astype(np.float32)
        for image in input_A[:, 0].numpy():
            assert np.abs(stack - image).max(axis=(1, 2)).min() < 2e-3

    def test_a_head_beyond_the_slices_is_validated_on_too(self, labels, small, tmp_path):
        """Slices that were cropped are no pairs of a store, since each volume is cropped around its own foreground."""
        config = changed(small, slicing={"pixel_mm": 4.0}, training={"max_steps": 1})
        run = pretrain(PretrainingData((labels,)), config=config, out=tmp_path / "runs", device="cpu")
        assert all(row.cropped for row in load_manifest(run / "reference"))
        assert any("validation_mae_AB" in row for row in rows_of(run))


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
    def test_pairs_of_a_store_train_and_go_on_to_the_bit(self, paired_store, small, tmp_path):
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
