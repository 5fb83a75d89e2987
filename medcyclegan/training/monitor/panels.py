"""Panels: pictures of the generators' outputs for two fixed slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from medcyclegan.data import SliceIndex, StackReader
from medcyclegan.pictures import png_bytes, training_panel
from medcyclegan.storage import atomic_write
from medcyclegan.training.monitor.trackers import Tracker
from medcyclegan.training.plan import Plan
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["Panels", "panel_images", "panel_slices"]


class Panels:
    """Writes ``step-<step>.png`` into ``folder`` every ``panel_every`` steps and after the last one."""

    def __init__(self, folder: Path, plan: Plan, step: CycleGANStep, trackers: Sequence[Tracker] = ()) -> None:
        self._folder = folder
        self._plan = plan
        self._step = step
        self._trackers = trackers
        self._real_A, self._real_B = panel_slices(plan)

    def attach(self, engine: Engine) -> None:
        """Register with ``engine``, to draw after its steps."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw)

    def _draw(self, engine: Engine) -> None:
        step = engine.state.iteration
        if not self._plan.is_due(step, self._plan.config.training.panel_every):
            return
        identity = self._plan.config.losses.identity_weight > 0 and self._plan.pairs is None
        images = panel_images(self._step, self._real_A, self._real_B, identity=identity)
        panel = training_panel(images, self._plan.domains)
        with atomic_write(self._folder / f"step-{step:06d}.png") as file:
            file.write(png_bytes(panel))
        for tracker in self._trackers:
            tracker.add_picture("panel", panel, step)


def panel_slices(plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the slices of A and of B that panels show: ``(1, 1, H, W)``.

    They are always the same, at mid-height of a held-out volume if there is one.
    """
    reader = StackReader(plan.store)
    images = []
    for training, held_out in zip(plan.training, plan.held_out, strict=True):
        slices = SliceIndex((held_out or training)[:1])
        place = slices.find(slices.nearest_height(0.5))
        images.append(reader.read_image(*place)[None])
    return images[0], images[1]


def panel_images(
    step: CycleGANStep, real_A: torch.Tensor, real_B: torch.Tensor, *, identity: bool
) -> dict[str, NDArray[np.float32]]:
    """Return ``real_A fake_B rec_A real_B fake_A rec_B``, with ``identity`` also ``idt_A idt_B``, each ``(H, W)``."""
    real_A, real_B = real_A.to(step.device, step.dtype), real_B.to(step.device, step.dtype)
    with step.evaluating() as n:
        fake_B, fake_A = n.G_AB(real_A), n.G_BA(real_B)
        images = {"real_A": real_A, "fake_B": fake_B, "rec_A": n.G_BA(fake_B)}
        images |= {"real_B": real_B, "fake_A": fake_A, "rec_B": n.G_AB(fake_A)}
        if identity:
            images |= {"idt_A": n.G_BA(real_A), "idt_B": n.G_AB(real_B)}
    return {name: image[0, 0].float().cpu().numpy() for name, image in images.items()}
