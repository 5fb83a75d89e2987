"""The plan of a training run, complete before the first step: domains, slices, steps, intervals."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from medcyclegan.config import Config, Domain, Scaling
from medcyclegan.data import Sampling, SliceIndex, check_stacks
from medcyclegan.errors import IntensityError, StoreError, UsageError, nearest
from medcyclegan.intensity import IntensityScaling
from medcyclegan.manifest import SliceRow, load_manifest
from medcyclegan.model.training_set import describe_patients, describe_training_set
from medcyclegan.slicing.trained_on import training_fingerprint

__all__ = ["InitialModel", "PairSource", "Plan", "build_plan", "build_site_plan", "check_domain", "choose_domains"]

log = logging.getLogger(__name__)

#: The keys of a row's preparation that belong to the configuration's ``slicing`` and ``scaling`` sections.
_SLICING_KEYS = ("size", "fit", "pixel_mm", "foreground", "dtype")
_SCALING_KEYS = ("window_hu", "percentiles")


@dataclasses.dataclass(frozen=True)
class InitialModel:
    """The model whose generators a run starts with: its fingerprint and the number of steps it was trained for."""

    fingerprint: str
    steps: int


class PairSource(Protocol):
    """Pairs of slices for supervised training.

    A batch holds ``input_A``, ``input_B``, ``target_A`` and ``target_B``, each ``(N, 1, H, W)`` float32 in [-1, 1], of
    the same places of the same patients; then, if lesions are weighted, the weight of each pixel.
    """

    @property
    def description(self) -> str:
        """A description of the pairs, for the log."""

    def opened(
        self, device: torch.device, sampling: Sampling
    ) -> contextlib.AbstractContextManager[Callable[[int], tuple[torch.Tensor, ...]]]:
        """Return a context that gives the function that reads the batch of a step, counted from 0."""

    def describe(self, steps: int) -> dict[str, Any]:
        """Return what ``model.json`` records about the pairs after ``steps`` steps; no path."""

    def to_record(self, base: Path) -> dict[str, Any]:
        """Return what ``run.json`` needs to continue; paths are relative to ``base``, the run's folder."""

    @property
    def has_held_out(self) -> bool:
        """Whether there are pairs for validation besides those of the plan's held-out volumes."""

    def held_out(self, count: int, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Return at least ``count`` pairs for validation, as a batch on the CPU; empty if there are none.

        They are computed on ``device``.
        """

    def bytes_in_memory(self, device: torch.device) -> int:
        """Return the memory that the pairs take besides the batches, in a training on ``device``."""

    @property
    def smaller(self) -> str:
        """What to change so that the pairs take less memory; an empty string if nothing does."""


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The plan of a training run; ``config`` is complete and agrees with the slice store.

    ``domains``: the names of A and B. ``training`` and ``held_out``: the rows of A and of B in the
    splits ``train`` and ``validation``, sorted by content. ``size``: rows and columns of a slice. ``patients``: for
    each domain, how patients were distinguished and how many are in each split. ``initial``: the model whose
    generators the run starts with. ``pairs``: the source of the batches in supervised training; None: unpaired slices
    of the store.
    """

    config: Config
    store: Path
    domains: tuple[str, str]
    training: tuple[tuple[SliceRow, ...], tuple[SliceRow, ...]]
    held_out: tuple[tuple[SliceRow, ...], tuple[SliceRow, ...]]
    size: int
    patients: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    initial: InitialModel | None = None
    pairs: PairSource | None = None

    @functools.cached_property
    def slices(self) -> tuple[int, int]:
        """The numbers of training slices of A and of B."""
        a, b = (sum(len(row.slices) for row in rows) for rows in self.training)
        return a, b

    @functools.cached_property
    def epoch_length(self) -> int:
        """The number of steps in an epoch: max(|A|, |B|) / batch size, rounded up."""
        return -(-max(self.slices) // self.config.training.batch_size)

    @functools.cached_property
    def steps(self) -> int:
        """The number of steps of the whole run."""
        return self.config.training.max_steps or self.config.training.epochs * self.epoch_length

    @functools.cached_property
    def training_sets(self) -> dict[str, dict[str, Any]]:
        """A description of each domain's training volumes, for ``model.json``; it serves to detect unusual inputs."""
        return {
            name: describe_training_set(rows, self.store, inputs=others)
            for name, rows, others in zip(self.domains, self.training, self.training[::-1], strict=True)
        }

    @property
    def command(self) -> str:
        """The command that trains according to this plan."""
        return "train" if self.pairs is None else "pretrain"

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""
        training = self.config.training
        return training.checkpoint_steps or self._steps_of(training.checkpoint_epochs)

    @property
    def validate_every(self) -> int:
        """Steps between validations."""
        return self.config.validation.every_steps or self._steps_of(self.config.validation.every_epochs)

    @property
    def health_every(self) -> int:
        """Steps between health checks: those between panels, but at most about 100 checks in all."""
        return max(self.config.training.panel_every, -(-self.steps // 100))

    @functools.cached_property
    def fingerprint(self) -> str:
        """The hash of the training rows (:func:`~medcyclegan.slicing.trained_on.training_fingerprint`)."""
        return training_fingerprint(self.training)

    def is_due(self, step: int, every: int) -> bool:
        """Return whether an action that recurs ``every`` steps is due after ``step``; it always is after the last."""
        return step % every == 0 or step == self.steps

    def _steps_of(self, epochs: float) -> int:
        return max(1, round(epochs * self.epoch_length))


def build_plan(store: Path, config: Config, domains: Sequence[str] | None = None) -> Plan:
    """Read the slice store and decide how ``config`` trains on it.

    The configuration's ``slicing`` and ``domains`` sections are replaced by those that the store was made with.
    Raises :class:`~medcyclegan.errors.StoreError` for a store that is missing, is damaged, or does not
    hold two domains with training slices of one modality each.
    """
    rows = load_manifest(store)
    a, b = choose_domains(rows, domains, store)
    chosen = {name: SliceIndex(row for row in rows if row.domain == name).rows for name in (a, b)}
    for name, own in chosen.items():
        if not any(row.split == "train" for row in own):
            raise StoreError(f"{store}: no volume of {name} is for training: give some the split train and slice again")
    return _plan_of(store, config, chosen)


def build_site_plan(store: Path, config: Config, domains: tuple[str, str]) -> Plan:
    """Decide how one site of a federated training trains on its slice store, which may lack one of the two domains.

    Nothing is held out of the plan, because a site does not validate. Otherwise as :func:`build_plan`. Raises
    :class:`~medcyclegan.errors.StoreError` for a store without training slices of either domain.
    """
    rows = load_manifest(store)
    chosen = {name: SliceIndex(row for row in rows if row.domain == name).rows for name in domains}
    chosen = {name: own if any(row.split == "train" for row in own) else [] for name, own in chosen.items()}
    if not any(chosen.values()):
        known = ", ".join(sorted({row.domain for row in rows}))
        raise StoreError(
            f"{store}: no volume of {' or '.join(domains)} is for training (it holds {known}): name the folders of "
            "the volumes after the domains of the job, and slice again"
        )
    return dataclasses.replace(_plan_of(store, config, chosen), held_out=((), ()))


def _plan_of(store: Path, config: Config, chosen: dict[str, list[SliceRow]]) -> Plan:
    """Build the plan for the rows of A and of B, of which one may have none."""
    a, b = chosen
    present = {name: own for name, own in chosen.items() if own}
    for own in present.values():
        check_domain(store, own)
    size = check_stacks(store, [row for own in chosen.values() for row in own if row.split != "test"])
    return Plan(
        config=_agree(config, present),
        # A link such as runs/latest points elsewhere when the run has been created.
        store=store.resolve(),
        domains=(a, b),
        training=(_of_split(chosen[a], "train"), _of_split(chosen[b], "train")),
        held_out=(_of_split(chosen[a], "validation"), _of_split(chosen[b], "validation")),
        size=size,
        patients={name: describe_patients(own) for name, own in present.items()},
    )


def check_domain(store: Path, rows: Sequence[SliceRow]) -> None:
    """Refuse a domain whose volumes, in any split, differ in modality or in how they were scaled.

    The model has one modality and one output scaling per domain. Volumes of unknown modality may be mixed with volumes
    of a known one. Raises :class:`~medcyclegan.errors.StoreError` naming what is mixed.
    """
    name = rows[0].domain
    modalities = collections.Counter(row.modality for row in rows if row.modality is not None)
    if len(modalities) > 1:
        raise StoreError(
            f"{store}: the domain {name} mixes volumes of {_listed(modalities)}: a domain has one modality; move the "
            "others into another domain and slice again"
        )
    try:
        units = collections.Counter(IntensityScaling.from_dict(row.scaling).unit for row in rows)
        rules = collections.Counter(Scaling.model_validate(_scaling_of(row)).model_dump_json() for row in rows)
    except (IntensityError, ValueError) as error:
        raise StoreError(f"{store}: a volume of {name} has no usable scaling ({error}): slice it again") from None
    if len(units) > 1:
        raise StoreError(
            f"{store}: the domain {name} mixes intensities in {_listed(units)}: keep CT, MR and pictures in "
            "separate domains and slice again"
        )
    if len(rules) > 1:
        raise StoreError(
            f"{store}: the volumes of {name} were scaled by different rules, {_listed(rules)}: slice all of them with "
            "one configuration"
        )


def _listed(counts: collections.Counter[str]) -> str:
    return " and ".join(f"{what} ({number})" for what, number in sorted(counts.items()))


def choose_domains(rows: Sequence[SliceRow], wish: Sequence[str] | None, store: Path) -> tuple[str, str]:
    """Return the names of A and B: those requested, or the store's two in alphabetical order.

    Raises :class:`~medcyclegan.errors.StoreError` if no domains are requested and the store does not hold exactly two,
    or if it lacks a requested one; :class:`~medcyclegan.errors.UsageError` for a request that is not two different
    names.
    """
    known = sorted({row.domain for row in rows})
    if wish is None:
        if len(known) == 1:
            raise StoreError(
                f"{store} holds one domain, {known[0]}, but a CycleGAN needs two: slice volumes of the other into it"
            )
        if len(known) > 2:
            raise StoreError(f"{store} holds {len(known)} domains ({', '.join(known)}): choose two with --domains A B")
        return known[0], known[1]
    if len(wish) != 2 or wish[0] == wish[1]:
        raise UsageError(f"--domains {' '.join(wish)}: name two different domains, A and B")
    for name in wish:
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near}?" if near else f"it holds {', '.join(known)}"
            raise StoreError(f"{store} holds no domain {name}: {hint}")
    return wish[0], wish[1]


def _of_split(rows: Sequence[SliceRow], split: str) -> tuple[SliceRow, ...]:
    return tuple(row for row in rows if row.split == split)


def _agree(config: Config, chosen: dict[str, list[SliceRow]]) -> Config:
    """Return ``config`` with the slicing and the domains that the store was made with; log what differs."""
    first = next(iter(chosen.values()))[0].preparation
    made: dict[str, Any] = {key: first[key] for key in _SLICING_KEYS if key in first}
    differing = [key for key, value in made.items() if getattr(config.slicing, key) != value]
    if differing:
        said = ", ".join(f"{key} {made[key]} (not {getattr(config.slicing, key)})" for key in differing)
        log.info("the slices were made with %s: training uses them as they are", said)
    domains = {name: _domain_of(rows[0]) for name, rows in chosen.items()}
    for name, domain in domains.items():
        given = config.domains.get(name)
        if given is not None and (given.scaling != domain.scaling or given.modality != domain.modality):
            log.info("the slices of %s differ in modality or scaling from the configuration: theirs is used", name)
    update = {"slicing": config.slicing.model_copy(update=made), "domains": {**config.domains, **domains}}
    return config.model_copy(update=update)


def _domain_of(row: SliceRow) -> Domain:
    """Return the configuration section of a domain as it was when ``row`` was sliced."""
    return Domain(modality=row.preparation.get("modality"), scaling=Scaling.model_validate(_scaling_of(row)))


def _scaling_of(row: SliceRow) -> dict[str, Any]:
    return {key: row.preparation[key] for key in _SCALING_KEYS if key in row.preparation}
