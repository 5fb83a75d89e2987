"""The reduced precision that a device has in hardware."""

import pytest
import torch

from medcyclegan.device import fast_format

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_cpu_has_bf16_if_it_has_instructions_for_it(monkeypatch, features, expected) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert fast_format(CPU) == expected


@pytest.mark.parametrize(("major", "expected"), [(9, torch.bfloat16), (8, torch.bfloat16), (7, torch.float16)])
def test_cuda_devices_have_bf16_from_ampere_on_and_fp16_before(monkeypatch, major, expected) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 5))
    assert fast_format(torch.device("cuda")) == expected
