"""The choice of a device and the reduced precision that it has in hardware."""

import pytest
import torch

from medcyclegan.device import choose_device, fast_format, is_out_of_memory, log_fallback

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


def test_the_fallback_to_the_cpu_is_logged_once_and_only_on_request(monkeypatch, caplog) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    assert caplog.text == ""
    log_fallback.cache_clear()
    log_fallback()
    log_fallback()
    assert caplog.text.count("no CUDA device: computing on the CPU") == 1


def test_running_out_of_memory_is_recognized_on_the_cpu_and_on_a_device():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
