"""Choose the device to compute on, and find the number formats that its hardware has."""

from __future__ import annotations

import functools
import logging

import torch

from medcyclegan.errors import UsageError

__all__ = ["choose_device", "fast_format", "is_out_of_memory", "log_fallback"]

log = logging.getLogger(__name__)


def choose_device(name: str = "auto") -> torch.device:
    """Return the device ``name``; ``"auto"`` is CUDA if available, else the CPU.

    Raises :class:`~medcyclegan.errors.UsageError` for a device that is unknown or not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: write auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: write auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: no CUDA device is available here: use --device cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: {torch.cuda.device_count()} CUDA devices are here, counted from 0")
    return device


@functools.cache
def log_fallback() -> None:
    """Log that there is no CUDA device, once per process.

    It is called where work on a CPU begins that takes much longer there, and only if ``auto`` chose the CPU.
    """
    log.info("no CUDA device: computing on the CPU")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether PyTorch could not allocate memory; on the CPU it raises a plain RuntimeError with this text."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def fast_format(device: torch.device) -> torch.dtype:
    """Return the reduced precision that ``device`` has in hardware, or float32 if it has none.

    bf16 on CUDA devices from Ampere on and on CPUs with AVX512-BF16 or AMX, fp16 on older CUDA devices.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    features = torch.cpu.get_capabilities()
    has_bf16 = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return torch.bfloat16 if has_bf16 else torch.float32
