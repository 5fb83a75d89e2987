import pytest
import torch

from medcyclegan.config import Generator
from medcyclegan.inference.runtime.cpu_layout import CentredNorm, NarrowConvolution, tune_for_cpu
from medcyclegan.inference.runtime.winograd import WinogradConvolution
from medcyclegan.networks import InstanceNorm, build_generator


def build(kind, upsampling="transposed"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(Generator(kind=kind, filters=4, blocks=2, upsampling=upsampling), 64)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("kind", ["resnet", "unet", "subpixel_unet"])
def test_a_tuned_generator_is_the_same_function(kind, upsampling):
    image = torch.rand(2, 1, 64, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    plain, tuned = build(kind, upsampling), tune_for_cpu(build(kind, upsampling))
    before = image.clone()
    with torch.inference_mode():
        assert (plain(image) - tuned(image)).abs().max() < 1e-5
    assert torch.equal(image, before)


@pytest.mark.parametrize(("few", "expected"), [(False, 4), (True, 0)])
def test_wide_residual_blocks_are_computed_by_winograd(few, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain, tuned = (build_generator(Generator(filters=32, blocks=2), 64).eval() for _ in range(2))
    tuned.load_state_dict(plain.state_dict())
    image = torch.rand(1, 1, 64, 72, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        tuned = tune_for_cpu(tuned, few=few)
        assert sum(isinstance(m, WinogradConvolution) for m in tuned.modules()) == expected
        assert (plain(image) - tuned(image)).abs().max() < 1e-5


@pytest.mark.parametrize("few", [False, True])
def test_normalizations_and_the_last_convolution_are_replaced(few):
    layers = [type(module) for module in tune_for_cpu(build("resnet"), few=few).modules()]
    norms = sum(isinstance(module, InstanceNorm) for module in build("resnet").modules())
    assert (layers.count(CentredNorm), layers.count(NarrowConvolution)) == (norms, 1)
    assert InstanceNorm not in layers


@pytest.mark.parametrize("kind", ["resnet", "unet", "subpixel_unet"])
def test_a_slice_of_air_keeps_its_precision(kind):
    """Noise of 0.004 around -1, the air of a CT: in one pass, its variance is lost in the squared mean."""
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    air = (-1 + 0.004 * noise).float()
    with torch.inference_mode():
        exact = build(kind).double()(air.double())
        assert (tune_for_cpu(build(kind))(air) - exact).abs().max() < 5e-4


@pytest.mark.parametrize("value", [-1.0, 0.3, 1.0])
@pytest.mark.parametrize("few", [False, True])
def test_a_constant_slice_stays_constant(value, few):
    """A constant channel leaves the rounding error of its mean, which each normalization amplifies 316 times."""
    image = torch.full((1, 1, 64, 64), value)
    with torch.inference_mode():
        exact = build("resnet").double()(image.double())
        assert (tune_for_cpu(build("resnet"), few=few)(image) - exact).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(2, 9, 16, 12), (1, 9, 7, 5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_normalisation_does_not_depend_on_the_layout(shape, layout, cut):
    x = torch.randn(shape).contiguous(memory_format=layout)[:, :, : shape[2] - cut, : shape[3] - cut]
    with torch.inference_mode():
        expected = torch.nn.functional.instance_norm(x.double())
        assert (CentredNorm(InstanceNorm(9))(x) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("bias", [True, False])
def test_a_narrow_convolution_is_a_convolution(bias):
    convolution = torch.nn.Conv2d(5, 1, (7, 5), bias=bias)
    x = torch.randn(3, 5, 20, 30)
    with torch.inference_mode():
        assert (NarrowConvolution(convolution)(x) - convolution(x)).abs().max() < 1e-5


def test_a_flat_channel_keeps_its_precision():
    """A standard deviation of 0.01 around 1, channels last: torch's own normalization errs by over 0.1."""
    flat = 1 + 0.01 * torch.randn(1, 64, 256, 256, generator=torch.Generator().manual_seed(1))
    flat = flat.contiguous(memory_format=torch.channels_last)
    exact = torch.nn.functional.instance_norm(flat.double())
    with torch.inference_mode():
        assert (CentredNorm(InstanceNorm(64))(flat.clone()) - exact).abs().max() < 1e-3
