"""Synthetic heads sliced for training, and generators that fail on them, each in one known way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from medcyclegan.config import Config, parse_config
from medcyclegan.data import StackReader
from medcyclegan.io import write_volume
from medcyclegan.manifest import load_manifest
from medcyclegan.phantom import make_head, t1_volume, t2_volume
from medcyclegan.slicing import slice_volumes

SIZE = 128
#: Images whose intensities are in the tables below.
_KNOTS = 65


def config(steps: int, **losses) -> Config:
    """Return small networks on synthetic heads: a health check every tenth of the steps."""
    values = {
        "slicing": {"size": SIZE, "pixel_mm": 2.0},
        "networks": {"generator": {"filters": 4, "blocks": 1}, "discriminator": {"filters": 8, "layers": 2}},
        "losses": losses,
        "training": {"max_steps": steps, "panel_every": steps // 10, "log_every": 5, "learning_rate": 2e-3},
    }
    values["training"] |= {"precision": "fp32", "checkpoint_steps": 10 * steps, "pool_size": 0}
    return parse_config(values, "test")


def make_heads(folder: Path, count: int = 3) -> Path:
    """Write T1 and T2 of ``count`` synthetic heads each, of different subjects, and slice them; return the store."""
    for number in range(count):
        for domain, seed, image in (("t1", 10 + number, t1_volume), ("t2", 20 + number, t2_volume)):
            head = make_head(seed, shape=(96, 120, 20), spacing_mm=(2.0, 2.0, 8.0))
            write_volume(image(head), folder / "volumes" / domain / f"sub-{number}_{domain}.nii.gz")
    slice_volumes(folder / "volumes", folder / "slices", config=config(10))
    return folder / "slices"


def paired_tables() -> tuple[Table, Table]:
    """Return the best pixel by pixel translation of synthetic heads, T1 to T2 and back, from a pair."""
    head = make_head(30, shape=(96, 120, 20), spacing_mm=(2.0, 2.0, 8.0))
    scaled = []
    for volume in (t1_volume(head), t2_volume(head)):
        low, high = np.percentile(volume.array[head.labels > 0], (0.5, 99.5))
        scaled.append(np.clip(2 * (volume.array - low) / (high - low) - 1, -1, 1).ravel())
    return Table.fitted(scaled[0], scaled[1]), Table.fitted(scaled[1], scaled[0])


class Table(nn.Module):
    """A curve from grey level to grey level: the mean output of each input level."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("values", torch.from_numpy(values))

    @classmethod
    def fitted(cls, source: NDArray[np.float32], target: NDArray[np.float32]) -> Table:
        places = np.clip(np.round((source + 1) / 2 * (_KNOTS - 1)).astype(int), 0, _KNOTS - 1)
        sums = np.bincount(places, target, minlength=_KNOTS)
        counts = np.bincount(places, minlength=_KNOTS)
        known = np.flatnonzero(counts)
        return cls(np.interp(np.arange(_KNOTS), known, sums[known] / counts[known]).astype(np.float32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        place = (images.clamp(-1, 1) + 1) / 2 * (_KNOTS - 1)
        low = place.floor().clamp(max=_KNOTS - 2)
        left, right = self.values[low.long()], self.values[low.long() + 1]
        return left + (right - left) * (place - low)


class Inverted(nn.Module):
    """Its network's output with bright and dark exchanged inside the head; air stays dark."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        fakes = self.network(images)
        return torch.where(_head(images), -fakes.clamp(-1, 1) * 0.9, fakes)


class HalfWay(nn.Module):
    """The mean of its network's output and the input: a contrast that stays half-way."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 0.5 * (self.network(images) + images)


class Shifted(nn.Module):
    """Its network's output, moved by whole pixels (rows, columns)."""

    def __init__(self, network: nn.Module, pixels: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.pixels = network, pixels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.roll(self.network(images), self.pixels, (2, 3))


class Halo(nn.Module):
    """Its network's output with a bright ring around the head, as a scalp that moved outwards."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        head = _head(images).float()
        ring = (functional.max_pool2d(head, 13, 1, 6) - functional.max_pool2d(head, 9, 1, 4)) > 0
        return torch.where(ring, torch.full_like(images, 0.3), self.network(images))


class Noisy(nn.Module):
    """Its network's output with noise inside the head, the same in each call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
        return torch.where(_head(images), (self.network(images) + 0.2 * noise).clamp(-1, 1), -1.0)


class OtherAnatomy(nn.Module):
    """Returns the same picture for every input: mode collapse."""

    def __init__(self, picture: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("picture", torch.from_numpy(picture))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.picture.expand_as(images)


class Hiding(nn.Module):
    """Its network's output in 8 bits, with the input written below the eighth bit."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return _to_8_bit(self.network(images)) + 0.003 * images


class Finding(nn.Module):
    """The other generator, which reads what :class:`Hiding` wrote."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - _to_8_bit(images)) / 0.003


def _to_8_bit(images: torch.Tensor) -> torch.Tensor:
    return torch.round((images + 1) * 127.5) / 127.5 - 1


def _head(images: torch.Tensor) -> torch.Tensor:
    """Return where the patient is: bright pixels and those between them."""
    grown = functional.max_pool2d((images > -0.8).float(), 21, 1, 10)
    return -functional.max_pool2d(-grown, 21, 1, 10) > 0


def failing_pairs(store: Path) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Return pairs of generators (T1 to T2, T2 to T1) by what is wrong with the first."""
    there, back = paired_tables()
    row = next(row for row in load_manifest(store) if row.domain == "t2")
    picture = StackReader(store).read(row, 2)
    return {
        "nothing": (there, back),
        "identity collapse": (nn.Identity(), nn.Identity()),
        "contrast inversion": (Inverted(there), back),
        "half-way contrast": (HalfWay(there), back),
        "hidden signal": (Hiding(there), Finding()),
        "edges lost": (OtherAnatomy(picture), back),
        "displacement": (Shifted(there, (2, -1)), Shifted(back, (-2, 1))),
        "signal outside the head": (Halo(there), back),
        "noise": (Noisy(there), back),
    }
