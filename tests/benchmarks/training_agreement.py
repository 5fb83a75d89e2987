"""Compare the fast step with the plain reference: ``python tests/benchmarks/training_agreement.py``.

The package's step and the reference start with the same weights (64 filters, 9 blocks). Printed: the cosine of one
step's gradients, all weights of both generators and of both discriminators in one vector each, on slices of 256 x 256
(DESIGN section 6 requires the same gradients: 0.9999 in fp32, 0.99 in mixed precision); and by how much the mean losses
over 50 steps differ from the reference's, on slices of 64 x 64 (within 2 %). Slices are of synthetic heads.

Training amplifies rounding errors, so the losses have two controls. "started apart": the reference itself, its first
weights moved by a millionth; no step can agree better than that. "fp64": both in float64 with 16 filters, where
rounding is too small to be amplified noticeably in 50 steps; any difference there is a difference in computation.
"""

from __future__ import annotations

import argparse
import copy
import functools
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from reference_step import ReferenceStep, copy_weights

from medcyclegan.config import parse_config
from medcyclegan.intensity import IntensityScaling
from medcyclegan.networks import build_cyclegan
from medcyclegan.phantom import make_head, t1_volume, t2_volume
from medcyclegan.training.update.precision import choose_precision
from medcyclegan.training.update.step import CycleGANStep, build_step
from medcyclegan.volume import Volume

BLOCKS = 9
NETWORKS = ("G_AB", "G_BA", "D_A", "D_B")


def heads(volume: Volume, size: int) -> torch.Tensor:
    """Return the slices of a synthetic head, ``(K, 1, size, size)`` in [-1, 1]."""
    values = IntensityScaling.fit(volume.array, modality="MR").normalize(volume.array)
    slices = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[:, None]
    return torch.nn.functional.interpolate(slices, (size, size), mode="bilinear", antialias=True).contiguous()


def step_like(reference: ReferenceStep, size: int, precision: str, filters: int = 64) -> CycleGANStep:
    """Return the package's step with the reference's weights; without a pool, since the reference has none."""
    shapes = {"generator": {"blocks": BLOCKS, "filters": filters}, "discriminator": {"filters": filters}}
    config = parse_config({"networks": shapes, "training": {"pool_size": 0}}, "benchmark")
    networks = build_cyclegan(config.networks, size, 0)
    if precision == "fp64":
        networks.double()
    copy_weights(reference, networks)
    return build_step(config, networks, torch.device("cpu"), precision)


def run(step: CycleGANStep, number: int, real_A: torch.Tensor, real_B: torch.Tensor) -> dict[str, torch.Tensor]:
    """Take one step of the package's."""
    return step(SimpleNamespace(state=SimpleNamespace(iteration=number + 1)), (real_A, real_B))


def gradient(owner: object, names: tuple[str, ...]) -> torch.Tensor:
    """Return the gradients of all convolutions of some networks in one vector (biases in front of a norm have none)."""
    kernels = [p for name in names for p in getattr(owner, name).parameters() if p.dim() == 4]
    return torch.cat([p.grad.flatten() for p in kernels]).double()


def print_gradients(precision: str, size: int) -> None:
    reference = ReferenceStep(blocks=BLOCKS)
    ours = step_like(reference, size, precision)
    real = [heads(make(make_head(seed)), size)[20:21] for make, seed in ((t1_volume, 0), (t2_volume, 1))]
    reference(*real)
    run(ours, 0, *real)
    print(f"  {precision}: {cosines(reference, ours.networks)}", flush=True)
    if precision == "bf16":
        plain = ReferenceStep(blocks=BLOCKS)
        with torch.autocast("cpu", torch.bfloat16):
            plain(*real)
        print(f"  bf16, the reference itself under autocast: {cosines(reference, plain)}", flush=True)


def cosines(one: object, other: object) -> str:
    """Return the cosines of two sets of gradients, of the generators' and of the discriminators'."""
    found = [
        torch.nn.functional.cosine_similarity(gradient(one, names), gradient(other, names), dim=0).item()
        for names in (NETWORKS[:2], NETWORKS[2:])
    ]
    return f"generators {found[0]:.6f}, discriminators {found[1]:.6f}"


def moved(reference: ReferenceStep, share: float) -> ReferenceStep:
    """Return a copy of the reference, not yet trained, whose weights are moved by a random ``share`` of themselves."""
    other = copy.deepcopy(reference)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in NETWORKS:
            for parameter in getattr(other, name).parameters():
                parameter.mul_(1 + share * torch.randn(parameter.shape, generator=random))
    return other


def print_losses(precisions: list[str], size: int, steps: int) -> None:
    reference = ReferenceStep(blocks=BLOCKS)
    others: dict[str, Callable[..., dict[str, torch.Tensor]]] = {"started apart": moved(reference, 1e-6)}
    for precision in precisions:
        others[precision] = functools.partial(run, step_like(reference, size, precision))
    compare_losses(reference, others, size, steps, torch.float32)
    small = ReferenceStep(16, BLOCKS)
    for name in NETWORKS:
        getattr(small, name).double()
    ours = step_like(small, size, "fp64", 16)
    compare_losses(small, {"fp64": functools.partial(run, ours)}, size, steps, torch.float64)


def compare_losses(
    reference: ReferenceStep,
    others: dict[str, Callable[..., dict[str, torch.Tensor]]],
    size: int,
    steps: int,
    dtype: torch.dtype,
) -> None:
    volumes = [heads(make(make_head(seed)), size).to(dtype) for make, seed in ((t1_volume, 0), (t2_volume, 1))]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ("reference", *others)}
    for number in range(steps):
        real = [volume[(7 * number) % 30 + 5 :][:1] for volume in volumes]
        for name, step in {"reference": reference, **others}.items():
            arguments = (number, *real) if isinstance(step, functools.partial) else real
            rows[name].append({loss: value.item() for loss, value in step(*arguments).items()})
    for name in others:
        for loss in rows["reference"][0]:
            theirs, mine = (float(np.mean([row[loss] for row in rows[key]])) for key in ("reference", name))
            print(
                f"  {name}, {loss}: {mine:.4f}, reference {theirs:.4f}, {100 * (mine / theirs - 1):+.2g} %", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="rows and columns for the gradients")
    parser.add_argument("--loss-size", type=int, default=64, help="rows and columns for the losses")
    parser.add_argument("--steps", type=int, default=50, help="steps that losses are averaged over")
    parser.add_argument("--threads", type=int, help="threads (default: torch's)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    mixed = ["bf16"] if choose_precision("auto", torch.device("cpu")) == "bf16" else []
    print(f"cosine of one step's gradients with the reference's, {arguments.size} x {arguments.size}")
    for precision in ("fp32", *mixed):
        print_gradients(precision, arguments.size)
    print(f"mean losses over {arguments.steps} steps, {arguments.loss_size} x {arguments.loss_size}")
    print_losses(["fp32", *mixed], arguments.loss_size, arguments.steps)


if __name__ == "__main__":
    main()
