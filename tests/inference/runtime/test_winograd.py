from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from medcyclegan.inference.runtime import winograd
from medcyclegan.inference.runtime.cpu_layout import tune_for_cpu
from medcyclegan.inference.runtime.winograd import WinogradConvolution, winograd_pays

OPERATORS = ("_convolution_pointwise", "_reorder_convolution_weight")
needs_onednn = pytest.mark.skipif(
    not all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS), reason="needs oneDNN's operators"
)


def direct(x, convolution, dtype):
    padded = functional.pad(x.to(dtype), (1, 1, 1, 1), mode="reflect")
    return functional.conv2d(padded, convolution.weight.to(dtype))


def smooth(shape):
    """Return feature maps like a generator's: rectified, and similar from pixel to pixel."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return functional.avg_pool2d(functional.pad(noise, (2, 2, 2, 2), mode="circular"), 5, 1).relu()


@needs_onednn
@pytest.mark.parametrize("size", [(16, 16), (8, 20), (13, 18), (15, 3), (2, 5), (64, 52)])
def test_it_is_a_padded_convolution_of_any_size(size):
    convolution = torch.nn.Conv2d(24, 40, 3, bias=False)
    x = smooth((2, 24, *size))
    with torch.inference_mode():
        exact = direct(x, convolution, torch.float64)
        found = WinogradConvolution(convolution)(x.float().contiguous(memory_format=torch.channels_last))
    assert found.shape == exact.shape
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-5 * exact.abs().max()


@needs_onednn
def test_strips_do_not_show(monkeypatch):
    convolution = torch.nn.Conv2d(8, 8, 3, bias=False)
    x = smooth((1, 8, 40, 24)).float()
    with torch.inference_mode():
        whole = WinogradConvolution(convolution)(x)
        for strip in (1, 7, 13, 30):
            monkeypatch.setattr(winograd, "_STRIP", strip)
            assert (WinogradConvolution(convolution)(x) - whole).abs().max() < 1e-6


@needs_onednn
@pytest.mark.parametrize(("dtype", "factor"), [(torch.float32, 4.0), (torch.bfloat16, 2.5)])
def test_it_rounds_about_as_a_direct_convolution_does(dtype, factor):
    """With other interpolation points, such as 0, 1, -1, 2, -2, the error in bf16 would exceed this."""
    convolution = torch.nn.Conv2d(64, 64, 3, bias=False)
    x = smooth((1, 64, 32, 32))
    with torch.inference_mode():
        exact = direct(x, convolution, torch.float64)
        ours, theirs = WinogradConvolution(convolution, dtype)(x.to(dtype)), direct(x, convolution, dtype)
    assert (ours - exact).abs().mean() < factor * (theirs - exact).abs().mean()


def test_it_is_for_wide_plain_convolutions_only(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    monkeypatch.setattr(winograd.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**dict.fromkeys(OPERATORS)))
    wide = torch.nn.Conv2d(128, 256, 3, bias=False)
    assert winograd_pays(wide, torch.float32)
    assert winograd_pays(wide, torch.bfloat16)
    for other in (
        torch.nn.Conv2d(64, 256, 3, bias=False),
        torch.nn.Conv2d(256, 512, 3, bias=False),
        torch.nn.Conv2d(128, 128, 3),
        torch.nn.Conv2d(128, 128, 3, stride=2, bias=False),
        torch.nn.Conv2d(128, 128, 3, padding=1, bias=False),
        torch.nn.Conv2d(128, 128, 4, bias=False),
    ):
        assert not winograd_pays(other, torch.float32)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": True})
    assert winograd_pays(wide, torch.float32)
    assert not winograd_pays(wide, torch.bfloat16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert not winograd_pays(wide, torch.float32)


@pytest.mark.parametrize("missing", OPERATORS)
def test_without_one_of_the_operators_convolutions_stay_as_they_are(monkeypatch, missing):
    """The operators are internal to torch: a version that lacks one must still translate."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    monkeypatch.setattr(winograd.platform, "machine", lambda: "x86_64")
    left = {name: None for name in OPERATORS if name != missing}
    network = torch.nn.Sequential(torch.nn.ReflectionPad2d(1), torch.nn.Conv2d(128, 128, 3, bias=False))
    x = smooth((1, 128, 12, 12)).float()
    with torch.inference_mode():
        expected = network(x)
        with monkeypatch.context() as patch:
            patch.setattr(torch.ops, "mkldnn", SimpleNamespace(**left))
            tuned = tune_for_cpu(network)
        assert not any(isinstance(module, WinogradConvolution) for module in tuned.modules())
        assert (tuned(x) - expected).abs().max() < 1e-5
