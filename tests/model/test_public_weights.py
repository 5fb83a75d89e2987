"""Generators of the public code, rebuilt here from their description, compared with ours after conversion."""

import pytest
import torch
from torch import nn

from medcyclegan.errors import ModelError
from medcyclegan.model.public_weights import convert_public_generator
from medcyclegan.networks import build_generator


class Block(nn.Module):
    """Two padded 3 x 3 convolutions with instance norm, ReLU and optional dropout between, added to the input."""

    def __init__(self, width: int, *, dropout: bool) -> None:
        super().__init__()
        layers = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(True)]
        layers += [nn.Dropout(0.5)] if dropout else []
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv_block(x)


class PublicResnet(nn.Module):
    """One Sequential named ``model``; every convolution has a bias, because the norm has no affine terms."""

    def __init__(self, width: int, blocks: int, *, channels: int = 1, dropout: bool = False) -> None:
        super().__init__()
        w = width
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels, w, 7), nn.InstanceNorm2d(w), nn.ReLU(True)]
        for narrow in (w, 2 * w):
            layers += [nn.Conv2d(narrow, 2 * narrow, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * narrow)]
            layers += [nn.ReLU(True)]
        layers += [Block(4 * w, dropout=dropout) for _ in range(blocks)]
        for wide in (4 * w, 2 * w):
            layers += [nn.ConvTranspose2d(wide, wide // 2, 3, stride=2, padding=1, output_padding=1)]
            layers += [nn.InstanceNorm2d(wide // 2), nn.ReLU(True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(w, channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class Skip(nn.Module):
    """A U-Net level around the next deeper one; its input is concatenated before its output."""

    def __init__(self, outer: int, inner: int, deeper: nn.Module | None, kind: str) -> None:
        super().__init__()
        self.outermost = kind == "outermost"
        channels = 1 if self.outermost else outer
        down = nn.Conv2d(channels, inner, 4, stride=2, padding=1)
        up = nn.ConvTranspose2d(inner if deeper is None else 2 * inner, channels, 4, stride=2, padding=1)
        if self.outermost:
            layers = [down, deeper, nn.ReLU(True), up, nn.Tanh()]
        elif deeper is None:
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, nn.InstanceNorm2d(outer)]
        else:
            layers = [nn.LeakyReLU(0.2, True), down, nn.InstanceNorm2d(inner), deeper]
            layers += [nn.ReLU(True), up, nn.InstanceNorm2d(outer)]
            layers += [nn.Dropout(0.5)] if kind == "dropout" else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class PublicUnet(nn.Module):
    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        block = Skip(8 * width, 8 * width, None, "innermost")
        for _ in range(levels - 5):
            block = Skip(8 * width, 8 * width, block, "dropout")
        for outer in (4 * width, 2 * width, width):
            block = Skip(outer, 2 * outer, block, "plain")
        self.model = Skip(1, width, block, "outermost")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


def initialised(network: nn.Module, seed: int = 0) -> nn.Module:
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.1, generator=random)
    return network.eval()


def noise(size: int) -> torch.Tensor:
    return torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


CASES = {
    "resnet_6blocks": (lambda: PublicResnet(8, 6), 64),
    "resnet_9blocks": (lambda: PublicResnet(8, 9), 64),
    "resnet_9blocks with dropout": (lambda: PublicResnet(8, 9, dropout=True), 64),
    "unet_128": (lambda: PublicUnet(4, 7), 128),
    "unet_256": (lambda: PublicUnet(4, 8), 256),
}


@pytest.mark.parametrize("name", CASES)
def test_the_output_is_the_same(name) -> None:
    build, size = CASES[name]
    theirs = initialised(build())
    config, weights = convert_public_generator(theirs.state_dict())
    ours = build_generator(config, size).eval()
    ours.load_state_dict(weights)
    with torch.no_grad():
        expected = theirs(noise(size))
        assert expected.std() > 0.05  # neither constant nor saturated
        torch.testing.assert_close(ours(noise(size)), expected, rtol=0, atol=1e-5)


def test_the_keys_are_those_of_the_public_files() -> None:
    resnet, unet = PublicResnet(2, 9).state_dict(), PublicUnet(2, 8).state_dict()
    assert {"model.1.weight", "model.10.conv_block.5.bias", "model.19.weight", "model.26.bias"} <= resnet.keys()
    deepest = "model.model.1" + 6 * ".model.3" + ".model"
    assert {"model.model.0.weight", f"{deepest}.1.weight", f"{deepest}.3.bias", "model.model.3.bias"} <= unet.keys()
    assert f"{deepest}.5.weight" not in unet


def test_the_shape_is_read_from_the_weights() -> None:
    config, _ = convert_public_generator(PublicResnet(8, 6).state_dict())
    assert (config.kind, config.filters, config.blocks) == ("resnet", 8, 6)
    config, _ = convert_public_generator(PublicUnet(4, 7).state_dict())
    assert (config.kind, config.filters) == ("unet", 4)


def test_old_files_hold_statistics_that_do_not_count_and_a_prefix() -> None:
    state = initialised(PublicResnet(2, 6)).state_dict()
    old = {f"module.{key}": value for key, value in state.items()}
    old |= {"module.model.2.running_mean": torch.ones(2), "module.model.2.num_batches_tracked": torch.tensor(5)}
    _, expected = convert_public_generator(state)
    _, weights = convert_public_generator(old)
    assert all(torch.equal(weights[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"model.2.weight": torch.ones(2)}, "batch normalization"),
        (lambda s: {k: v for k, v in s.items() if k != "model.26.bias"}, r"model.26.bias is missing"),
        (lambda s: s | {"model.30.weight": torch.ones(2, 2, 3, 3)}, r"model.30.weight is not part"),
        (lambda s: s | {"model.1.weight": torch.full((2, 1, 7, 7), torch.nan)}, "does not hold finite numbers"),
        (lambda s: s | {"epoch": 5}, "epoch does not hold finite numbers"),
        (lambda s: {"weight": torch.ones(2, 2)}, "not the state dict of a ResnetGenerator"),
        (lambda s: PublicResnet(2, 9, channels=3).state_dict(), "3 channels to 3.*--input_nc 1"),
    ],
)
def test_anything_else_is_refused_by_name(change, message) -> None:
    with pytest.raises(ModelError, match=message):
        convert_public_generator(change(PublicResnet(2, 9).state_dict()))
