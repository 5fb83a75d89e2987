"""One contrast of one patient: the value of every tissue, from random physical properties and a random protocol."""

from __future__ import annotations

import dataclasses

import torch

from medcyclegan.synthesis.acquisition import DARKEST_FLUID
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.sequences import STANDARD, Sequence, draw_sequence, signal
from medcyclegan.synthesis.tissues import TISSUES, tissue_index, tissue_indices

__all__ = ["Physics", "Protocol", "draw_physics", "draw_protocol", "standard_protocol", "tissue_values"]

#: Tissues whose T1 a contrast agent shortens: blood, and tissue without a barrier to the agent.
_ENHANCING = ("artery", "vein", "choroid plexus", "dura", "mucosa", "tumour")
#: Signal loss by magnetization transfer in multi-slice sequences, relative to that of white matter; all other tissues
#: have none (after Stanisz et al. 2005).
_TRANSFER = {
    "white matter": 1.0, "cerebellar white matter": 1.0, "brain stem": 0.95, "spinal cord": 0.95, "optic nerve": 0.9,
    "thalamus": 0.85, "pallidum": 0.9, "ventral diencephalon": 0.9, "putamen": 0.75, "muscle": 0.9,
    "grey matter": 0.65, "cerebellar grey matter": 0.65, "caudate": 0.7, "hippocampus": 0.65, "amygdala": 0.65,
    "accumbens": 0.65, "plaque": 0.5, "white matter lesion": 0.5, "skin": 0.9, "soft tissue": 0.9,
}  # fmt: skip
#: Tissues that deviate from the prior together, and the standard deviations of the factors that they share: for T1, for
#: T2, for the signal in one contrast. Cortex and cerebellum of one patient look alike.
_FAMILIES = (
    (
        (
            "white matter", "cerebellar white matter", "brain stem", "ventral diencephalon", "spinal cord",
            "white matter lesion", "plaque", "oedema", "infarct",
        ),
        (0.06, 0.05, 0.03),
    ),
    (
        ("grey matter", "cerebellar grey matter", "hippocampus", "amygdala", "accumbens", "caudate"),
        (0.09, 0.05, 0.04),
    ),
    (("thalamus", "putamen", "pallidum"), (0.05, 0.05, 0.02)),
    (("fat", "scalp", "marrow"), (0.05, 0.08, 0.10)),
)  # fmt: skip
#: The number of protocols that are drawn before the last one is used in any case.
_TRIES = 400
#: The fraction of protocols that are drawn from wider ranges than those of clinical protocols: networks trained on
#: contrasts beyond those of real scans generalize better (Billot et al. 2023, Med Image Anal 86:102789).
_WIDE_SHARE = 0.3
#: For protocols from wide ranges: the factor of the standard deviations of signals, and the standard deviations of the
#: logarithms of the timing and of the exponent.
_WIDER, _WIDE_TIMING, _WIDE_EXPONENT = 3.0, 0.2, 0.3
#: The largest fraction of marrow signal in cortical bone. Real compact bone is not black in MR: pores, the marrow next
#: to it within one voxel, and ghosts add up to 5 to 20 % of white matter in the scans compared by
#: ``tests/benchmarks/synthetic_contrasts.py``.
_MOST_MARROW_IN_BONE = 0.2
#: The relative standard deviation of this fraction from place to place.
_MARROW_VARIATION = 0.8
#: Accepted ranges of signals relative to white matter. A protocol outside of these ranges is drawn again: it would not
#: be recognized as its contrast, and in T1 fluid must differ from air.
_USUAL = {
    "t1": {"grey matter": (0.45, 1.03), "cerebrospinal fluid": (DARKEST_FLUID, 0.66), "fat": (0.0, 5.0)},
    "t2": {"grey matter": (1.0, 2.3), "cerebrospinal fluid": (1.6, 6.5), "fat": (0.0, 4.5)},
    "pd": {"grey matter": (0.92, 1.6), "cerebrospinal fluid": (0.4, 2.2), "fat": (0.0, 3.5)},
    "flair": {"grey matter": (0.8, 1.8), "cerebrospinal fluid": (0.0, 0.72), "fat": (0.0, 4.5)},
}


@dataclasses.dataclass(frozen=True)
class Physics:
    """The physical properties of a patient's tissues: tuples in the order of :data:`~medcyclegan.synthesis.TISSUES`.

    ``field_tesla``: 1.5 or 3. ``density``, ``t1_ms``, ``t2_ms``, ``hu`` as in
    :class:`~medcyclegan.synthesis.TissuePrior`. ``marrow_in_bone``: the fraction of marrow signal in cortical bone.
    """

    field_tesla: float
    density: tuple[float, ...]
    t1_ms: tuple[float, ...]
    t2_ms: tuple[float, ...]
    hu: tuple[float, ...]
    marrow_in_bone: float = 0.0


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The parameters of an acquisition that determine the values of tissues.

    ``name``: ``t1``, ``t2``, ``pd``, ``flair`` or ``ct``; CT has no ``sequence``. ``t2_prime_ms``: T2', the additional
    decay by field inhomogeneity in gradient echoes. ``fat_t2_factor``: the factor by which the T2 of fat appears longer
    in an echo train (Henkelman et al. 1994, J Magn Reson Imaging 4:533). ``fat_signal``: the fraction of the fat signal
    that remains after fat suppression, 1 without suppression. ``transfer``: the signal loss of white matter by
    magnetization transfer. ``agent``: the factor of T1 in tissues that take up a contrast agent, 1 without an agent.
    ``scales``: a factor for each tissue's signal, for effects that are not modeled; for blood, its flow. ``exponent``:
    the exponent of the signal relative to white matter. ``wide``: whether the protocol was drawn from wider ranges than
    those of clinical protocols.
    """

    name: str
    sequence: Sequence | None
    t2_prime_ms: float = 1.0
    fat_t2_factor: float = 1.0
    fat_signal: float = 1.0
    transfer: float = 0.0
    agent: float = 1.0
    scales: tuple[float, ...] = ()
    exponent: float = 1.0
    wide: bool = False


def draw_physics(draws: Draws) -> Physics:
    """Draw the physical properties of one patient's tissues, at 1.5 or 3 T.

    The factors that all tissues share vary less than those of single tissues.
    """
    tesla = draws.choice([(0.5, 1.5), (0.5, 3.0)])
    at, common_t1, common_t2 = int(tesla > 2), draws.factor(0.05), draws.factor(0.05)
    density, t1, t2, hu = [], [], [], []
    for prior in TISSUES:
        density.append(prior.density * draws.factor(0.02))
        t1.append(prior.t1_ms[at] * common_t1 * draws.factor(prior.spread))
        t2.append(prior.t2_ms[at] * common_t2 * draws.factor(prior.spread))
        hu.append(draws.normal(prior.hu, prior.hu_spread))
    for names, (of_t1, of_t2, _) in _FAMILIES:
        for times, deviation in ((t1, of_t1), (t2, of_t2)):
            common = draws.factor(deviation)
            for n in tissue_indices(*names):
                times[n] *= common
    marrow_in_bone = draws.choice([(0.3, 0.0), (0.7, draws.uniform(0.0, _MOST_MARROW_IN_BONE))])
    return Physics(tesla, tuple(density), tuple(t1), tuple(t2), tuple(hu), marrow_in_bone)


def draw_protocol(draws: Draws, name: str, physics: Physics) -> Protocol:
    """Draw a protocol of the contrast ``name`` for a patient with these tissues."""
    if name == "ct":
        return Protocol(name, None)
    for _ in range(_TRIES):
        protocol = _draw_mr(draws, name)
        if _is_usual(protocol, physics):
            return protocol
    return protocol


def standard_protocol(name: str) -> Protocol:
    """Return the standard protocol of the contrast ``name``: the same for all patients, with typical clinical values.

    T1: MPRAGE. T2: fast spin echo without fat suppression. PD: the same with a short echo time. FLAIR: an inversion
    that nulls fluid.
    """
    if name == "ct":
        return Protocol(name, None)
    sequence = STANDARD[name]
    scales = [1.0] * len(TISSUES)
    flow = (1.3, 1.0) if sequence.is_gradient_echo else (0.15, 0.4)
    for tissue, scale in zip(("artery", "vein"), flow, strict=True):
        scales[tissue_index(tissue)] = scale
    turbo = sequence.is_turbo
    return Protocol(name, sequence, 70.0, 1.5 if turbo else 1.0, transfer=0.08 if turbo else 0.0, scales=tuple(scales))


def _draw_mr(draws: Draws, name: str) -> Protocol:
    wide = draws.chance(_WIDE_SHARE)
    wider = _WIDER if wide else 1.0
    sequence = draw_sequence(draws, name)
    if wide:
        sequence = sequence.scaled(draws.factor(_WIDE_TIMING), draws.factor(_WIDE_TIMING))
    suppressed = {"t1": 0.12, "t2": 0.2, "pd": 0.3, "flair": 0.6}[name]
    agent = draws.uniform(0.15, 0.4) if name == "t1" and draws.chance(0.15) else 1.0
    return Protocol(
        name,
        sequence,
        t2_prime_ms=draws.log_uniform(35, 140),
        fat_t2_factor=draws.uniform(1.1, 1.9) if sequence.is_turbo else 1.0,
        fat_signal=draws.uniform(0.05, 0.45) if draws.chance(suppressed) else 1.0,
        transfer=0.0 if sequence.is_gradient_echo else draws.uniform(0.0, 0.15),
        agent=agent,
        scales=_draw_scales(draws, name, sequence, wider, agent < 1.0),
        exponent=draws.factor(_WIDE_EXPONENT) if wide else 1.0,
        wide=wide,
    )


def _draw_scales(draws: Draws, name: str, sequence: Sequence, wider: float, enhanced: bool) -> tuple[float, ...]:
    """Draw a factor for each tissue's signal; ``wider`` multiplies the usual standard deviations."""
    # The largest deviations are differences between patients, not between scanners: they are not widened.
    scales = [draws.factor(min(wider * prior.signal_spread, max(0.2, prior.signal_spread))) for prior in TISSUES]
    for names, (_, _, deviation) in _FAMILIES:
        common = draws.factor(wider * deviation)
        for n in tissue_indices(*names):
            scales[n] *= common
    artery, vein = tissue_index("artery"), tissue_index("vein")
    if sequence.is_gradient_echo:  # inflow, which has little effect after a contrast agent
        scales[artery] = draws.uniform(1.0, 1.3 if enhanced else 2.6)
        scales[vein] = draws.uniform(0.7, 1.2 if enhanced else 1.8)
    else:
        scales[artery], scales[vein] = draws.uniform(0.0, 0.35), draws.uniform(0.05, 0.9)
    if name == "t2":
        scales[tissue_index("cerebrospinal fluid")] *= draws.uniform(0.75, 1.0)  # it flows
    return tuple(scales)


def _is_usual(protocol: Protocol, physics: Physics) -> bool:
    values, _ = tissue_values(protocol, physics)
    white = float(values[tissue_index("white matter")])
    ratios = {name: float(values[tissue_index(name)]) / white for name in _USUAL[protocol.name]}
    in_range = all(low <= ratios[name] <= high for name, (low, high) in _USUAL[protocol.name].items())
    fluid_to_grey = ratios["cerebrospinal fluid"] / ratios["grey matter"]
    if protocol.name == "t2":
        return in_range and fluid_to_grey > 1.3
    return in_range and (protocol.name == "pd" or fluid_to_grey < 0.8)


def tissue_values(protocol: Protocol, physics: Physics) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each tissue's value in this contrast, and the change by one standard deviation of its texture; ``(T,)``.

    MR: relative to water at rest; the texture is water content, which lengthens both times and adds protons. CT: HU
    above air, so that in every contrast the value outside the label map is 0.
    """
    if protocol.sequence is None:
        texture = [-prior.hu_texture for prior in TISSUES]
        return torch.tensor(physics.hu) - physics.hu[0], torch.tensor(texture)
    wetter = torch.tensor([prior.texture for prior in TISSUES], dtype=torch.float64)
    values, wet = (_mr_values(protocol, physics, share) for share in (torch.zeros_like(wetter), wetter))
    if protocol.exponent != 1.0:
        white = float(values[tissue_index("white matter")])
        values, wet = (white * (signals / white) ** protocol.exponent for signals in (values, wet))
    slopes = wet - values
    bone, marrow = tissue_indices("cortical bone", "marrow")
    slopes[bone] += _MARROW_VARIATION * physics.marrow_in_bone * values[marrow]
    return values.float(), slopes.float()


def _mr_values(protocol: Protocol, physics: Physics, wetter: torch.Tensor) -> torch.Tensor:
    density, t1, t2 = (
        torch.tensor(values, dtype=torch.float64) for values in (physics.density, physics.t1_ms, physics.t2_ms)
    )
    fatty = list(tissue_indices("fat", "scalp", "marrow"))
    t1[list(tissue_indices(*_ENHANCING))] *= protocol.agent
    t2[fatty] *= protocol.fat_t2_factor
    assert protocol.sequence is not None  # noqa: S101 (asked before)
    values = signal(
        protocol.sequence,
        density * (1 + 0.4 * wetter),
        t1 * (1 + wetter),
        t2 * (1 + wetter),
        t2_prime_ms=protocol.t2_prime_ms,
    )
    values[fatty] *= protocol.fat_signal
    for name, strength in _TRANSFER.items():
        values[tissue_index(name)] *= 1 - strength * protocol.transfer
    values *= torch.tensor(protocol.scales, dtype=torch.float64)
    values[tissue_index("cortical bone")] += physics.marrow_in_bone * values[tissue_index("marrow")]
    return values
