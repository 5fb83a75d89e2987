"""The fitness of a model for use, judged by its training: steps, patients, warnings and scores, from ``model.json``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["NOT_LEARNED", "SATURATED", "Finding", "Fitness", "ModelWarning", "Verdict", "gravest", "judge_model"]

Verdict = Literal["ok", "check", "doubtful"]

#: A verdict and the reason for it.
Finding = tuple[Verdict, str]

#: From the best to the worst.
_VERDICTS: tuple[Verdict, ...] = ("ok", "check", "doubtful")

#: With fewer steps than the first number, the contrast has not settled; with fewer than the second, nothing usable is
#: learned.
_FEW_STEPS, _HANDFUL_OF_STEPS = 1000, 200
#: With fewer patients of a domain than this, a generator learns individuals.
_FEW_PATIENTS = 5
#: The name of the warning that the networks have learned nothing, which ``Fitness.learned`` repeats.
NOT_LEARNED = "nothing learned"
#: The name of the warning that a discriminator detects every fake. It is about the discriminator's domain, and
#: concerns the generator whose outputs are of the other one.
SATURATED = "saturated discriminator"
#: Scores for which lower is better, one of which is compared with that of the input: the first that was measured, since
#: errors of pairs tell more than a distance between distributions: name -> description.
_DISTANCES = {"mae": "mean absolute error of held-out pairs", "sliced_wasserstein": "distance of held-out patches"}


@dataclasses.dataclass(frozen=True)
class ModelWarning:
    """A training warning that was still active when the model's weights were saved.

    ``name``: for example ``"contrast inversion"``. ``domain``: that of the synthetic slices or of the discriminator.
    ``step``: when it was first raised. ``message``: its text.
    """

    name: str
    domain: str
    step: int
    message: str


@dataclasses.dataclass(frozen=True)
class Fitness:
    """How a model was trained and what was measured, for exactly these weights.

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
        """Return the fitness in a model's ``provenance``; None if it has none, as in imported models."""
        try:
            return cls.from_dict(provenance["fitness"])
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def gravest(findings: Sequence[Finding]) -> Verdict:
    """Return the worst verdict of ``findings``, ``ok`` if there are none."""
    return max((verdict for verdict, _ in findings), key=_VERDICTS.index, default="ok")


def judge_model(fitness: Fitness | None, source: str, target: str, direction: str) -> list[Finding]:
    """Return the findings against translating from ``source`` to ``target`` with a model of this fitness.

    ``direction``: ``"AB"`` or ``"BA"``, the suffix of the scores. docs/verdict.md lists the limits.
    """
    if fitness is None:
        return [("check", "the model does not record how it was trained, so its fitness is unknown")]
    findings: list[Finding] = []
    if fitness.steps < _FEW_STEPS:
        verdict: Verdict = "doubtful" if fitness.steps < _HANDFUL_OF_STEPS else "check"
        findings.append((verdict, f"the model was trained for {fitness.steps} steps, fewer than {_FEW_STEPS}"))
    if fitness.learned is False:
        findings.append(
            (
                "doubtful",
                "the model has learned nothing: its cycle error is no smaller than that of a constant image",
            )
        )
    for warning in fitness.warnings:
        if warning.name == NOT_LEARNED and fitness.learned is False:
            continue
        own = warning.domain == target and warning.name != SATURATED
        reason = f"the model was saved with the warning {warning.name!r} of {warning.domain} (step {warning.step})"
        findings.append(("doubtful" if own else "check", reason))
    for name in (source, target):
        count = fitness.patients.get(name)
        if count is not None and count < _FEW_PATIENTS:
            patients = "1 patient" if count == 1 else f"{count} patients"
            findings.append(("check", f"the model was trained on {patients} of {name}, fewer than {_FEW_PATIENTS}"))
    for name, description in _DISTANCES.items():
        score, given = (scores.get(f"{name}_{direction}") for scores in (fitness.scores, fitness.input_scores))
        if score is None or given is None:
            continue
        if score >= given:
            compared = "worse than" if score > given else "the same as"
            reason = f"the model's {description} is {score:.3g}, {compared} that of the untranslated input"
            findings.append(
                ("check", f"{reason} ({given:.3g}): doing nothing is {'better' if score > given else 'as good'}")
            )
        break
    return findings


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {str(name): float(value) for name, value in dict(values).items()}
    if not all(math.isfinite(value) for value in numbers.values()):
        raise ValueError("scores must be finite")
    return numbers
