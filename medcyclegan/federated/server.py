"""The server of a federated training: it averages weights, and never sees a slice."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from medcyclegan.errors import TrainingError
from medcyclegan.federated.agreement import Agreement, Declaration, agree
from medcyclegan.federated.averaging import NETWORKS, Contribution, Weights, average, check_contribution
from medcyclegan.federated.job import Job
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.model.fitness import Fitness
from medcyclegan.networks import build_cyclegan
from medcyclegan.plane import Preparation
from medcyclegan.storage import atomic_write
from medcyclegan.training.monitor.validation import weights_of
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.checkpoint import load_newest_checkpoint, save_checkpoint
from medcyclegan.training.run.folder import RunFolder
from medcyclegan.training.run.init_from import put_generators, steps_behind

__all__ = ["Server"]

log = logging.getLogger(__name__)


class Server:
    """The averaged weights of a job, stored after each round in ``runs/federated-<run>``.

    ``initial``: the model whose generators the training starts with. ``round``: the number of rounds done.
    """

    def __init__(self, job: Job, runs: Path, initial: ModelBundle | None = None) -> None:
        self.job = job
        self.folder = RunFolder(runs / job.name)
        self.round = 0
        self.history: list[dict[str, Any]] = []
        self._initial = initial
        self._agreement: Agreement | None = None
        self._took_part: dict[str, Declaration] = {}
        self._weights: dict[str, dict[str, torch.Tensor]] = {}

    @property
    def agreement(self) -> Agreement:
        """What the sites agreed on."""
        if self._agreement is None:
            raise TrainingError("the sites have not agreed yet: call begin first")
        return self._agreement

    @property
    def weights(self) -> Weights:
        """The networks that the next round starts with."""
        return self._weights

    @property
    def finished(self) -> bool:
        """Whether all rounds are done."""
        return self.round >= self.job.rounds

    def begin(self, declared: Mapping[str, Declaration]) -> None:
        """Let the sites agree, and start, or continue after the last complete round.

        Raises :class:`~medcyclegan.errors.StoreError` if they do not agree, and
        :class:`~medcyclegan.errors.TrainingError` if the rules or the job have changed since the job was started.
        """
        self._agreement = agree(declared, self.job.domains)
        self.folder.checkpoints.mkdir(parents=True, exist_ok=True)
        state = load_newest_checkpoint(self.folder.checkpoints)
        if state is None:
            self._weights = self._first_weights(self._agreement)
            return
        if json.loads(state["rules"]) != json.loads(json.dumps(self._agreement.rules)):
            raise TrainingError(
                f"{self.folder.path} was begun with other rules of slicing or scaling: slice as before, or write a "
                "new job"
            )
        if state["job"] != self._fixed:
            raise TrainingError(
                f"{self.folder.path} was begun with other rounds, steps or configuration: submit the job as it was, or "
                "write a new job"
            )
        self.round = int(state["step"]) // self.job.steps
        self._weights = {name: state["networks"][name] for name in NETWORKS}
        self.history = json.loads(state["history"])
        self._took_part = {name: Declaration.model_validate(own) for name, own in json.loads(state["sites"]).items()}
        log.info("continuing after round %d of %d", self.round, self.job.rounds)

    def add_round(self, contributions: Sequence[Contribution], sent: Mapping[str, float] | None = None) -> None:
        """Average the networks of a round, and store them before the next round starts.

        ``sent``: further numbers for the record of the round, such as bytes. Raises
        :class:`~medcyclegan.errors.TrainingError` for contributions that cannot be averaged.
        """
        for given in contributions:
            check_contribution(given, self._weights)
        self._weights = average(contributions)
        self.history.append({"sites": sorted(given.site for given in contributions), **(sent or {})})
        self._took_part |= {given.site: self.agreement.sites[given.site] for given in contributions}
        self.round += 1
        state = {
            "networks": self._weights,
            "rules": json.dumps(self.agreement.rules),
            "job": self._fixed,
            "history": json.dumps(self.history),
            "sites": json.dumps({name: own.model_dump(mode="json") for name, own in self._took_part.items()}),
        }
        save_checkpoint(self.folder.checkpoints, self.round * self.job.steps, state, keep=2)
        with atomic_write(self.folder.path / "rounds.jsonl") as file:
            file.write(
                "".join(json.dumps({"round": n, **row}) + "\n" for n, row in enumerate(self.history, start=1)).encode()
            )

    def save_model(self) -> Path:
        """Write the averaged generators as a model folder, and return its path."""
        return self.build_model().save(self.folder.model, overwrite=True)

    def build_model(self) -> ModelBundle:
        """Return the averaged generators as a model, whose card lists the counts of each site, by number."""
        config, trained = self.agreement.configured(self.job.config), self._trained
        steps = self.round * self.job.steps
        a, b = (self.agreement.domain_model(name) for name in self.job.domains)
        before = 0 if self._initial is None else steps_behind(self._initial)
        patients = {name: trained.total(name, lambda own: own.patients.get("train", 0)) for name in trained.domains}
        return ModelBundle(
            domains=(a, b),
            preparation=Preparation(config.slicing.size, config.slicing.fit, config.slicing.pixel_mm),
            generator=config.networks.generator,
            weights={name: self._weights[name] for name in ("G_AB", "G_BA")},
            provenance={
                "config": config.model_dump(mode="json"),
                "steps": steps,
                "planned_steps": self.job.rounds * self.job.steps,
                "training_slices": {name: trained.total(name, lambda own: own.slices) for name in trained.domains},
                "training_volumes": {name: trained.total(name, lambda own: own.volumes) for name in trained.domains},
                "patients": {name: trained.patients(name) for name in trained.domains},
                "federated": self._describe(),
                "init_from": None if self._initial is None else self._initial.fingerprint,
                "fitness": Fitness(steps=steps + before, patients=patients).to_dict(),
            },
        )

    @property
    def _trained(self) -> Agreement:
        """The sites that took part in a round, connected now or not; before the first round, those that agreed."""
        sites = dict(sorted(self._took_part.items())) or self.agreement.sites
        return Agreement(domains=self.job.domains, sites=sites)

    @property
    def _fixed(self) -> str:
        """The parts of the job that must not change before its last round."""
        return self.job.model_dump_json(exclude={"min_sites", "wait"})

    def _describe(self) -> dict[str, Any]:
        """Return the rounds, and the counts of each site. Sites are numbered, since a model may be passed on."""
        sites = []
        for name, site in self._trained.sites.items():
            counts = {
                domain: {"slices": own.slices, "volumes": own.volumes, "patients": own.patients.get("train", 0)}
                for domain, own in site.domains.items()
            }
            sites.append({"domains": counts, "rounds": sum(name in row["sites"] for row in self.history)})
        return {"rounds": self.round, "steps_per_round": self.job.steps, "sites": sites}

    def _first_weights(self, agreed: Agreement) -> dict[str, dict[str, torch.Tensor]]:
        config = agreed.configured(self.job.config)
        networks = build_cyclegan(config.networks, agreed.size, config.seed)
        if self._initial is not None:
            nothing: Any = ((), ())
            put_generators(
                networks,
                self._initial,
                Plan(config, self.folder.path, agreed.domains, nothing, nothing, agreed.size),
            )
        return {name: weights_of(getattr(networks, name)) for name in NETWORKS}
