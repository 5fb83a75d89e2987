"""The processes of one training run, started by ``torchrun``, and the communication between them.

The gradients are averaged after each backward pass by one all-reduce, not by ``DistributedDataParallel``: a CycleGAN
runs each network several times before one backward pass, with the discriminators frozen in one and trained in the
other, which that class does not support; and the code of the step still reads like the paper.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from medcyclegan.device import choose_device
from medcyclegan.errors import TrainingError, UsageError, one_line
from medcyclegan.logs import errors_only

__all__ = ["Ranks", "joined", "own_device"]

log = logging.getLogger(__name__)

#: How long one process waits for the others, which may be validating; a process that died is noticed immediately.
_PATIENCE = datetime.timedelta(minutes=60)
#: How long a process that lost the others waits for the reason that one of them recorded.
_REASON_PATIENCE = datetime.timedelta(seconds=5)
#: The longest path that file systems allow, in bytes.
_LONGEST_TEXT = 4096
_REASON = "medcyclegan/reason"


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The processes that train together: ``world_size`` of them, of which this is number ``rank`` (default: one alone).

    ``on_this_machine``: how many of them share this machine's memory.

    Every process must call the same methods in the same order. Each raises
    :class:`~medcyclegan.errors.TrainingError` with another process's reason if that one has ended.
    """

    rank: int = 0
    world_size: int = 1
    store: Any = None
    on_this_machine: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and logs."""
        return self.rank == 0

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace tensors of one type and device by their means over all processes, in place."""
        if self.world_size == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.reshape(-1) for part in parts])
        with self._together():
            distributed.all_reduce(flat)
        flat /= self.world_size
        for part, mean in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(mean.view_as(part))

    def any(self, here: bool) -> bool:
        """Return whether ``here`` is true in any process, without waiting for a device."""
        if self.world_size == 1:
            return here
        flag = torch.tensor([int(here)])
        with self._together():
            distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag.item())

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the tensors of all processes, which have the same shape, in the order of their ranks."""
        if self.world_size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        with self._together():
            distributed.all_gather(parts, tensor.contiguous())
        return parts

    def from_first(self, text: str) -> str:
        """Return the first process's ``text`` (at most 4,096 bytes) in every process."""
        if self.world_size == 1:
            return text
        message = torch.zeros(_LONGEST_TEXT, dtype=torch.uint8)
        encoded = list(text.encode())[:_LONGEST_TEXT]
        message[: len(encoded)] = torch.tensor(encoded, dtype=torch.uint8)
        with self._together():
            distributed.broadcast(message, 0)
        return bytes(message.tolist()).rstrip(b"\0").decode()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise TrainingError(
                self._reason() or f"the other processes of this job are lost: {one_line(error)}"
            ) from None

    def _reason(self) -> str:
        """Return the reason that another process recorded, or a message that it recorded none."""
        try:
            self.store.wait([_REASON], _REASON_PATIENCE)
            return str(self.store.get(_REASON).decode())
        except RuntimeError:
            return "another process of this job ended without a message (it was killed, or its machine is down)"

    def leave_reason(self, error: BaseException) -> None:
        """Record for the other processes why this one ends; only the first reason is kept."""
        if self.world_size > 1:
            reason = f"process {self.rank} of {self.world_size} failed: {one_line(error) or type(error).__name__}"
            with contextlib.suppress(RuntimeError):  # the process that holds the store may have ended
                self.store.compare_set(_REASON, "", reason)


def own_device(name: str) -> torch.device:
    """Return the device called ``name`` (see :func:`~medcyclegan.device.choose_device`) for this process.

    For ``auto`` and ``cuda``, each of several processes on one machine gets a different CUDA device. Raises
    :class:`~medcyclegan.errors.UsageError` if there are fewer devices than processes.
    """
    device = choose_device(name)
    if str(device) != "cuda" or _from_launcher("WORLD_SIZE", 1) == 1:
        return device
    local = _from_launcher("LOCAL_RANK", 0)
    if local >= torch.cuda.device_count():
        raise UsageError(
            f"this is process {local + 1} on a machine with {torch.cuda.device_count()} CUDA devices: start fewer "
            "processes (--nproc-per-node), or use --device cpu"
        )
    return torch.device("cuda", local)


def _from_launcher(name: str, default: int) -> int:
    """Return a number that ``torchrun`` set in the environment."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < default:
        raise UsageError(
            f"{name} is {text[:40]!r}, which torchrun does not set: unset it, or start several processes with torchrun"
        )
    return int(text)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started, if it did, and leave them at the end.

    NCCL between CUDA devices, gloo between CPUs. Processes other than the first log errors only. Raises
    :class:`~medcyclegan.errors.UsageError` if the environment names several processes but no way to find them.
    """
    world = _from_launcher("WORLD_SIZE", 1)
    if world == 1:
        yield Ranks()
        return
    try:
        store, rank, world = next(rendezvous("env://", timeout=_PATIENCE))
    except ValueError as error:
        raise UsageError(
            f"WORLD_SIZE is {world}, but {one_line(error)}: start several processes with torchrun"
        ) from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE)
    ranks = Ranks(rank, world, store, min(world, _from_launcher("LOCAL_WORLD_SIZE", 1)))
    try:
        with errors_only("medcyclegan") if rank else contextlib.nullcontext():
            yield ranks
    except BaseException as error:
        ranks.leave_reason(error)
        raise
    finally:
        distributed.destroy_process_group()
