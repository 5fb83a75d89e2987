"""The step: compared with a plain reference, and what each of its two passes may change."""

import copy
from types import SimpleNamespace

import pytest
import torch
from benchmarks.reference_step import ReferenceStep, copy_weights

from medcyclegan.config import Config, parse_config
from medcyclegan.networks import CycleGAN, build_cyclegan
from medcyclegan.training.update.losses import discriminator_loss, generator_loss
from medcyclegan.training.update.masks import mask_loss
from medcyclegan.training.update.step import CycleGANStep, build_step
from medcyclegan.training.update.warps import warped

CPU = torch.device("cpu")


def tiny(**losses) -> Config:
    networks = {"generator": {"filters": 4, "blocks": 1}, "discriminator": {"filters": 4, "layers": 2}}
    return parse_config({"networks": networks, "losses": losses, "training": {"learning_rate": 1e-3}}, "test")


def pair(seed: int = 0, count: int = 1, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(count, 1, size, size, generator=random) * 2 - 1 for _ in range(2))  # type: ignore[return-value]


def engine(step: int) -> SimpleNamespace:
    """Return what the step reads of an ignite engine, at ``step`` counted from 0."""
    return SimpleNamespace(state=SimpleNamespace(iteration=step + 1))


def make(config: Config, precision="fp32") -> CycleGANStep:
    return build_step(config, build_cyclegan(config.networks, 32, seed=0), CPU, precision)


def copy_reference(reference: ReferenceStep) -> CycleGAN:
    """Return our networks with the weights of the reference's, whose layers come in the same order."""
    config = parse_config({"networks": {"generator": {"filters": 8, "blocks": 2}, "discriminator": {"filters": 8}}}, "")
    networks = build_cyclegan(config.networks, 64, seed=9)
    copy_weights(reference, networks)
    return networks


def test_losses_and_gradients_are_those_of_a_plain_reference() -> None:
    reference = ReferenceStep(filters=8, blocks=2)
    ours = build_step(Config.model_validate({"training": {"pool_size": 0}}), copy_reference(reference), CPU, "fp32")
    for step in range(3):
        real_A, real_B = pair(step, count=2, size=64)
        expected = reference(real_A, real_B)
        losses = ours(engine(step), (real_A, real_B))
        for name, value in expected.items():
            torch.testing.assert_close(losses[name], value, rtol=2e-4, atol=2e-5)
        for name in ("G_AB", "G_BA", "D_A", "D_B"):
            theirs = [p.grad.flatten() for p in getattr(reference, name).parameters() if p.dim() == 4]
            mine = [p.grad.flatten() for p in getattr(ours.networks, name).parameters() if p.dim() == 4]
            cosine = torch.nn.functional.cosine_similarity(torch.cat(mine), torch.cat(theirs), dim=0)
            assert cosine > 0.9999


@pytest.mark.parametrize("form", ["lsgan", "log"])
def test_terms_and_their_sum_are_those_of_equation_3(form) -> None:
    weights = {"adversarial_weight": 2.0, "cycle_weight": 7.0, "identity_weight": 3.0, "discriminator_weight": 0.25}
    step = make(tiny(adversarial=form, **weights))
    n = copy.deepcopy(step.networks)
    real_A, real_B = pair()
    losses = step(engine(0), (real_A, real_B))
    with torch.no_grad():
        fake_B, fake_A = n.G_AB(real_A), n.G_BA(real_B)
        expected = {
            "adversarial_AB": generator_loss(n.D_B(fake_B), form),
            "adversarial_BA": generator_loss(n.D_A(fake_A), form),
            "cycle_A": (n.G_BA(fake_B) - real_A).abs().mean(),
            "cycle_B": (n.G_AB(fake_A) - real_B).abs().mean(),
            "identity_A": (n.G_BA(real_A) - real_A).abs().mean(),
            "identity_B": (n.G_AB(real_B) - real_B).abs().mean(),
            "discriminator_A": 0.25 * discriminator_loss(n.D_A(real_A), n.D_A(fake_A), form),
            "discriminator_B": 0.25 * discriminator_loss(n.D_B(real_B), n.D_B(fake_B), form),
        }
        total = 2 * (expected["adversarial_AB"] + expected["adversarial_BA"])
        total += 7 * (expected["cycle_A"] + expected["cycle_B"])
        total += 3 * (expected["identity_A"] + expected["identity_B"])
    assert set(losses) == {"generators", *expected}
    torch.testing.assert_close(losses, {"generators": total, **expected}, rtol=1e-4, atol=1e-5)


def test_optional_terms_are_added_with_their_weights() -> None:
    weights = {"mask_weight": 4.0, "paired_weight": 6.0}
    step = make(tiny(identity_weight=0.0, **weights))
    n = copy.deepcopy(step.networks)
    (real_A, real_B), (pair_A, pair_B) = pair(), pair(7)
    real_A[..., :16] = -1.0  # air, so that the masks differ
    losses = step(engine(0), (real_A, real_B, pair_A, pair_B))
    assert losses["mask_AB"] > 0.1
    fake_B = n.G_AB(real_A)
    expected = {
        "mask_AB": mask_loss(fake_B, real_A),
        "paired_AB": (n.G_AB(pair_A) - pair_B).abs().mean(),
        "paired_BA": (n.G_BA(pair_B) - pair_A).abs().mean(),
    }
    torch.testing.assert_close({name: losses[name] for name in expected}, expected, rtol=1e-4, atol=1e-5)
    named = {"adversarial": 1.0, "cycle": 10.0, "mask": 4.0, "paired": 6.0}
    total = sum(w * losses[name] for key, w in named.items() for name in losses if name.startswith(key))
    torch.testing.assert_close(losses["generators"], total, rtol=1e-4, atol=1e-5)


def test_discriminators_see_warped_images_and_generators_do_not() -> None:
    config = tiny()
    config = config.model_copy(
        update={
            "networks": config.networks.model_copy(
                update={"discriminator": config.networks.discriminator.model_copy(update={"augmentation": 1.0})}
            )
        }
    )
    step = make(config)
    shown: dict[str, list[torch.Tensor]] = {"G_AB": [], "D_B": []}
    for name, images in shown.items():
        getattr(step.networks, name).register_forward_hook(lambda m, args, out, to=images: to.append(args[0].detach()))
    made: list[torch.Tensor] = []
    step.networks.G_AB.register_forward_hook(lambda module, args, out: made.append(out.detach().clone()))
    real_A, real_B = pair()
    step(engine(4), (real_A, real_B))
    assert torch.equal(shown["G_AB"][0][:1], real_A)
    fake, both = shown["D_B"]
    warps = step.warps(4, 1)
    assert [len(w) for w in warps] == [1, 1, 2, 2]
    torch.testing.assert_close(both[:1], warped(real_B, warps[3][:1]))
    torch.testing.assert_close(both[1:], warped(made[0][:1], warps[3][1:]))
    torch.testing.assert_close(fake, warped(made[0][:1], warps[1]))
    assert not torch.allclose(both[:1], real_B, atol=0.1)
    assert len(fake) == 1
    assert not torch.equal(step.warps(5, 1)[3], warps[3])


def test_the_generators_pass_leaves_no_gradient_in_the_discriminators() -> None:
    step = make(tiny())
    before = copy.deepcopy(step.networks.state_dict())
    step.update_generators(*pair())
    assert all(p.grad is None and not p.requires_grad for p in step.networks.discriminator_parameters())
    after = step.networks.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("D_"))
    assert all(not torch.equal(before[n], after[n]) for n in before if n.startswith("G_") and n.endswith("weight"))


def test_the_discriminators_pass_leaves_the_generators_as_they_are() -> None:
    step = make(tiny())
    fake_A, fake_B, _ = step.update_generators(*pair())
    assert not fake_A.requires_grad
    assert not fake_B.requires_grad
    before = copy.deepcopy(step.networks.state_dict())
    gradients = [p.grad.clone() for p in step.networks.generator_parameters()]
    step.update_discriminators(*pair(), fake_A, fake_B)
    assert all(p.grad is not None for p in step.networks.discriminator_parameters())
    for gradient, parameter in zip(gradients, step.networks.generator_parameters(), strict=True):
        assert torch.equal(gradient, parameter.grad)
    after = step.networks.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("G_"))
    assert all(not torch.equal(before[n], after[n]) for n in before if n.startswith("D_") and n.endswith("weight"))


def count_images(step: CycleGANStep) -> dict[str, int]:
    images = dict.fromkeys(("G_AB", "G_BA", "D_A", "D_B"), 0)

    def note(name: str):
        return lambda module, args, output: images.update({name: images[name] + len(args[0])})

    for name in images:
        getattr(step.networks, name).register_forward_hook(note(name))
    return images


@pytest.mark.parametrize(("weight", "through"), [(0.0, 2), (5.0, 3)])
def test_nothing_is_computed_twice_and_identity_of_weight_0_not_at_all(weight: float, through: int) -> None:
    step = make(tiny(identity_weight=weight))
    images = count_images(step)
    losses = step(engine(0), pair())
    assert images == {"G_AB": through, "G_BA": through, "D_A": 3, "D_B": 3}
    assert ("identity_A" in losses) == (weight > 0)


def test_losses_stay_on_the_device_and_out_of_the_graph() -> None:
    losses = make(tiny())(engine(0), pair())
    assert all(loss.dim() == 0 and not loss.requires_grad and loss.dtype == torch.float32 for loss in losses.values())


def test_discriminators_see_fakes_from_the_pools() -> None:
    step = make(tiny())
    seen: list[torch.Tensor] = []
    step.networks.D_B.register_forward_hook(lambda module, args, output: seen.append(args[0].detach().clone()))
    shown = []
    for i in range(60):
        step(engine(i), pair(i))
        fake, (_, past) = seen[-2], seen[-1].split(1)
        shown.append(torch.equal(fake, past))
    assert all(shown[:50])
    assert not all(shown[50:])


def test_bf16_follows_fp32() -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        step = make(tiny(), precision)
        runs = [step(engine(i), pair(i)) for i in range(10)]
        losses[precision] = torch.stack([run["generators"] for run in runs])
        assert all(p.dtype == torch.float32 for p in step.networks.parameters())
    torch.testing.assert_close(losses["bf16"], losses["fp32"], rtol=0.02, atol=0)
    assert not torch.equal(losses["bf16"], losses["fp32"])


def test_the_scaler_divides_out_what_it_multiplied(monkeypatch) -> None:
    """fp16's loss scaling, run on the CPU in fp32: the weights are the same as without it."""
    plain, scaled = make(tiny()), make(tiny())
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for i in range(2):
        plain(engine(i), pair(i))
        scaled(engine(i), pair(i))
    assert scaled.scaler.get_scale() == 1024.0
    for a, b in zip(plain.networks.parameters(), scaled.networks.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_two_runs_give_the_same_bits() -> None:
    first, second = make(tiny()), make(tiny())
    for i in range(3):
        a, b = first(engine(i), pair(i)), second(engine(i), pair(i))
        assert all(torch.equal(a[name], b[name]) for name in a)
    for a, b in zip(first.networks.parameters(), second.networks.parameters(), strict=True):
        assert torch.equal(a, b)
