"""The two classes that a job names, by which NVIDIA FLARE runs a :class:`Server` and a :class:`Site`.

Only this module imports nvflare, the extra ``federated``, and only FLARE imports this module. FLARE transports the
messages; what they hold is decided here:

- task ``declare``: the site returns its :class:`~medcyclegan.federated.agreement.Declaration` as JSON;
- task ``train``: the server sends the four networks and the number of the round, the site returns them trained.

A site that cannot answer returns a code without a text, because the text of an error may contain a path of the site.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from medcyclegan.errors import MedCycleGANError, MissingExtraError, StoreError, TrainingError
from medcyclegan.federated.agreement import Declaration
from medcyclegan.federated.averaging import Contribution, Weights
from medcyclegan.federated.job import INITIAL, JOB_FILE, Job, load_job
from medcyclegan.federated.server import Server
from medcyclegan.federated.site import Site
from medcyclegan.model.bundle import ModelBundle

try:
    from nvflare.apis.controller_spec import Task, TaskCompletionStatus
    from nvflare.apis.executor import Executor
    from nvflare.apis.fl_constant import ReturnCode
    from nvflare.apis.impl.controller import Controller
    from nvflare.apis.shareable import Shareable, make_reply
    from nvflare.app_common.logging.constants import is_log_streaming_allowed
except ImportError:
    raise MissingExtraError(
        "nvflare is not installed, which federated training needs",
        remedy="install the extra with pip install 'medcyclegan[federated]'",
    ) from None

__all__ = ["RUNS", "SLICES", "FederatedTraining", "SiteExecutor"]

log = logging.getLogger(__name__)

#: Environment variables, set by each site for itself: its slice store, and its folder of runs. ``{site}`` in them is
#: replaced by the name of the site, so that the simulator can run several sites with one setting.
SLICES, RUNS = "MEDCYCLEGAN_SLICES", "MEDCYCLEGAN_RUNS"
_DEVICE = "MEDCYCLEGAN_DEVICE"
#: The parts of the messages.
_DECLARATION, _WEIGHTS, _ROUND = "declaration", "weights", "round"
#: Seconds between two looks at the answers.
_LOOK = 0.2


class SiteExecutor(Executor):
    """Answers the server's two tasks at one site."""

    def __init__(self) -> None:
        super().__init__()
        self._site: Site | None = None

    def execute(self, task_name: str, shareable: Any, fl_ctx: Any, abort_signal: Any) -> Any:
        """Carry out a task; the reason for a failure is in the log of the site only."""
        try:
            if self._site is None:
                self._site = _open_site(fl_ctx)
            reply = Shareable()
            if task_name == "declare":
                reply[_DECLARATION] = self._site.declare().model_dump_json()
            elif task_name == "train":
                weights = _received("the server", shareable)
                reply[_WEIGHTS] = _to_arrays(self._site.train(weights, int(shareable[_ROUND])))
            else:
                return make_reply(ReturnCode.TASK_UNKNOWN)
        except MedCycleGANError as error:
            log.error("%s", error)
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        except OSError as error:
            log.error("%s: %s", error.filename, error.strerror)
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        return reply


class FederatedTraining(Controller):
    """The workflow of the server: declarations, rounds, model."""

    def start_controller(self, fl_ctx: Any) -> None:
        """Do nothing: the state is opened when the workflow starts."""

    def stop_controller(self, fl_ctx: Any) -> None:
        """Do nothing: the state is stored after each round."""

    def process_result_of_unknown_task(
        self, client: Any, task_name: str, client_task_id: str, result: Any, fl_ctx: Any
    ) -> None:
        """Ignore an answer that comes after its round."""
        self.log_info(fl_ctx, f"the answer of {client.name} came after its round: not used")

    def control_flow(self, abort_signal: Any, fl_ctx: Any) -> None:
        """Run the job from its last complete round to its last one; end it with a reason if that is not possible."""
        try:
            self._run(abort_signal, fl_ctx)
        except MedCycleGANError as error:
            self.system_panic(str(error), fl_ctx)
        except OSError as error:
            self.system_panic(f"{error.filename}: {error.strerror}", fl_ctx)

    def _run(self, abort_signal: Any, fl_ctx: Any) -> None:
        config = _config_folder(fl_ctx)
        job = load_job((config / JOB_FILE).read_text("utf-8"))
        initial = ModelBundle.load(config / INITIAL) if (config / INITIAL).is_dir() else None
        server = Server(job, _folder_of(RUNS, "server"), initial)
        server.folder.path.mkdir(parents=True, exist_ok=True)
        with server.folder.lock():
            self._run_rounds(server, abort_signal, fl_ctx)

    def _run_rounds(self, server: Server, abort_signal: Any, fl_ctx: Any) -> None:
        clients = [client.name for client in fl_ctx.get_engine().get_clients()]
        answers = self._ask("declare", Shareable(), clients, server.job, (abort_signal, fl_ctx))
        if abort_signal.triggered:
            return
        server.begin({site: _to_declaration(site, answer) for site, answer in answers.items()})
        while not server.finished:
            if not self._train_round(server, abort_signal, fl_ctx):
                return
        path = server.save_model()
        workspace = fl_ctx.get_engine().get_workspace()
        server.build_model().save(Path(workspace.get_run_dir(fl_ctx.get_job_id())) / "model", overwrite=True)
        self.log_info(fl_ctx, f"finished after {server.round} rounds: the model is {path}")

    def _train_round(self, server: Server, abort_signal: Any, fl_ctx: Any) -> bool:
        """Train and average one round; return False if the job was stopped."""
        started = time.monotonic()
        task = Shareable()
        task[_WEIGHTS], task[_ROUND] = _to_arrays(server.weights), server.round
        sites = server.agreement.sites
        answers = self._ask("train", task, list(sites), server.job, (abort_signal, fl_ctx))
        if abort_signal.triggered:
            return False
        contributions = [
            Contribution(site, _received(site, answer), _slices_of(sites[site], server.job))
            for site, answer in answers.items()
        ]
        sent = {
            "bytes_to_a_site": _bytes(server.weights),
            "bytes_from_sites": sum(_bytes(given.weights) for given in contributions),
            "seconds": round(time.monotonic() - started, 1),
        }
        server.add_round(contributions, sent)
        self.log_info(fl_ctx, f"round {server.round} of {server.job.rounds}: {', '.join(sorted(answers))}; {sent}")
        return True

    def _ask(self, name: str, data: Any, sites: list[str], job: Job, run: tuple[Any, Any]) -> dict[str, Any]:
        """Give ``sites`` a task and return the answers by site; ``run``: FLARE's signal to abort, and its context.

        A site that could not carry out the task counts as one that did not answer. Raises
        :class:`~medcyclegan.errors.TrainingError` if fewer than ``job.min_sites`` could answer.
        """
        abort_signal, fl_ctx = run
        received: dict[str, Any] = {}
        failed: list[str] = []

        def receive(client_task: Any, fl_ctx: Any) -> None:  # noqa: ARG001 (FLARE passes it by name)
            site, result = client_task.client.name, client_task.result
            if result.get_return_code() == ReturnCode.OK:
                received[site] = result
            else:
                failed.append(site)
            client_task.result = None

        connected = {client.name for client in fl_ctx.get_engine().get_clients()}
        asked = [site for site in sites if site in connected]
        if len(asked) >= job.min_sites:
            task = Task(name=name, data=data, result_received_cb=receive)
            self.broadcast(task=task, fl_ctx=fl_ctx, targets=asked, min_responses=0)
            self._wait(task, received, job, abort_signal)
        answers = dict(received)  # what is received from now on is too late
        if failed:
            self.log_error(fl_ctx, f"{', '.join(sorted(failed))} could not {name}: the reason is in the log there")
        if not abort_signal.triggered and len(answers) < job.min_sites:
            silent = ", ".join(sorted(set(sites) - set(answers)))
            raise TrainingError(
                f"{len(answers)} of at least {job.min_sites} sites did {name}; the others ({silent}) are not "
                "connected, or the reason is in the log there: correct it and submit the job again; it continues after "
                "the last complete round"
            )
        return answers

    def _wait(self, task: Any, answers: Mapping[str, Any], job: Job, abort_signal: Any) -> None:
        """Wait until all sites have replied, or ``job.wait`` seconds after ``job.min_sites`` answers.

        FLARE's own count of responses includes failures, after which it would not wait for the sites that can answer.
        """
        enough: float | None = None
        while task.completion_status is None:
            if enough is None and len(answers) >= job.min_sites:
                enough = time.monotonic()
            if abort_signal.triggered or (enough is not None and time.monotonic() - enough >= job.wait):
                self.cancel_task(task, TaskCompletionStatus.CANCELLED)
                return
            time.sleep(_LOOK)


def _open_site(fl_ctx: Any) -> Site:
    name, config = fl_ctx.get_identity_name(), _config_folder(fl_ctx)
    if is_log_streaming_allowed(fl_ctx):
        # FLARE sends it by default, and errors in the log contain paths.
        raise TrainingError(
            f"FLARE would send the log of {name} to the server: set allow_log_streaming to false in "
            "local/resources.json, and restart the site"
        )
    job = load_job((config / JOB_FILE).read_text("utf-8"))
    return Site(job, _folder_of(SLICES, name), _folder_of(RUNS, name), os.environ.get(_DEVICE, "auto"))


def _config_folder(fl_ctx: Any) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_app_config_dir(fl_ctx.get_job_id()))


def _folder_of(variable: str, site: str) -> Path:
    """Return the folder in an environment variable; raises :class:`~medcyclegan.errors.StoreError` if it is not set."""
    value = os.environ.get(variable, "")
    if not os.path.isabs(value):
        what = "slice store" if variable == SLICES else "folder in which the state of federated jobs is kept"
        raise StoreError(f"{variable} = {value!r}: set it to the absolute path of the {what} of {site}")
    return Path(value.replace("{site}", site))


def _slices_of(declared: Declaration, job: Job) -> tuple[int, int]:
    a, b = (declared.domains[name].slices if name in declared.domains else 0 for name in job.domains)
    return a, b


def _to_declaration(site: str, answer: Any) -> Declaration:
    try:
        return Declaration.model_validate_json(answer[_DECLARATION])
    except (ValidationError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{site} did not declare its slices as this version does ({type(error).__name__}): "
            "install the same version of medcyclegan at all sites"
        ) from None


def _received(site: str, answer: Any) -> dict[str, dict[str, torch.Tensor]]:
    try:
        return _to_weights(answer[_WEIGHTS])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{site} did not send weights as this version does ({type(error).__name__}): "
            "install the same version of medcyclegan at all sites"
        ) from None


def _to_arrays(weights: Weights) -> dict[str, dict[str, Any]]:
    """Return weights as arrays, which FLARE serializes without pickle."""
    return {name: {key: tensor.numpy() for key, tensor in state.items()} for name, state in weights.items()}


def _to_weights(arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, torch.Tensor]]:
    # Copies: a received array may be read-only.
    return {name: {key: torch.tensor(array) for key, array in state.items()} for name, state in arrays.items()}


def _bytes(weights: Weights) -> int:
    return sum(tensor.nbytes for state in weights.values() for tensor in state.values())
