"""The step's work on a CUDA device, recorded once and replayed (CUDA graphs).

With slices of a few at a time a GPU ends its thousands of small kernels sooner than the host can start them one by
one; a graph of them is started at once. The kernels, and so the numbers, are the same.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch

from medcyclegan.errors import TrainingError, one_line
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["Recorded", "record_step"]

log = logging.getLogger(__name__)

#: Calls before the recording, as torch's notes on CUDA graphs ask for: optimisers and libraries then have their memory.
_EAGER = 3

Result = TypeVar("Result")


class Recorded(Generic[Result]):
    """A function of tensors on a CUDA ``device``, recorded at its fourth call and replayed from then on.

    Its inputs keep their shapes and formats; what it returns is overwritten by the next call. Where the device's memory
    has no room for a recording it goes on being called, which is said once; ``strict``: that is a
    :class:`~medcyclegan.errors.TrainingError`, as a recording that fails always is.
    """

    def __init__(self, function: Callable[..., Result], device: torch.device, *, strict: bool = False) -> None:
        self._function = function
        self._device = device
        self._strict = strict
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._result: Result

    @property
    def replays(self) -> bool:
        """Whether it has been recorded."""
        return self._graph is not None

    def __call__(self, *inputs: torch.Tensor) -> Result:
        """Call the function, or replay it on ``inputs``."""
        self._calls += 1
        if self._calls <= _EAGER:
            return self._call_aside(*inputs)
        if self._calls == _EAGER + 1 and self._has_room():
            self._graph = self._record(*inputs)
        if self._graph is None:
            return self._function(*inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result

    def _call_aside(self, *inputs: torch.Tensor) -> Result:
        """Call the function in a stream of its own, as before a recording."""
        with torch.cuda.device(self._device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                result = self._function(*inputs)
            here.wait_stream(aside)
        return result

    def _has_room(self) -> bool:
        """Whether the memory that is free holds twice what the calls so far took for a while."""
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self._device)
        taken = torch.cuda.max_memory_allocated(self._device) - torch.cuda.memory_allocated(self._device)
        if free >= 2 * taken:
            return True
        room = f"{2 * taken / 2**30:.2f} GiB are needed and {free / 2**30:.2f} GiB are free"
        if self._strict:
            raise TrainingError(f"training.cuda_graphs = on: no room on {self._device} ({room}): take auto or off")
        log.warning("the step is not recorded (%s on %s): the training is as right, and slower", room, self._device)
        return False

    def _record(self, *inputs: torch.Tensor) -> torch.cuda.CUDAGraph:
        """Record the function without computing anything."""
        graph = torch.cuda.CUDAGraph()
        own = tuple(torch.empty_like(given) for given in inputs)
        with torch.cuda.device(self._device), _without_collection():
            here = torch.cuda.current_stream()
            # A stream of this device: torch's own is of the device that this process first recorded on.
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            try:
                # The thread that reads batches ahead may use the device meanwhile.
                with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                    self._result = self._function(*own)
            except RuntimeError as error:  # what an operation raises that waits for the device
                torch.cuda.set_stream(here)
                raise TrainingError(
                    f"the step cannot be recorded ({one_line(error)}): take training.cuda_graphs=off"
                ) from None
        self._inputs = own
        log.debug("a part of the step is recorded: it is replayed from now on")
        return graph


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Collect garbage now and not meanwhile: to destroy an earlier training's graphs would spoil a recording."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def record_step(step: CycleGANStep) -> None:
    """Let both updates of ``step`` be recorded, as ``training.cuda_graphs`` says.

    ``auto``: on a CUDA device, unless a loss scaler (fp16) or other processes take part. Raises
    :class:`~medcyclegan.errors.TrainingError` for ``on`` where that is not so.
    """
    wish = step.config.training.cuda_graphs
    obstacle = _find_obstacle(step)
    if wish == "on" and obstacle:
        raise TrainingError(f"training.cuda_graphs = on: {obstacle}: take auto or off")
    if wish == "off" or obstacle:
        return
    strict = wish == "on"
    step.generators_update = Recorded(step.update_generators, step.device, strict=strict)
    step.discriminators_update = Recorded(step.update_discriminators, step.device, strict=strict)


def _find_obstacle(step: CycleGANStep) -> str | None:
    if step.device.type != "cuda":
        return f"{step.device.type} is no CUDA device"
    if step.scaler.is_enabled():
        return "precision fp16 has a loss scaler, which decides on the host"
    if step.processes.world > 1:
        return f"{step.processes.world} processes share out each batch"
    return None
