import logging

import numpy as np
import pytest
import torch
from support.models import tiny_model
from support.phantoms import head_ct

from medcyclegan.config import Generator
from medcyclegan.inference import InferenceOptions, translate
from medcyclegan.inference.runtime.precision import compare, to_reduced_precision
from medcyclegan.networks import build_generator

CPU = torch.device("cpu")


@pytest.fixture
def bf16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


@pytest.mark.parametrize("kind", ["resnet", "unet", "subpixel_unet"])
def test_all_networks_compute_in_bf16_between_their_ends(kind):
    network = build_generator(Generator(kind=kind, filters=4, blocks=1), 32).eval().requires_grad_(False)
    image = torch.rand(1, 1, 32, 32) * 2 - 1
    exact = network(image)
    network = to_reduced_precision(network, torch.bfloat16)
    formats = [m.weight.dtype for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert formats[0] == formats[-1] == torch.float32
    assert set(formats[1:-1]) == {torch.bfloat16}
    short = network(image)
    assert short.dtype == torch.float32
    assert 0 < (short - exact).abs().mean() < 0.05
    assert len(short.unique()) > 512, "not rounded to 8 bits"


def test_the_identity_has_nothing_to_shorten():
    assert isinstance(to_reduced_precision(torch.nn.Identity(), torch.bfloat16), torch.nn.Identity)


def test_the_difference_is_measured_where_something_is_shown():
    slices = torch.full((2, 1, 4, 4), -1.0)
    slices[:, :, 0] = 0.5
    found = compare(lambda x: x, lambda x: torch.where(x > 0, x + 0.01, x + 0.02), slices, half_range=2000, unit="HU")
    assert found.mean == pytest.approx(20, rel=1e-3)
    assert found.largest == pytest.approx(40, rel=1e-3)
    assert str(found) == "20 HU on average, at most 40 HU, on 2 slices"


def test_fast_reports_its_error(bf16, caplog):
    with caplog.at_level(logging.WARNING):
        fast = translate(head_ct(), tiny_model().direction("mr"), InferenceOptions(fast=True))
    exact = translate(head_ct(), tiny_model().direction("mr"), InferenceOptions())
    assert exact.fast is None
    assert f"--fast differs from float32 by {fast.fast}" in caplog.text
    off = np.abs(fast.volume.array - exact.volume.array)
    assert 0 < fast.fast.mean < fast.fast.largest
    assert off.max() == pytest.approx(fast.fast.largest, rel=1)
    assert "computed in reduced precision" in fast.volume.derivation.settings[-1]


def test_fast_without_the_hardware_is_logged_and_exact(monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with caplog.at_level(logging.WARNING):
        fast = translate(head_ct(), tiny_model().direction("mr"), InferenceOptions(fast=True))
    assert "no reduced precision in hardware" in caplog.text
    assert np.array_equal(
        fast.volume.array,
        translate(head_ct(), tiny_model().direction("mr"), InferenceOptions()).volume.array,
    )
