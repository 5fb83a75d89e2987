"""The job of a federated training: what all sites do, and the folder that NVIDIA FLARE runs."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medcyclegan.config import Config, parse_config
from medcyclegan.errors import ConfigError, UsageError
from medcyclegan.federated.agreement import Name
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.slicing.domains import check_domain_name
from medcyclegan.storage import atomic_folder
from medcyclegan.training.run.init_from import check_generators

__all__ = ["INITIAL", "JOB_FILE", "Job", "load_job", "write_job"]

#: In the folder ``app/config`` of a job: what is trained, and the model that it starts from, if any.
JOB_FILE = "medcyclegan.json"
INITIAL = "initial"
#: The module of the two classes that the job names: FLARE imports them from the installed package.
_CLASSES = "medcyclegan.federated.flare"


class Job(BaseModel):
    """A federated training: the domains A and B, the rounds, and the configuration of the networks and losses.

    ``run``: a random name, by which an interrupted job is continued. ``steps``: of each site in a round.
    ``min_sites``: sites that must answer in a round. ``wait``: seconds to wait for further answers after these.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    domains: tuple[Name, Name]
    rounds: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]
    min_sites: Annotated[int, Field(ge=1)]
    wait: Annotated[int, Field(ge=0)]
    config: Config

    @property
    def name(self) -> str:
        """The name of the folder, at each site and at the server, in which the state of the job is kept."""
        return f"federated-{self.run}"


def load_job(text: str) -> Job:
    """Parse a job; raises :class:`~medcyclegan.errors.ConfigError` for anything else."""
    try:
        job = Job.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ConfigError(
            f"{JOB_FILE}: {where}: {fault['msg']}: write the job again with medcyclegan federate"
        ) from None
    if job.config.training.max_steps != job.rounds * job.steps:
        raise ConfigError(
            f"{JOB_FILE}: training.max_steps = {job.config.training.max_steps}, not {job.rounds} rounds of {job.steps} "
            "steps: write the job again with medcyclegan federate"
        )
    check_config(job.config)
    return job


def check_config(config: Config) -> None:
    """Raise :class:`~medcyclegan.errors.ConfigError` for settings that a federated training cannot follow."""
    if config.training.ema_decay is not None:
        raise ConfigError(
            f"training.ema_decay = {config.training.ema_decay:g}: the weights of a federated training are averaged "
            "over the sites, not over steps: add --set training.ema_decay=null"
        )
    if config.losses.paired_weight > 0:
        raise ConfigError(
            f"losses.paired_weight = {config.losses.paired_weight:g}: a site with one domain has no pairs: add --set "
            "losses.paired_weight=0"
        )


def write_job(
    out: Path,
    config: Config,
    domains: tuple[str, str],
    *,
    rounds: tuple[int, int],
    answers: tuple[int, int],
    initial: ModelBundle | None = None,
    overwrite: bool = False,
) -> Job:
    """Write the job folder ``out`` for NVIDIA FLARE, and return the job.

    ``rounds``: their number, and the steps of each site in one. ``answers``: the number of
    sites that must answer in a round, and the seconds to wait for others after these. ``initial``: the model whose
    generators the training starts with.

    It holds configuration, and the weights of ``initial`` if that is given, but no code: the sites run the medcyclegan
    that they have installed. Raises :class:`~medcyclegan.errors.ConfigError` for settings that cannot be federated,
    :class:`~medcyclegan.errors.TrainingError` if ``initial`` has other generators than ``config``, and
    :class:`~medcyclegan.errors.WriteError` if ``out`` exists and ``overwrite`` is not set.
    """
    if domains[0] == domains[1]:
        raise UsageError(f"--domains {' '.join(domains)}: name two different domains, A and B")
    for name in domains:
        check_domain_name(name)
    check_config(config)
    if initial is not None:
        # The size of the sites' slices is not known yet; the server checks it.
        check_generators(initial, config.networks.generator, initial.preparation.size)
    values = config.model_dump(mode="json")
    values["training"]["max_steps"] = rounds[0] * rounds[1]
    job = Job(
        run=uuid.uuid4().hex[:12],
        domains=domains,
        rounds=rounds[0],
        steps=rounds[1],
        min_sites=answers[0],
        wait=answers[1],
        config=parse_config(values, "the configuration of the job"),
    )
    with atomic_folder(out, overwrite=overwrite) as folder:
        place = folder / "app" / "config"
        place.mkdir(parents=True)
        (place / JOB_FILE).write_text(job.model_dump_json(indent=2) + "\n", "utf-8")
        if initial is not None:
            (place / INITIAL).mkdir()
            initial.write_into(place / INITIAL)
        for name, content in _flare_files(job, re.sub(r"[^A-Za-z0-9_-]", "-", out.name)).items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return job


def _flare_files(job: Job, name: str) -> dict[str, object]:
    """Return the files that NVIDIA FLARE reads: the job's metadata, and what server and sites run."""
    meta = {
        "name": name,
        "min_clients": job.min_sites,
        "deploy_map": {"app": ["@ALL"]},
        "resource_spec": {},
    }
    server = {
        "format_version": 2,
        "workflows": [{"id": "federated_training", "path": f"{_CLASSES}.FederatedTraining", "args": {}}],
        "components": [],
    }
    site = {
        "format_version": 2,
        "executors": [{"tasks": ["*"], "executor": {"path": f"{_CLASSES}.SiteExecutor", "args": {}}}],
        "components": [],
    }
    return {
        "meta.json": meta,
        "app/config/config_fed_server.json": server,
        "app/config/config_fed_client.json": site,
    }
