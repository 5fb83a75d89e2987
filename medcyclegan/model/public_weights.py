"""Convert generators trained with the public PyTorch CycleGAN and pix2pix code.

Its ``ResnetGenerator`` is one long ``Sequential`` (``model.1.weight``, …, ``model.10.conv_block.1.weight``), its
``UnetGenerator`` nested blocks (``model.model.1.model.3.model.1.weight``, …). The networks compute the same functions
as ours. Its convolutions before an instance normalization have biases, which the normalization removes, so they are
dropped. (Zhu et al. 2017, arXiv 1703.10593; Isola et al. 2017, arXiv 1611.07004.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

from medcyclegan.config import Generator
from medcyclegan.errors import ModelError

__all__ = ["convert_public_generator"]

Weights = Mapping[str, torch.Tensor]

#: Statistics that old versions stored for instance normalization; evaluation does not use them.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def convert_public_generator(state: Weights) -> tuple[Generator, dict[str, torch.Tensor]]:
    """Return the generator's configuration and our state dict for the state dict of a public generator.

    Accepts ``resnet_6blocks`` and ``resnet_9blocks`` (any number of blocks), ``unet_128`` and ``unet_256``, with one
    channel in and out, instance normalization and any number of filters. Raises
    :class:`~medcyclegan.errors.ModelError`, with the reason, for anything else.
    """
    own = {key.removeprefix("module."): value for key, value in state.items() if not key.endswith(_STATISTICS)}
    for key, value in own.items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not torch.isfinite(value).all():
            raise ModelError(f"{key} does not hold finite numbers: not the state dict of a generator")
        if key.endswith(".weight") and value.ndim == 1:
            raise ModelError(f"{key} belongs to a batch normalization: only generators with --norm instance fit")
    if "model.model.0.weight" in own:
        return _convert_unet(own)
    if "model.1.weight" in own and "model.10.conv_block.1.weight" in own:
        return _convert_resnet(own)
    raise ModelError(
        "not the state dict of a ResnetGenerator or UnetGenerator of the public CycleGAN code: name the files "
        "latest_net_G_A.pth and latest_net_G_B.pth of its checkpoints folder"
    )


def _convert_resnet(state: Weights) -> tuple[Generator, dict[str, torch.Tensor]]:
    """Convert ten layers, the blocks and nine layers; padding and dropout layers in a block count too."""
    blocks = sorted({int(match[1]) for key in state if (match := re.match(r"model\.(\d+)\.conv_block\.", key))})
    last = blocks[-1]
    names = {"encoder.1": "model.1", "encoder.4": "model.4", "encoder.7": "model.7"}
    for number, place in enumerate(blocks):
        inside = sorted(
            {int(k.split(".")[3]) for k in state if re.fullmatch(rf"model\.{place}\.conv_block\.\d+\.weight", k)}
        )
        if len(inside) != 2:
            raise ModelError(f"model.{place}.conv_block holds {len(inside)} convolutions: a ResNet block has 2")
        for ours, theirs in zip((1, 5), inside, strict=True):
            names[f"blocks.{number}.layers.{ours}"] = f"model.{place}.conv_block.{theirs}"
    names |= {"decoder.0": f"model.{last + 1}", "decoder.3": f"model.{last + 4}", "decoder.7": f"model.{last + 8}"}
    weights = {f"{ours}.weight": _take(state, f"{theirs}.weight") for ours, theirs in names.items()}
    weights["decoder.7.bias"] = _take(state, f"model.{last + 8}.bias")
    _check_all_used(state, names.values())
    _check_channels(weights["encoder.1.weight"].shape[1], weights["decoder.7.weight"].shape[0])
    return Generator(kind="resnet", filters=weights["encoder.1.weight"].shape[0], blocks=len(blocks)), weights


def _convert_unet(state: Weights) -> tuple[Generator, dict[str, torch.Tensor]]:
    """Convert nested blocks: the outermost has its inner block at index 1, the others at index 3."""
    weights = {"down.0.weight": _take(state, "model.model.0.weight"), "down.0.bias": _take(state, "model.model.0.bias")}
    used, ups, prefix, level = ["model.model.0", "model.model.3"], [], "model.model.1", 1
    while True:
        deepest = f"{prefix}.model.5.weight" not in state
        down, up = f"{prefix}.model.1", f"{prefix}.model.{3 if deepest else 5}"
        weights[f"down.{level}.1.weight"] = _take(state, f"{down}.weight")
        ups.append(_take(state, f"{up}.weight"))
        used += [down, up]
        if deepest:
            weights[f"down.{level}.1.bias"] = _take(state, f"{down}.bias")
            break
        prefix, level = f"{prefix}.model.3", level + 1
    for number, weight in enumerate(reversed(ups)):
        weights[f"up.{number}.1.weight"] = weight if number == 0 else _features_first(weight)
    weights["last.1.weight"] = _features_first(_take(state, "model.model.3.weight"))
    weights["last.1.bias"] = _take(state, "model.model.3.bias")
    _check_all_used(state, used)
    _check_channels(weights["down.0.weight"].shape[1], weights["last.1.weight"].shape[1])
    return Generator(kind="unet", filters=weights["down.0.weight"].shape[0]), weights


def _features_first(weight: torch.Tensor) -> torch.Tensor:
    """Swap the halves of a convolution's inputs: the skip connection is first in the public code and last in ours."""
    skip, features = weight.chunk(2, dim=0)
    return torch.cat([features, skip])


def _take(state: Weights, key: str) -> torch.Tensor:
    if key not in state:
        raise ModelError(f"{key} is missing: not a complete generator of the public CycleGAN code")
    return state[key].detach().float()


def _check_all_used(state: Weights, layers: Iterable[str]) -> None:
    known = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    unknown = sorted(state.keys() - known)
    if unknown:
        raise ModelError(f"{unknown[0]} is not part of the supported public generators, resnet and unet")


def _check_channels(read: int, written: int) -> None:
    if (read, written) != (1, 1):
        raise ModelError(
            f"the generator translates {read} channels to {written}, but slices have one: train it with --input_nc 1 "
            "--output_nc 1, because colors have no unit"
        )
