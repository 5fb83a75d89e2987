"""Pairs of slices from label maps: what they are, how they are mixed, and who draws them."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from support.pretraining import CPU, changed, synthetic_pairs

from medcyclegan.config import Domain
from medcyclegan.data import Sampling, random_at
from medcyclegan.data.counter_random import Stream
from medcyclegan.errors import TrainingError
from medcyclegan.io import read_volume
from medcyclegan.slicing.case import cut_slices
from medcyclegan.synthesis import Variation, build_head, draw_patient, render_patient
from medcyclegan.synthesis.patient_files import scan_volume
from medcyclegan.training.pretraining.cutting import cut_pairs
from medcyclegan.training.pretraining.reference import split_maps
from medcyclegan.training.pretraining.synthetic_pairs import variation_of


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

    def test_standard_targets_have_one_protocol_and_ct_has_none_to_change(self, labels, small):
        found = {}
        for targets in ("standard", "clean"):
            config = changed(small, pretraining={"targets": targets})
            pairs = synthetic_pairs([labels / "one.nii.gz"], config)
            found[targets] = dataclasses.replace(pairs, domains=("t1", "ct")).patient(0, CPU)
        standard, clean = found["standard"], found["clean"]
        assert torch.equal(standard[:, :2], clean[:, :2]), "the inputs are the same scans"
        assert torch.equal(standard[:, 3], clean[:, 3]), "the CT is the same"
        assert not torch.allclose(standard[:, 2], clean[:, 2], atol=0.02)

    def test_pixels_in_lesions_weigh_more_and_the_images_stay_the_same(self, labels, small):
        every = changed(small, pretraining={"lesion_fraction": 1.0})
        weighted = changed(every, pretraining={"lesion_weight": 4.0})
        found = 0
        for number in range(4):
            plain, images = (
                synthetic_pairs([labels / "one.nii.gz"], config).patient(number, CPU) for config in (every, weighted)
            )
            assert images.shape == (5, 5, 1, 32, 32)
            assert torch.equal(images[:, :4], plain)
            weights = images[:, 4].float()
            assert weights.min() == 1, "outside lesions"
            assert weights.max() <= 5
            found += int((weights > 3).sum())
            assert (weights > 3).float().mean() < 0.2
        assert found > 0
        none = synthetic_pairs([labels / "one.nii.gz"], changed(weighted, pretraining={"lesion_fraction": 0.0}))
        assert (none.patient(0, CPU)[:, 4] == 1).all()

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
