"""The supervised step, and validation against its targets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.pretraining import CPU, changed, paired_step, synthetic_pairs
from support.run_folders import rows_of

from medcyclegan.manifest import load_manifest
from medcyclegan.training.monitor.scores import _compare, held_out_slices
from medcyclegan.training.plan import build_plan
from medcyclegan.training.pretraining.pretrain import PretrainingData, pretrain
from medcyclegan.training.update.paired_step import gradient_loss, ssim_loss


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

    def test_weights_of_pixels_multiply_their_absolute_differences(self, small):
        found = {}
        for factor in (None, 1.0, 3.0):
            step = paired_step(changed(small, training={"ema_decay": None}))
            for network in (step.networks.G_AB, step.networks.G_BA):
                network.eval()
            batch = self.batch()
            more = () if factor is None else (torch.full_like(batch[0], factor),)
            found[factor] = step.update_on_pairs(*batch, *more)[2]
        for direction in ("l1_AB", "l1_BA"):
            assert float(found[1.0][direction]) == pytest.approx(float(found[None][direction]), rel=1e-5)
            assert float(found[3.0][direction]) == pytest.approx(3 * float(found[None][direction]), rel=1e-5)
        one_pixel = torch.ones_like(self.batch()[0])
        one_pixel[0, 0, 3, 5] = 100.0
        step = paired_step(small)
        for network in (step.networks.G_AB, step.networks.G_BA):
            network.eval()
        a, b, target_A, target_B = self.batch()
        with torch.no_grad():
            error = float((step.networks.G_AB(a) - target_B).abs()[0, 0, 3, 5])
        losses = step.update_on_pairs(a, b, target_A, target_B, one_pixel)[2]
        expected = float(found[None]["l1_AB"]) + 99 * error / a.numel()
        assert float(losses["l1_AB"]) == pytest.approx(expected, rel=1e-4)

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
