"""What a model's training says about its use: steps, patients, warnings, scores; carried in ``model.json``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["NOT_LEARNED", "Finding", "Fitness", "ModelWarning", "Verdict", "gravest", "judge_model"]

Verdict = Literal["ok", "check", "doubtful"]

#: A verdict and the reason for it.
Finding = tuple[Verdict, str]

#: From the mildest to the gravest.
_VERDICTS: tuple[Verdict, ...] = ("ok", "check", "doubtful")

#: Fewer steps than these have not settled a contrast, or have learned nothing that can be used.
_FEW_STEPS, _HANDFUL_OF_STEPS = 1000, 200
#: From fewer patients of a domain than this, a generator learns individuals.
_FEW_PATIENTS = 5
#: The name of the warning of networks that have learned nothing, which ``Fitness.learned`` repeats.
NOT_LEARNED = "nothing learned"
#: Scores of which less is better, compared with those of the input itself: name -> what it is.
_DISTANCES = {"mae": "mean absolute error of held-out pairs", "sliced_wasserstein": "distance of held-out patches"}


@dataclasses.dataclass(frozen=True)
class ModelWarning:
    """A warning of the training that still held for the model's weights.

    ``name``: such as ``"contrast inversion"``. ``domain``: that of the synthetic slices, or of the discriminator.
    ``step``: when it was first given. ``message``: as it was given.
    """

    name: str
    domain: str
    step: int
    message: str


@dataclasses.dataclass(frozen=True)
class Fitness:
    """How a model was trained and what was measured of it, for its very weights.

    ``steps``: optimization steps, including those of the models that it was initialized from. ``patients``: the
    number in training, by domain. ``learned``: whether the cycle restores more than a constant image does, in both
    directions (``unrestored`` of :mod:`medcyclegan.training.monitor.diagnostics`); None if it was not
    measured. ``warnings``: those that were still active. ``scores``: on held-out slices
    (:mod:`medcyclegan.training.monitor.scores`), possibly none; ``input_scores``: those of the input taken as the
    output.
    """

    steps: int
    patients: Mapping[str, int]
    learned: bool | None = None
    warnings: tuple[ModelWarning, ...] = ()
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    input_scores: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return {**dataclasses.asdict(self), "warnings": [dataclasses.asdict(warning) for warning in self.warnings]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Fitness:
        """Build it from :meth:`to_dict`'s result; raises KeyError, TypeError or ValueError for anything else."""
        warnings = [
            ModelWarning(str(w["name"]), str(w["domain"]), int(w["step"]), str(w["message"]))
            for w in fields["warnings"]
        ]
        return cls(
            steps=int(fields["steps"]),
            patients={str(name): int(count) for name, count in dict(fields["patients"]).items()},
            learned=None if fields["learned"] is None else bool(fields["learned"]),
            warnings=tuple(warnings),
            scores=_numbers(fields["scores"]),
            input_scores=_numbers(fields["input_scores"]),
        )

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> Fitness | None:
        """Return the fitness in a model's ``provenance``; None where there is none, as in imported models."""
        try:
            return cls.from_dict(provenance["fitness"])
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def gravest(findings: Sequence[Finding]) -> Verdict:
    """Return the verdict that ``findings`` amount to; ``ok`` without any."""
    return max((verdict for verdict, _ in findings), key=_VERDICTS.index, default="ok")


def judge_model(fitness: Fitness | None, source: str, target: str, direction: str) -> list[Finding]:
    """Return what speaks against translating from ``source`` to ``target`` with a model of this fitness.

    ``direction``: ``"AB"`` or ``"BA"``, which names the scores. docs/verdict.md lists the limits.
    """
    if fitness is None:
        return [("check", "the model does not say how it was trained, so its fitness is unknown")]
    findings: list[Finding] = []
    if fitness.steps < _FEW_STEPS:
        verdict: Verdict = "doubtful" if fitness.steps < _HANDFUL_OF_STEPS else "check"
        findings.append((verdict, f"the model was trained for {fitness.steps} steps, fewer than {_FEW_STEPS}"))
    if fitness.learned is False:
        findings.append(
            (
                "doubtful",
                "the model has learned nothing: there and back it errs as much as an image of one grey level",
            )
        )
    for warning in fitness.warnings:
        if warning.name == NOT_LEARNED and fitness.learned is False:
            continue
        own = warning.domain == target and not warning.name.startswith("saturated")
        reason = f"the model was saved with the warning {warning.name!r} of {warning.domain} (step {warning.step})"
        findings.append(("doubtful" if own else "check", reason))
    for name in (source, target):
        count = fitness.patients.get(name)
        if count is not None and count < _FEW_PATIENTS:
            patients = "1 patient" if count == 1 else f"{count} patients"
            findings.append(("check", f"the model was trained on {patients} of {name}, fewer than {_FEW_PATIENTS}"))
    for name, words in _DISTANCES.items():
        score, given = (scores.get(f"{name}_{direction}") for scores in (fitness.scores, fitness.input_scores))
        if score is not None and given is not None and score >= given:
            reason = f"the model's {words} is {score:.3g}, no better than the input taken as the output ({given:.3g})"
            findings.append(("check", reason))
    return findings


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {str(name): float(value) for name, value in dict(values).items()}
    if not all(math.isfinite(value) for value in numbers.values()):
        raise ValueError("scores must be finite")
    return numbers
