"""Options of how a translation is computed."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypedDict, get_args

from medcyclegan.errors import UsageError
from medcyclegan.inference.runtime.runner import BatchSize

__all__ = ["Backend", "InferenceOptions", "InferenceKeywords", "Planes"]

Backend = Literal["torch", "onnx"]
Planes = Literal["axial", "three"]


class InferenceKeywords(TypedDict, total=False):
    """The fields of :class:`InferenceOptions` as keyword arguments."""

    device: str
    batch_size: BatchSize
    fast: bool
    backend: Backend
    tta: bool
    planes: Planes


@dataclasses.dataclass(frozen=True)
class InferenceOptions:
    """How slices are translated.

    ``device``: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. ``batch_size``: slices at a time, or ``auto``.
    ``fast``: compute in reduced precision (bf16 or fp16) if the device has it. ``backend``: ``torch`` or
    ``onnx`` (ONNX Runtime, on the CPU). ``tta``: also translate each slice mirrored left to right, and
    take the mean. ``planes``: ``axial``, or ``three`` for the median of translations along axial, coronal and
    sagittal slices.

    Raises :class:`~medcyclegan.errors.UsageError` for other values, or values that cannot be combined.
    """

    device: str = "auto"
    batch_size: BatchSize = "auto"
    fast: bool = False
    backend: Backend = "torch"
    tta: bool = False
    planes: Planes = "axial"

    def __post_init__(self) -> None:
        if self.batch_size != "auto" and (not isinstance(self.batch_size, int) or self.batch_size < 1):
            raise UsageError(f"--batch-size {self.batch_size}: use a whole number from 1 on, or auto")
        for name, value, known in (
            ("--backend", self.backend, get_args(Backend)),
            ("--planes", self.planes, get_args(Planes)),
        ):
            if value not in known:
                raise UsageError(f"{name} {value}: use {' or '.join(known)}")
        if self.backend == "onnx" and self.fast:
            raise UsageError("--fast with --backend onnx: ONNX Runtime computes in float32; leave one of them out")
        if self.backend == "onnx" and self.device not in ("auto", "cpu"):
            raise UsageError(f"--device {self.device} with --backend onnx: it computes on the CPU; use --backend torch")

    @property
    def settings(self) -> tuple[str, ...]:
        """Describe the options that change values, for :class:`~medcyclegan.volume.Derivation`."""
        return (
            *(("median of axial, coronal and sagittal translations",) if self.planes == "three" else ()),
            *(("mean with the mirrored slices' translations",) if self.tta else ()),
            *(("computed in reduced precision",) if self.fast else ()),
            *(("computed by ONNX Runtime",) if self.backend == "onnx" else ()),
        )
