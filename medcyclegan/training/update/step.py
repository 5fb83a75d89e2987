"""One update of a CycleGAN: both generators, then both discriminators."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import torch
from ignite.engine import Engine
from torch import nn

from medcyclegan.config import Config
from medcyclegan.data import Batch, Stream
from medcyclegan.networks import CycleGAN
from medcyclegan.training.update.cuda_graphs import CapturedFunction, wants_graphs
from medcyclegan.training.update.distributed import Ranks
from medcyclegan.training.update.ema import AveragedGenerators
from medcyclegan.training.update.image_pool import ImagePool
from medcyclegan.training.update.losses import (
    cycle_loss,
    discriminator_loss,
    generator_loss,
    identity_loss,
    paired_loss,
)
from medcyclegan.training.update.masks import mask_loss
from medcyclegan.training.update.precision import Precision, autocast
from medcyclegan.training.update.structure import structure_loss
from medcyclegan.training.update.warps import draw_warps, seen

__all__ = ["CycleGANStep", "Execution", "Losses", "build_step", "detached"]

Losses = dict[str, torch.Tensor]
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a step is executed.

    ``ranks``: the processes that divide each batch; gradients are averaged over them. ``compiled``: whether the
    networks are. ``graphs``: whether both updates are captured as CUDA graphs; with ``"on"``, insufficient memory for
    that is an error.
    """

    device: torch.device
    precision: Precision = "fp32"
    ranks: Ranks = dataclasses.field(default_factory=Ranks)
    compiled: bool = False
    graphs: Literal["off", "auto", "on"] = "off"

    def of(self, update: Callable[..., Result]) -> Callable[..., Result]:
        """Return ``update`` as it is called: itself, or its CUDA graph."""
        if self.graphs == "off":
            return update
        return CapturedFunction(update, self.device, strict=self.graphs == "on")


class CycleGANStep:
    """The update of Zhu et al. 2017 (arXiv 1703.10593), called by the engine once per batch.

    It returns its losses as detached 0-dimensional tensors on the device. Reading them makes the host wait, so they
    are read only when they are logged.
    """

    def __init__(
        self,
        networks: CycleGAN,
        config: Config,
        optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
        pools: tuple[ImagePool, ImagePool],
        execution: Execution,
        averages: AveragedGenerators | None = None,
    ) -> None:
        self.networks = networks
        self.config = config
        self.losses = config.losses
        self.optimizer_G, self.optimizer_D = optimizers
        self.pool_A, self.pool_B = pools
        self.execution = execution
        self.device = execution.device
        self.precision = execution.precision
        self.ranks = execution.ranks
        self.compiled = execution.compiled
        self.averages = averages
        self.gradient_clip = config.training.gradient_clip
        #: The two updates as they are called: the methods, or their CUDA graphs.
        self._generators_update = execution.of(self.update_generators)
        self._discriminators_update = execution.of(self.update_discriminators)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def __call__(self, engine: Engine, batch: Batch) -> Losses:
        """Update all four networks on ``real_A`` and ``real_B``, each ``(N, 1, H, W)`` in [-1, 1].

        With ``losses.paired_weight``, the batch also holds ``pair_A`` and ``pair_B`` of the same shapes.
        """
        real_A, real_B, *pair = (images.to(self.device, self.dtype, non_blocking=True) for images in batch)
        step = engine.state.iteration - 1
        warps = self.warps(step, len(real_A))

        fake_A, fake_B, of_generators = self._generators_update(real_A, real_B, *pair, *warps[:2])
        past_A = self.pool_A.exchange(fake_A, step)
        past_B = self.pool_B.exchange(fake_B, step)
        of_discriminators = self._discriminators_update(real_A, real_B, past_A, past_B, *warps[2:])

        return self.finish(of_generators | of_discriminators, step)

    def warps(self, step: int, count: int) -> tuple[torch.Tensor, ...]:
        """Return the warps of what the discriminators see in ``step``, or nothing if they see images unwarped.

        Two for the generators' update, of fakes of A and of B, each ``(count, 8)``; two for the discriminators', of
        their real images and fakes.
        """
        probability = self.config.networks.discriminator.augmentation
        if probability == 0:
            return ()
        counts = [count, count, 2 * count, 2 * count]
        whole = sum(counts) * self.ranks.world_size
        first = step * whole + self.ranks.rank * sum(counts)
        drawn = draw_warps(self.config.seed, first, sum(counts), probability)
        return torch.split(drawn.to(self.device, non_blocking=True), counts)

    def finish(self, losses: Losses, step: int) -> Losses:
        """Update what follows the networks: the loss scaler and the averages; return the losses of this step."""
        self.scaler.update()
        if self.averages is not None:
            self.averages.update(self.networks, step)
        # Copies, since the next replay of the CUDA graphs overwrites their results.
        return dict(zip(losses, torch.stack(list(losses.values())).unbind(), strict=True))

    def update_generators(
        self, real_A: torch.Tensor, real_B: torch.Tensor, *more: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        """Minimize equation 3 over G_AB and G_BA; return ``fake_A``, ``fake_B`` and the terms.

        ``more``: with ``losses.paired_weight``, a pair; then the warps of the fakes of A and of B, if the
        discriminators see images warped.
        """
        G_AB, G_BA, D_A, D_B = self.networks.G_AB, self.networks.G_BA, self.networks.D_A, self.networks.D_B
        weight, form = self.losses, self.losses.adversarial
        pair, warps = (more[:2], more[2:]) if weight.paired_weight > 0 else ((), more)
        D_A.requires_grad_(False)
        D_B.requires_grad_(False)

        with self.autocast():
            if weight.identity_weight > 0:
                fake_B, idt_B = _at_once(G_AB, real_A, real_B)
                fake_A, idt_A = _at_once(G_BA, real_B, real_A)
            else:
                fake_B, fake_A = G_AB(real_A), G_BA(real_B)
            rec_A, rec_B = G_BA(fake_B), G_AB(fake_A)
            terms = {
                "adversarial_AB": generator_loss(D_B(seen(fake_B, warps[1:])), form),
                "adversarial_BA": generator_loss(D_A(seen(fake_A, warps[:1])), form),
                "cycle_A": cycle_loss(rec_A, real_A),
                "cycle_B": cycle_loss(rec_B, real_B),
            }
            loss = weight.adversarial_weight * (terms["adversarial_AB"] + terms["adversarial_BA"])
            loss = loss + weight.cycle_weight * (terms["cycle_A"] + terms["cycle_B"])
            if weight.identity_weight > 0:
                terms["identity_A"] = identity_loss(idt_A, real_A)
                terms["identity_B"] = identity_loss(idt_B, real_B)
                loss = loss + weight.identity_weight * (terms["identity_A"] + terms["identity_B"])
            if weight.structure != "none" and weight.structure_weight > 0:
                terms["structure_AB"] = structure_loss(fake_B, real_A, weight.structure)
                terms["structure_BA"] = structure_loss(fake_A, real_B, weight.structure)
                loss = loss + weight.structure_weight * (terms["structure_AB"] + terms["structure_BA"])
            if weight.mask_weight > 0:
                terms["mask_AB"], terms["mask_BA"] = mask_loss(fake_B, real_A), mask_loss(fake_A, real_B)
                loss = loss + weight.mask_weight * (terms["mask_AB"] + terms["mask_BA"])
            if pair:
                terms["paired_AB"] = paired_loss(G_AB(pair[0]), pair[1])
                terms["paired_BA"] = paired_loss(G_BA(pair[1]), pair[0])
                loss = loss + weight.paired_weight * (terms["paired_AB"] + terms["paired_BA"])

        self.minimize(loss, self.optimizer_G)
        return fake_A.detach(), fake_B.detach(), detached(generators=loss, **terms)

    def update_discriminators(
        self,
        real_A: torch.Tensor,
        real_B: torch.Tensor,
        past_A: torch.Tensor,
        past_B: torch.Tensor,
        *warps: torch.Tensor,
    ) -> Losses:
        """Maximize equation 3 over D_A and D_B, given real slices and current or past fakes.

        ``warps``: those of what D_A and D_B see, if they are to see it warped.
        """
        D_A, D_B = self.networks.D_A, self.networks.D_B
        D_A.requires_grad_(True)
        D_B.requires_grad_(True)

        weight = self.losses.discriminator_weight
        with self.autocast():
            loss_A = weight * self._judge(D_A, real_A, past_A, warps[:1])
            loss_B = weight * self._judge(D_B, real_B, past_B, warps[1:])

        self.minimize(loss_A + loss_B, self.optimizer_D)
        return detached(discriminator_A=loss_A, discriminator_B=loss_B)

    def _judge(
        self, network: nn.Module, real: torch.Tensor, fake: torch.Tensor, warps: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """Return the loss of a discriminator; ``warps``: those of the real images and of the fakes."""
        logits_real, logits_fake = network(seen(torch.cat([real, fake]), warps)).chunk(2)
        return discriminator_loss(logits_real, logits_fake, self.losses.adversarial)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which the networks compute in the step's precision."""
        return autocast(self.precision, self.device)

    @property
    def trains_discriminators(self) -> bool:
        """Whether the discriminators are run and updated."""
        return True

    @property
    def captured(self) -> bool:
        """Whether all updates are replayed as CUDA graphs by now."""
        updates: list[Callable[..., object]] = [self._generators_update]
        updates += [self._discriminators_update] if self.trains_discriminators else []
        return all(isinstance(update, CapturedFunction) and update.replays for update in updates)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of slices and weights: float32 for every precision but fp64, which is for tests."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    @property
    def model(self) -> CycleGAN:
        """The networks whose generators are the model: the averaged ones if there are any, else the trained ones."""
        return self.networks if self.averages is None else self.averages.networks

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[CycleGAN]:
        """Yield :attr:`model` for evaluation: without dropout or gradients, and without drawing random numbers."""
        # Compiled networks would be compiled again for each new size or number of images.
        eager = torch.compiler.set_stance("force_eager") if self.compiled else contextlib.nullcontext()
        self.model.eval()
        try:
            with eager, torch.no_grad(), self.autocast():
                yield self.model
        finally:
            self.networks.train()

    def minimize(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take one step of ``optimizer`` along the gradient of ``loss``, averaged over all processes."""
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.ranks.average(parameter.grad for parameter in parameters)
        if self.gradient_clip is not None:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, self.gradient_clip)
        self.scaler.step(optimizer)


def build_step(
    config: Config,
    networks: CycleGAN,
    device: torch.device,
    precision: Precision,
    ranks: Ranks | None = None,
    *,
    compiled: bool = False,
    kind: type[CycleGANStep] = CycleGANStep,
) -> CycleGANStep:
    """Build the step for ``networks``, which are on ``device``, with Adam and empty image pools.

    ``ranks``: the processes that divide each batch (default: this one alone). ``compiled``: whether the networks are.
    ``kind``: the class of the step.
    The step runs as CUDA graphs if ``training.cuda_graphs`` and the device allow it.
    """
    training = config.training
    ranks = ranks or Ranks()
    share = training.batch_size // ranks.world_size
    pool = functools.partial(ImagePool, training.pool_size, training.batch_size, config.seed)
    places = {"first_place": ranks.rank * share, "places": share}
    graphs = training.cuda_graphs if wants_graphs(config, device, precision, ranks.world_size) else "off"
    return kind(
        networks,
        config,
        optimizers=(
            _adam(list(networks.generator_parameters()), config, device),
            _adam(list(networks.discriminator_parameters()), config, device),
        ),
        pools=(pool(Stream.POOL_A, **places), pool(Stream.POOL_B, **places)),
        execution=Execution(device, precision, ranks, compiled, graphs),
        averages=None if training.ema_decay is None else AveragedGenerators(networks, training.ema_decay),
    )


def _adam(parameters: list[nn.Parameter], config: Config, device: torch.device) -> torch.optim.Optimizer:
    # The fused form updates all weights in one kernel and, with a loss scaler, without waiting for the device. On CUDA
    # the rate and the count of steps are on the device, so that an update can be captured as a CUDA graph.
    on_cuda, rate = device.type == "cuda", config.training.learning_rate
    return torch.optim.Adam(
        parameters,
        lr=torch.tensor(rate, device=device) if on_cuda else rate,
        betas=config.training.betas,
        fused=device.type in ("cuda", "cpu"),
        capturable=on_cuda,
    )


def _at_once(network: nn.Module, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``network(first), network(second)``, in one pass for speed; each image is normalized separately."""
    one, other = torch.split(network(torch.cat([first, second])), [len(first), len(second)])
    return one, other


def detached(**losses: torch.Tensor) -> Losses:
    """Return the losses without their graphs."""
    return {name: loss.detach() for name, loss in losses.items()}
