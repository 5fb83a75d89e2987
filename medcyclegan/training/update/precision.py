"""The number format in which the networks compute, depending on the device."""

from __future__ import annotations

import contextlib
import logging
from typing import Literal

import torch

from medcyclegan.device import fast_format
from medcyclegan.errors import TrainingError

__all__ = ["Precision", "autocast", "choose_precision"]

log = logging.getLogger(__name__)

#: A configuration cannot choose ``fp64``. Tests train in it: several processes give the same weights as one only if
#: rounding errors do not grow.
Precision = Literal["fp32", "bf16", "fp16", "fp64"]

_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_NAMES: dict[torch.dtype, Precision] = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def choose_precision(wish: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> Precision:
    """Return the number format for ``device``: the requested one, or for ``auto`` the fastest safe one.

    ``auto`` is bf16 if the hardware supports it (CUDA devices since Ampere, CPUs with AVX512-BF16 or AMX), fp16 on
    older CUDA devices, else fp32. Raises :class:`~medcyclegan.errors.TrainingError` for fp16 on a CPU, where it has no
    advantage.
    """
    fastest = fast_format(device)
    if wish == "auto":
        return _NAMES[fastest]
    if wish == "fp16" and device.type != "cuda":
        raise TrainingError(
            f"training.precision = fp16 on {device.type}: it needs a CUDA device: use auto, bf16 or fp32"
        )
    if wish == "bf16" and fastest != torch.bfloat16:
        log.warning("this %s has no hardware support for bf16: it is emulated and slower than fp32", device.type)
    return wish


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which networks compute in ``precision``; weights stay float32."""
    if precision in ("fp32", "fp64"):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_FORMATS[precision])
