"""The number format that is chosen for each device."""

import pytest
import torch

from medcyclegan.errors import TrainingError
from medcyclegan.training.update.precision import choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("features", "expected"), [({"avx512_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32")])
def test_auto_on_a_cpu_is_what_its_hardware_has(monkeypatch, features, expected) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert choose_precision("auto", CPU) == expected


@pytest.mark.parametrize(("major", "expected"), [(9, "bf16"), (8, "bf16"), (7, "fp16")])
def test_auto_on_cuda_is_bf16_from_ampere_on(monkeypatch, major, expected) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 5))
    assert choose_precision("auto", torch.device("cuda")) == expected


def test_a_requested_precision_is_used_and_emulation_is_reported(monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_precision("fp32", CPU) == "fp32"
    assert caplog.text == ""
    assert choose_precision("bf16", CPU) == "bf16"
    assert "emulated" in caplog.text


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(TrainingError, match="fp16 on cpu: it needs a CUDA device"):
        choose_precision("fp16", CPU)
