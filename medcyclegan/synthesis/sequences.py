"""MR sequences: the signal of a tissue from its relaxation times, and the timing of clinical sequences.

Signal equations: Bernstein, King and Zhou 2004, Handbook of MRI Pulse Sequences (spin echo, inversion recovery, fast
spin echo, spoiled gradient echo); MPRAGE after Deichmann et al. 2000, NeuroImage 12:112. The ranges of timing are those
of clinical head protocols.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch

from medcyclegan.synthesis.draws import Draws

__all__ = ["CONTRASTS", "MR_CONTRASTS", "STANDARD", "Sequence", "draw_sequence", "signal"]

MR_CONTRASTS = ("t1", "t2", "pd", "flair")
#: The contrasts that can be generated.
CONTRASTS = (*MR_CONTRASTS, "ct")

#: The efficiency of an inversion pulse, which in practice leaves some magnetization uninverted.
_INVERSION = 0.96
#: The T1 of fluid that FLAIR nulls, in ms.
_FLUID_T1_MS = 4150.0


@dataclasses.dataclass(frozen=True)
class Sequence:
    """A sequence and its timing in ms; ``pulses`` and ``spacing_ms`` describe the readout of ``mprage``."""

    kind: Literal["spin echo", "fast spin echo", "inversion recovery", "gradient echo", "mprage"]
    tr_ms: float
    te_ms: float
    ti_ms: float = 0.0
    flip_degrees: float = 90.0
    pulses: int = 0
    spacing_ms: float = 0.0

    @property
    def is_gradient_echo(self) -> bool:
        """Whether the signal depends on T2* and inflowing blood, rather than on T2 and flow voids."""
        return self.kind in ("gradient echo", "mprage")

    @property
    def is_turbo(self) -> bool:
        """Whether an echo train is read, in which fat is brighter than its T2 implies."""
        return self.kind in ("fast spin echo", "inversion recovery")

    def scaled(self, recovery: float, echo: float) -> Sequence:
        """Return the same sequence with TR and TI multiplied by ``recovery`` and TE by ``echo``."""
        return dataclasses.replace(
            self, tr_ms=self.tr_ms * recovery, ti_ms=self.ti_ms * recovery, te_ms=self.te_ms * echo
        )


def signal(
    sequence: Sequence,
    density: torch.Tensor,
    t1_ms: torch.Tensor,
    t2_ms: torch.Tensor,
    *,
    t2_prime_ms: float,
) -> torch.Tensor:
    """Return the magnitude of the signal of tissues, relative to water at rest; all tensors have the same shape.

    ``t2_prime_ms``: T2', the decay of a gradient echo by field inhomogeneity: 1/T2* = 1/T2 + 1/T2'.
    """
    if sequence.is_gradient_echo:
        t2_ms = 1.0 / (1.0 / t2_ms + 1.0 / t2_prime_ms)
    decay = torch.exp(-sequence.te_ms / t2_ms)
    if sequence.kind == "gradient echo":
        angle = math.radians(sequence.flip_degrees)
        recovery = torch.exp(-sequence.tr_ms / t1_ms)
        return density * decay * math.sin(angle) * (1.0 - recovery) / (1.0 - math.cos(angle) * recovery)
    if sequence.kind == "mprage":
        return density * decay * _mprage(sequence, t1_ms).abs()
    recovered = 1.0 - torch.exp(-sequence.tr_ms / t1_ms)
    if sequence.kind == "inversion recovery":
        recovered = recovered - 2.0 * _INVERSION * (torch.exp(-sequence.ti_ms / t1_ms) - torch.exp(
            -sequence.tr_ms / t1_ms
        ))  # fmt: skip
    return density * decay * recovered.abs()


def _mprage(sequence: Sequence, t1_ms: torch.Tensor) -> torch.Tensor:
    """Return the transverse magnetization in the middle of the readout, in the steady state, relative to equilibrium.

    Each part of the cycle maps the longitudinal magnetization m to a m + b; the steady state is the fixed point.
    """
    angle, half = math.radians(sequence.flip_degrees), sequence.pulses // 2
    one_pulse = torch.exp(-sequence.spacing_ms / t1_ms)
    # One pulse of the train: m -> cos(angle) one_pulse m + (1 - one_pulse).
    factor = math.cos(angle) * one_pulse
    level = (1.0 - one_pulse) / (1.0 - factor)
    before = max(0.0, sequence.ti_ms - half * sequence.spacing_ms)
    after = max(0.0, sequence.tr_ms - before - sequence.pulses * sequence.spacing_ms)
    first, last = torch.exp(-before / t1_ms), torch.exp(-after / t1_ms)
    # Starting just before the inversion: inversion and recovery, half of the train, its other half, recovery.
    a, b = -_INVERSION * first, 1.0 - first
    a_middle, b_middle = a * factor**half, b * factor**half + level * (1.0 - factor**half)
    rest = sequence.pulses - half
    a_end, b_end = a_middle * factor**rest, b_middle * factor**rest + level * (1.0 - factor**rest)
    a_end, b_end = a_end * last, b_end * last + 1.0 - last
    start = b_end / (1.0 - a_end)
    return math.sin(angle) * (a_middle * start + b_middle)


def draw_sequence(draws: Draws, contrast: str) -> Sequence:
    """Draw a sequence of the types used in clinics for ``contrast``: ``t1``, ``t2``, ``pd`` or ``flair``."""
    if contrast == "t1":
        return draws.choice(
            [(0.34, _t1_spin_echo), (0.10, _t1_inversion), (0.11, _t1_flash), (0.11, _t1_spoiled), (0.34, _t1_mprage)]
        )(draws)
    if contrast == "t2":
        return Sequence("fast spin echo", draws.log_uniform(3000, 8000), draws.uniform(75, 122))
    if contrast == "pd":
        return Sequence("fast spin echo", draws.log_uniform(1800, 6000), draws.uniform(8, 35))
    tr = draws.uniform(5000, 11000)
    null = _FLUID_T1_MS * math.log(2.0 * _INVERSION / (1.0 + (2.0 * _INVERSION - 1.0) * math.exp(-tr / _FLUID_T1_MS)))
    return Sequence("inversion recovery", tr, draws.uniform(80, 150), null * draws.uniform(0.88, 1.07))


#: A typical sequence for each MR contrast.
STANDARD = {
    "t1": Sequence("mprage", 2300.0, 3.0, 900.0, 9.0, 176, 7.2),
    "t2": Sequence("fast spin echo", 4500.0, 95.0),
    "pd": Sequence("fast spin echo", 3000.0, 15.0),
    "flair": Sequence("inversion recovery", 9000.0, 115.0, 2460.0),
}


def _t1_spin_echo(draws: Draws) -> Sequence:
    return Sequence("spin echo", draws.uniform(400, 700), draws.uniform(8, 22))


def _t1_inversion(draws: Draws) -> Sequence:
    return Sequence("inversion recovery", draws.uniform(1800, 3000), draws.uniform(8, 25), draws.uniform(600, 1000))


def _t1_flash(draws: Draws) -> Sequence:
    return Sequence("gradient echo", draws.uniform(130, 320), draws.uniform(2.3, 5), 0.0, draws.uniform(55, 90))


def _t1_spoiled(draws: Draws) -> Sequence:
    tr = draws.log_uniform(7, 32)
    return Sequence("gradient echo", tr, draws.uniform(2, min(7.0, tr / 2)), 0.0, draws.uniform(14, 32))


def _t1_mprage(draws: Draws) -> Sequence:
    pulses, spacing = draws.integer(128, 192), draws.uniform(6, 9)
    inversion = draws.uniform(750, 1200)
    tr = draws.uniform(max(1500.0, inversion + 0.6 * pulses * spacing), 2600)
    return Sequence("mprage", tr, draws.uniform(2, 4.5), inversion, draws.uniform(7, 12), pulses, spacing)
