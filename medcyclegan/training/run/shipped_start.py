"""The shipped model that a training starts from, unless the user names another start or none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from medcyclegan.config import load_config
from medcyclegan.errors import MedCycleGANError, TrainingError
from medcyclegan.manifest import SliceRow, load_manifest
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.model.shipped import ShippedModel, order_of_domains, shipped_models
from medcyclegan.training.monitor.diagnostics import contrast_of_inputs
from medcyclegan.training.monitor.health import read_reference
from medcyclegan.training.plan import Plan, build_plan, choose_domains
from medcyclegan.training.run.agreement import agreement_of_contrasts
from medcyclegan.training.run.init_from import check_generators

__all__ = ["default_start", "shipped_start"]

log = logging.getLogger(__name__)

#: The largest relative difference of the pixel sizes: anatomy may not differ more in scale.
_CLOSE = 0.1
#: The least agreement of contrasts. Real slices of one contrast agree at 0.35 to 0.7; head-t1-t2 agreed at 0.30 and
#: 0.44 with real heads and extracted brains that it was not trained on.
_LEAST = 0.15
#: Names of domains that do not say which MR contrast they are.
_UNCERTAIN = ("mr", "mri")


def default_start(
    store: Path, domains: Sequence[str] | None, init_from: str | Path | None, overrides: Sequence[str] = ()
) -> tuple[str, str | Path]:
    """Return the configuration of a training without ``--config``, by its name, and the model that it starts from.

    ``cpu`` has the networks of the shipped models. It is chosen if the training starts from a model with networks of
    this kind: the one that ``init_from`` names or, with ``"auto"`` or without a name, a shipped one that fits the
    slices in ``store`` (:func:`shipped_start`); otherwise ``default``. The model is ``"none"`` if the training starts
    from scratch. ``overrides``: settings of the user. If the store or the model cannot be read, the training explains
    what is wrong.
    """
    named = "auto" if init_from is None else init_from
    start: str | Path | None = None if named in ("auto", "none") else named
    try:
        config = load_config("cpu", overrides)
        if start is not None:
            same_kind = ModelBundle.load(start).generator.kind == config.networks.generator.kind
            return ("cpu" if same_kind else "default"), start
        rows = load_manifest(store)
        names = choose_domains(rows, domains, store)
        if named == "auto" and _candidates(names, [[row for row in rows if row.domain == name] for name in names]):
            start = shipped_start(build_plan(store, config, domains))
            return ("cpu", start) if start is not None else ("default", "none")
    except MedCycleGANError as error:
        log.debug("no start from a shipped model: %s", error)
    return "default", start or "none"


def shipped_start(plan: Plan) -> str | None:
    """Return the name of the shipped model that ``plan`` starts from by default; None if none fits.

    A candidate translates between the same contrasts, has the configured generators, and was trained with the same
    pixel size. Of the candidates, the one is chosen whose contrasts agree best with the real slices, if they agree at
    all, and better than untranslated slices do (:func:`~medcyclegan.training.run.agreement.agreement_of_contrasts`).
    """
    named = _candidates(plan.domains, plan.training)
    fitting = [(model.name, bundle) for model in named if (bundle := _with_generators(model, plan)) is not None]
    if not fitting:
        return None
    references = {"AB": read_reference(plan, 0), "BA": read_reference(plan, 1)}
    inputs = sum(contrast_of_inputs(reference) for reference in references.values()) / len(references)
    best: tuple[float, str] | None = None
    for name, bundle in fitting:
        found = agreement_of_contrasts(plan, bundle, references)
        log.debug("start %s: agreement of contrasts %.3f; untranslated: %.3f", name, found, inputs)
        if found > max(inputs, _LEAST) and (best is None or found > best[0]):
            best = found, name
    if best is None:
        log.info(
            "no start from %s: its translations of these slices agree too little with the contrast of the other "
            "domain; training starts from scratch (--init-from %s starts from it all the same)",
            *(" or ".join(name for name, _ in fitting), fitting[0][0]),
        )
        return None
    log.info("starting from the shipped model %s (--init-from none trains from scratch)", best[1])
    return best[1]


def _candidates(domains: Sequence[str], rows: Sequence[Sequence[SliceRow]]) -> list[ShippedModel]:
    """Return the shipped models of these contrasts and of this pixel size."""
    if any(name.lower() in _UNCERTAIN for name in domains):
        return []
    own = [
        (name, next((row.modality for row in of_name if row.modality), None))
        for name, of_name in zip(domains, rows, strict=True)
    ]
    made = rows[0][0].preparation
    return [
        model
        for model in shipped_models()
        if order_of_domains(model.domains, own) is not None
        and model.fit == made.get("fit")
        and abs(model.pixel_mm / made.get("pixel_mm", 0.0) - 1.0) <= _CLOSE
    ]


def _with_generators(model: ShippedModel, plan: Plan) -> ModelBundle | None:
    """Return the model if it has the configured generators."""
    bundle = ModelBundle.load(model.folder)
    try:
        check_generators(bundle, plan.config.networks.generator, plan.size)
    except TrainingError as error:
        log.debug("no start from %s: %s", model.name, error)
        return None
    return bundle
