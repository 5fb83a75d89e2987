"""PatchGAN and the classifier: shapes, parameter counts, receptive fields."""

import pytest
import torch
from torch import nn

from medcyclegan.config import Discriminator
from medcyclegan.errors import ConfigError
from medcyclegan.networks import ClassifierDiscriminator, InstanceNorm, PatchDiscriminator, build_discriminator


def test_patchgan_is_the_published_one() -> None:
    network = build_discriminator(Discriminator(), 256)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 128, 256, 512, 1]
    assert [m.stride[0] for m in convolutions] == [2, 2, 2, 1, 1]
    assert {m.kernel_size for m in convolutions} == {(4, 4)}
    assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert [m.channels for m in network.modules() if isinstance(m, InstanceNorm)] == [128, 256, 512]
    assert not any(isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d) for m in network.modules())
    assert sum(p.numel() for p in network.parameters()) == 2_761_793
    assert network(torch.zeros(1, 1, 256, 256)).shape == (1, 1, 30, 30)


def test_a_logit_of_patchgan_sees_70_x_70_pixels() -> None:
    network = build_discriminator(Discriminator(filters=2), 256)
    for module in network.modules():
        if isinstance(module, InstanceNorm):  # it sees the whole map: left out to measure the convolutions
            module.forward = lambda x: x
    image = torch.randn(1, 1, 256, 256, requires_grad=True)
    network(image)[0, 0, 15, 15].backward()
    rows = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 70


def test_logits_are_plain_tensors_without_a_squashing_function() -> None:
    torch.manual_seed(0)
    for network in (PatchDiscriminator(64, filters=4), ClassifierDiscriminator(64, filters=4)):
        with torch.no_grad():
            list(network.parameters())[-1].fill_(-5.0)  # the last bias
        logits = network(torch.randn(2, 1, 64, 64))
        assert type(logits) is torch.Tensor
        assert (logits < -1).all()


@pytest.mark.parametrize("size", [32, 64, 100, 128, 256, 320])
def test_classifier_gives_one_logit_an_image(size: int) -> None:
    network = build_discriminator(Discriminator(kind="classifier", filters=4), size)
    assert network(torch.randn(3, 1, size, size)).shape == (3, 1)
    assert network(torch.randn(3, 1, 2 * size, size)).shape == (3, 1)
    assert network.features(torch.zeros(1, 1, size, size)).shape[-1] in range(5, 9)


def test_classifier_at_256_has_five_strided_layers() -> None:
    network = build_discriminator(Discriminator(kind="classifier"), 256)
    assert [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)] == [64, 128, 256, 512, 512]


@pytest.mark.parametrize(("size", "layers"), [(32, 3), (48, 4), (96, 5), (192, 6)])
def test_the_smallest_slices_of_a_patchgan(size: int, layers: int) -> None:
    assert PatchDiscriminator(size, 2, layers)(torch.zeros(1, 1, size, size)).numel() >= 1
    with pytest.raises(ConfigError, match=r"layers = \d leaves nothing"):
        PatchDiscriminator(size - 4 if layers > 3 else 20, 2, layers)
