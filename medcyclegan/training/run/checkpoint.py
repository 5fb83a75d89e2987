"""Checkpoints: everything that a run needs to continue as if it had never been interrupted."""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from medcyclegan.errors import TrainingError
from medcyclegan.provenance import hash_file
from medcyclegan.storage import atomic_write
from medcyclegan.training.update.distributed import Ranks
from medcyclegan.training.update.image_pool import ImagePool
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["check_state", "load_newest_checkpoint", "restore_step", "save_checkpoint", "step_state"]

log = logging.getLogger(__name__)

_FORMAT = 2
#: The entries of a run's state, in addition to its format and step.
_KEYS = ("config", "metrics", "networks", "optimizer_G", "optimizer_D", "pool_A", "pool_B", "scaler", "random")
#: The exceptions that torch.load raises for damaged and hostile files.
_LOAD_ERRORS = (ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError)
_NAME = re.compile(r"step-(\d{6,})\.pt")


def step_state(step: CycleGANStep) -> dict[str, Any]:
    """Return the state of networks, averages, optimizers, pools, loss scaler and random numbers, as plain types.

    Learning rates, samples and pool choices are functions of the step's number and have no state. The state that
    differs between processes, their parts of the pools and their random numbers, is gathered from all of them.
    """
    ranks, on_cuda = step.ranks, step.device.type == "cuda"
    return {
        "networks": step.networks.state_dict(),
        "optimizer_G": step.optimizer_G.state_dict(),
        "optimizer_D": step.optimizer_D.state_dict(),
        "pool_A": _whole(step.pool_A, ranks),
        "pool_B": _whole(step.pool_B, ranks),
        "scaler": step.scaler.state_dict(),
        "averages": None if step.averages is None else step.averages.state_dict(),
        "random": ranks.gather(torch.get_rng_state()),
        "random_cuda": ranks.gather(torch.cuda.get_rng_state(step.device)) if on_cuda else None,
    }


def check_state(state: dict[str, Any]) -> None:
    """Raise :class:`~medcyclegan.errors.TrainingError` for a checkpoint that lacks a part of a run's state."""
    missing = [key for key in _KEYS if not isinstance(state.get(key), (dict, list, torch.Tensor))]
    if missing:
        raise TrainingError(f"the checkpoint of step {state['step']} holds no {', '.join(missing)}: start a new run")


def restore_step(step: CycleGANStep, state: dict[str, Any]) -> None:
    """Restore the state returned by :func:`step_state`, on the device of ``step``.

    The number of processes may differ; additional ones keep their initial random numbers.
    Raises :class:`~medcyclegan.errors.TrainingError` for the state of other networks.
    """
    try:
        _restore(step, state)
    except _LOAD_ERRORS as error:
        raise TrainingError(f"the checkpoint of step {state.get('step')} is not of these networks: {error}") from None


def _restore(step: CycleGANStep, state: dict[str, Any]) -> None:
    step.networks.load_state_dict(state["networks"])
    _restore_optimizer(step.optimizer_G, state["optimizer_G"])
    _restore_optimizer(step.optimizer_D, state["optimizer_D"])
    step.pool_A.load_state_dict(state["pool_A"], step.device)
    step.pool_B.load_state_dict(state["pool_B"], step.device)
    if step.averages is not None:
        step.averages.load_state_dict(state["averages"])
    if state["scaler"]:
        step.scaler.load_state_dict(state["scaler"])
    rank = step.ranks.rank
    if rank < len(state["random"]):
        torch.set_rng_state(state["random"][rank])
    if step.device.type == "cuda" and rank < len(state["random_cuda"] or ()):
        torch.cuda.set_rng_state(state["random_cuda"][rank], step.device)


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimizer's moments; keep the settings that this device needs."""
    own = [{key: group[key] for key in ("lr", "fused", "capturable")} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def _whole(pool: ImagePool, ranks: Ranks) -> dict[str, Any]:
    """Return the state of a pool, gathered from all processes."""
    return {"images": [torch.cat(ranks.gather(images)) for images in pool.state_dict()["images"]]}


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write ``step-<step>.pt`` and then its SHA-256 file; delete all but the newest ``keep`` checkpoints.

    The checksum file has the format of ``sha256sum``. A checkpoint without one was not completed.
    """
    path = folder / f"step-{step:06d}.pt"
    _sum_path(path).unlink(missing_ok=True)
    with atomic_write(path) as file:
        torch.save({"format": _FORMAT, "step": step, **state}, file)
    with atomic_write(_sum_path(path)) as file:
        file.write(f"{hash_file(path)}  {path.name}\n".encode())
    older = [number for number in _steps(folder) if number <= step]
    for number in older[keep:]:
        surplus = folder / f"step-{number:06d}.pt"
        surplus.unlink(missing_ok=True)
        _sum_path(surplus).unlink(missing_ok=True)
    return path


def load_newest_checkpoint(folder: Path, *, up_to: int | None = None) -> dict[str, Any] | None:
    """Return the newest intact checkpoint, on the CPU; None if there is none.

    ``up_to``: ignore the checkpoints of later steps. Damaged checkpoints are skipped with a warning. Raises
    :class:`~medcyclegan.errors.TrainingError` for a checkpoint of another format.
    """
    steps = [step for step in _steps(folder) if up_to is None or step <= up_to]
    for number in steps:
        path = folder / f"step-{number:06d}.pt"
        fault = _find_fault(path)
        if fault is None:
            try:
                state: dict[str, Any] = _load(path)
            except (*_LOAD_ERRORS, pickle.UnpicklingError, zipfile.BadZipFile) as error:
                fault = f"it cannot be loaded: {error}"
            else:
                if state.get("format") != _FORMAT:
                    raise TrainingError(f"{path}: a checkpoint of another version of medcyclegan: use that version")
                return state
        instead = (
            "using the previous checkpoint" if number != steps[-1] else "there is no earlier one: starting at step 0"
        )
        log.warning("%s is damaged (%s): %s", path, fault, instead)
    return None


def _load(path: Path) -> dict[str, Any]:
    """Load tensors and plain types, never code; unpack no more bytes than the file has."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which no checkpoint of medcyclegan is")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or "step" not in state:
        raise ValueError("it is not the state of a run")
    return state


def _steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints in ``folder``, the newest first."""
    names = (_NAME.fullmatch(path.name) for path in folder.glob("step-*.pt"))
    return sorted((int(name[1]) for name in names if name), reverse=True)


def _sum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _find_fault(path: Path) -> str | None:
    """Compare a checkpoint with its checksum; return what is wrong, or None."""
    try:
        expected = _sum_path(path).read_text("ascii").split()
    except FileNotFoundError:
        return "it has no checksum file, so it was not written completely"
    except (OSError, UnicodeDecodeError) as error:
        return f"its checksum cannot be read: {error}"
    try:
        return None if expected and hash_file(path) == expected[0] else "its SHA-256 differs from the recorded one"
    except OSError as error:
        return f"it cannot be read: {error}"
