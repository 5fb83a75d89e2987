"""Train both generators on pairs of synthetic patients, in a run folder like that of ``train``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from medcyclegan.config import Config, Losses, Pretraining
from medcyclegan.errors import StoreError, TrainingError, UsageError
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.networks import build_discriminator, build_generator
from medcyclegan.storage import remove_leftovers, scratch_folder
from medcyclegan.synthesis import CONTRASTS, FREESURFER, find_label_maps, load_heads
from medcyclegan.training.plan import Plan, build_plan
from medcyclegan.training.pretraining.reference import draw_reference, split_maps
from medcyclegan.training.pretraining.store_pairs import StorePairs
from medcyclegan.training.pretraining.synthetic_pairs import SyntheticPairs
from medcyclegan.training.run.build import build_networks_and_step
from medcyclegan.training.run.folder import REFERENCE, RunFolder, find_run
from medcyclegan.training.run.init_from import check_generators, initial_model
from medcyclegan.training.run.signals import StopSignals
from medcyclegan.training.run.state import RunState
from medcyclegan.training.train import (
    Place,
    continue_run,
    from_first,
    locked,
    start_run,
    stopping_before_the_run,
    with_initial,
    with_steps,
)
from medcyclegan.training.update.distributed import joined, own_device

__all__ = ["PretrainingData", "pretrain", "unused_settings"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PretrainingData:
    """The training data: ``labels`` (label maps, or folders that contain them) or the slice store ``slices``.

    ``table``: label to tissue (default: the labels of FreeSurfer and SynthSeg). ``domains``: A and B; with label maps
    two contrasts (default: t1 and t2), with a store two of its domains (default: the two in the store).
    """

    labels: tuple[str | Path, ...] = ()
    slices: str | Path | None = None
    table: Mapping[int, str] | None = None
    domains: tuple[str, str] | None = None


#: Settings of the section ``losses`` that a pretraining with an adversarial term uses.
_ADVERSARIAL = ("adversarial", "discriminator_weight")
#: Settings of a configuration without effect on any pretraining, on one of a slice store, and on one of label maps.
_UNUSED = (
    *(f"losses.{name}" for name in Losses.model_fields if name not in _ADVERSARIAL),
    "training.pairing",
    "validation.key_metric",
)
_UNUSED_WITH_STORE = tuple(
    f"pretraining.{name}"
    for name in Pretraining.model_fields
    if name == "lesion_weight" or (not name.endswith("_weight") and name not in ("key_metric", "workers"))
)
_UNUSED_WITH_LABELS = ("slicing.validation_fraction", "slicing.test_fraction")


def unused_settings(keys: Iterable[str], *, with_store: bool) -> list[str]:
    """Return those of ``keys``, such as ``losses.cycle_weight``, that have no effect on a pretraining.

    ``with_store``: whether it is one of a slice store, not of label maps.
    """
    unused = {*_UNUSED, *(_UNUSED_WITH_STORE if with_store else _UNUSED_WITH_LABELS)}
    return [key for key in keys if key in unused]


def pretrain(
    data: PretrainingData | None = None,
    *,
    config: Config | None = None,
    out: str | Path = "runs",
    max_steps: int | None = None,
    device: str = "auto",
    resume: str | Path | Literal[True] | None = None,
    init_from: str | Path | None = None,
) -> Path:
    """Train both generators on pairs, supervised, and return the run's folder, which contains the model.

    With ``data.labels``, the pairs are slices of synthetic patients that are generated during the training. A few
    patients are generated before the first step and stored in the run's slice store ``reference/``: they represent the
    training set in ``model.json`` and are used for validation. With ``data.slices``, the pairs are slices in a slice
    store, of patients with both domains on one grid.

    The section ``pretraining`` of the configuration describes the loss and the patients. ``out``, ``max_steps``,
    ``resume`` and ``init_from`` have the same meaning as in :func:`~medcyclegan.training.train`, and a resumed run is
    reproduced as exactly. ``train(init_from=run / "model")`` continues with real slices.

    Raises the errors of :func:`~medcyclegan.training.train` and :func:`~medcyclegan.synthesis.synthesize`, and
    :class:`~medcyclegan.errors.StoreError` for a store without pairs.
    """
    if resume is not None and not all(value is None for value in (data, config, max_steps, init_from)):
        raise UsageError(
            "a resumed run keeps its label maps, configuration and steps: pass only --resume and --device (the "
            "run's config.yaml may be edited), or start a new run"
        )
    where = own_device(device)
    with joined(where) as ranks, StopSignals() as stop, stopping_before_the_run(stop):
        place = Place(where, ranks, stop)
        if resume is not None:
            return _resume(Path(out) / "latest" if resume is True else Path(resume), place)
        if data is None or bool(data.labels) == (data.slices is not None):
            raise UsageError("name either label maps or, with --slices, a slice store")
        if data.slices is not None and data.table is not None:
            raise UsageError("--labels-table explains label maps, but --slices names a slice store: leave it out")
        initial = None if init_from in (None, "none") else ModelBundle.load(init_from)
        chosen = _with_key_metric(with_steps(config or Config(), max_steps))
        if data.slices is None:
            return _start_on_labels(data, chosen, Path(out), place, initial)
        plan = build_plan(Path(data.slices), chosen, data.domains)
        return start_run(_with_store_pairs(plan), Path(out), place, initial)


def _start_on_labels(
    data: PretrainingData, config: Config, out: Path, place: Place, initial: ModelBundle | None
) -> Path:
    _check_networks(config, initial)
    domains = _check_domains(data.domains or ("t1", "t2"))
    table = FREESURFER if data.table is None else data.table
    maps = tuple(find_label_maps([Path(path) for path in data.labels]))
    training, held_out = split_maps(maps, config)
    pairs = SyntheticPairs(training, held_out, table, domains, config)
    # On the same file system as the run, into which it is moved.
    with scratch_folder(out, REFERENCE) as folder:
        store = folder / "slices"
        plan = build_plan(from_first(lambda: _draw(store, pairs, place.device), place.ranks), config, domains)
        pairs = dataclasses.replace(pairs, config=plan.config)
        return start_run(dataclasses.replace(plan, pairs=pairs), out, place, initial, with_store=True)


def _check_networks(config: Config, initial: ModelBundle | None) -> None:
    """Check, before any patient is drawn, that the networks fit the slices, and the initial model the networks."""
    networks, size = config.networks, config.slicing.size
    with torch.device("meta"):  # without weights
        build_generator(networks.generator, size)
        build_discriminator(networks.discriminator, size)
    if initial is not None:
        check_generators(initial, networks.generator, size)


def _draw(store: Path, pairs: SyntheticPairs, device: torch.device) -> Path:
    if device.type == "cuda":  # prepare maps in parallel while the device is idle
        load_heads((*pairs.maps, *pairs.held_out_maps), pairs.table, device)
    draw_reference(store, pairs, device)
    return store


def _resume(path: Path, place: Place) -> Path:
    run = RunFolder(from_first(lambda: find_run(path).path, place.ranks))
    if place.ranks.first:
        remove_leftovers(run.path.parent, REFERENCE)
    with locked(run, place.ranks):
        state, config = RunState.load(run), _with_key_metric(run.load_config())
        if state.pairs is None:
            raise TrainingError(f"{run.path} is a run of train: continue it with medcyclegan train --resume {run.path}")
        if state.is_complete(config):
            log.info("%s is finished after %d steps: there is nothing left to do", run.path, state.step)
            return run.path
        plan = build_plan(state.store, config, state.domains)
        if plan.fingerprint != state.fingerprint:
            raise TrainingError(f"{plan.store} has changed since {run.path} was started: start a new run")
        if state.pairs.get("kind") == "label maps":
            pairs = SyntheticPairs.from_record(state.pairs, run.path, plan.domains, plan.config)
            plan = dataclasses.replace(plan, pairs=pairs)
        else:
            plan = _with_store_pairs(plan)
        initial = initial_model(state)
        plan = with_initial(plan, initial)
        return continue_run(state, plan, build_networks_and_step(plan, place.device, place.ranks, initial), place.stop)


def _with_store_pairs(plan: Plan) -> Plan:
    pairs = StorePairs(plan.store, plan.training, plan.config.training.slices_on_device)
    if not pairs.pairs:
        raise StoreError(
            f"{plan.store} contains no pairs: no training patient has both {' and '.join(plan.domains)} on one grid; "
            "bring their volumes onto one with slice-volumes --register, or name label maps"
        )
    return dataclasses.replace(plan, pairs=pairs)


def _with_key_metric(config: Config) -> Config:
    validation = config.validation.model_copy(update={"key_metric": config.pretraining.key_metric})
    return config.model_copy(update={"validation": validation})


def _check_domains(domains: Sequence[str]) -> tuple[str, str]:
    if len(domains) != 2 or domains[0] == domains[1] or not set(domains) <= set(CONTRASTS):
        raise UsageError(f"--domains {' '.join(domains)}: name two different contrasts from {', '.join(CONTRASTS)}")
    return domains[0], domains[1]
