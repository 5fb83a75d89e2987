"""CUDA graphs: the kernels of a step on a CUDA device, captured once and replayed.

With small batches a GPU finishes its thousands of small kernels sooner than the host can launch them one by one. A
graph launches them all at once. The kernels are the same, and so are the numbers.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch

from medcyclegan.config import Config
from medcyclegan.errors import TrainingError, one_line

__all__ = ["CapturedFunction", "wants_graphs"]

log = logging.getLogger(__name__)

#: Eager calls before the capture, required by torch's notes on CUDA graphs: optimizers and libraries allocate memory.
_EAGER = 3

Result = TypeVar("Result")


class CapturedFunction(Generic[Result]):
    """A function of tensors on a CUDA ``device`` that is captured at its fourth call and replayed from then on.

    Its inputs keep their shapes and types; the next call overwrites what it returned. If the device has too little free
    memory for a capture, the function stays eager and a warning is logged once; with ``strict`` that is a
    :class:`~medcyclegan.errors.TrainingError`. A capture that fails always is one.
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
        """Whether the function has been captured."""
        return self._graph is not None

    def __call__(self, *inputs: torch.Tensor) -> Result:
        """Call the function, or replay it on ``inputs``."""
        self._calls += 1
        if self._calls <= _EAGER:
            return self._call_aside(*inputs)
        if self._calls == _EAGER + 1 and self._has_memory():
            self._graph = self._capture(*inputs)
        if self._graph is None:
            return self._function(*inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result

    def _call_aside(self, *inputs: torch.Tensor) -> Result:
        """Call the function on a side stream, as required before a capture."""
        with torch.cuda.device(self._device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                result = self._function(*inputs)
            here.wait_stream(aside)
        return result

    def _has_memory(self) -> bool:
        """Return whether the free memory is at least twice what the eager calls needed temporarily."""
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self._device)
        taken = torch.cuda.max_memory_allocated(self._device) - torch.cuda.memory_allocated(self._device)
        if free >= 2 * taken:
            return True
        memory = f"{2 * taken / 2**30:.2f} GiB are needed and {free / 2**30:.2f} GiB are free"
        if self._strict:
            raise TrainingError(
                f"training.cuda_graphs = on: too little memory on {self._device} ({memory}): set it to auto or off"
            )
        log.warning(
            "no CUDA graphs are used (%s on %s): results are the same, but training is slower", memory, self._device
        )
        return False

    def _capture(self, *inputs: torch.Tensor) -> torch.cuda.CUDAGraph:
        """Capture the function without computing anything."""
        graph = torch.cuda.CUDAGraph()
        own = tuple(torch.empty_like(given) for given in inputs)
        with torch.cuda.device(self._device), _without_collection():
            here = torch.cuda.current_stream()
            # A stream of this device: torch's default one belongs to the device of the first capture in this process.
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            try:
                # The thread that prefetches batches may use the device at the same time.
                with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                    self._result = self._function(*own)
            except RuntimeError as error:  # raised by an operation that waits for the device
                torch.cuda.set_stream(here)
                raise TrainingError(
                    f"the step cannot be captured as a CUDA graph ({one_line(error)}): set training.cuda_graphs=off"
                ) from None
        self._inputs = own
        log.debug("a part of the step is captured as a CUDA graph and replayed from now on")
        return graph


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Collect garbage now and not during the capture: destroying graphs of an earlier training would invalidate it."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def wants_graphs(config: Config, device: torch.device, precision: str, world_size: int) -> bool:
    """Return whether a step runs as CUDA graphs, according to ``training.cuda_graphs``.

    ``auto``: on a CUDA device, except with a loss scaler (fp16) or several processes. Raises
    :class:`~medcyclegan.errors.TrainingError` for ``on`` if one of these forbids it.
    """
    wish = config.training.cuda_graphs
    obstacle = _find_obstacle(device, precision, world_size)
    if wish == "on" and obstacle:
        raise TrainingError(f"training.cuda_graphs = on: {obstacle}: set it to auto or off")
    return wish != "off" and obstacle is None


def _find_obstacle(device: torch.device, precision: str, world_size: int) -> str | None:
    if device.type != "cuda":
        return f"{device.type} is not a CUDA device"
    if precision == "fp16":
        return "precision fp16 needs a loss scaler, which decides on the host"
    if world_size > 1:
        return f"the batch is divided among {world_size} processes"
    return None
