"""Panels: slices and the outputs of the networks, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medcyclegan.pictures.drawing import grey_tile, heat_tile, join, labelled

__all__ = ["comparison_panel", "training_panel"]

#: Rows of a training panel: a slice of a domain, its translation, its reconstruction, its identity pass.
_ROWS = (("real_A", "fake_B", "rec_A", "idt_A"), ("real_B", "fake_A", "rec_B", "idt_B"))
_SMALLEST = 192


def training_panel(images: Mapping[str, NDArray[Any]], domains: tuple[str, str]) -> Image.Image:
    """Return the panel of a training step: real, fake, reconstruction and identity, A above B.

    ``domains``: the names of A and B, for the titles.

    ``images`` holds ``real_A fake_B rec_A idt_A real_B fake_A rec_B idt_B``, each ``(H, W)`` in
    [-1, 1]. The two identity images may be missing (identity weight 0); their tiles are then left out.
    """
    rows = []
    for names, (own, other) in zip(_ROWS, (domains, domains[::-1]), strict=True):
        titles = (f"{own}, real", f"{own} to {other}", f"back to {own}", f"{own} to {own}")
        tiles = zip(names, titles, strict=True)
        rows.append([labelled(_enlarged(images[name]), title) for name, title in tiles if name in images])
    return join(rows)


def comparison_panel(
    rows: Sequence[Mapping[str, NDArray[Any]]],
    *,
    ranges: Mapping[str, tuple[float, float]],
    error_range: float,
    unit: str = "",
    names: Sequence[str] = ("input", "fake", "truth"),
) -> Image.Image:
    """Return rows of planes, by default input | fake | truth, each followed by the error |fake - truth|.

    Each row holds planes ``(H, W)``, which are shown in the order of ``names``: ``input``, ``fake``, ``truth`` and
    others; ``ranges`` gives, for each name, the values shown black and white, and ``error_range`` the error shown
    white, in ``unit``.
    """
    tiles = []
    for row in rows:
        line = [labelled(_enlarged(row[name], ranges[name]), name) for name in names]
        error = np.abs(np.asarray(row["fake"], dtype=np.float32) - np.asarray(row["truth"], dtype=np.float32))
        title = f"error, 0 to {error_range:.4g} {unit}".rstrip()
        line.append(labelled(heat_tile(error, error_range, size=_size(error)), title))
        tiles.append(line)
    return join(tiles)


def _enlarged(plane: NDArray[Any], limits: tuple[float, float] = (-1.0, 1.0)) -> Image.Image:
    return grey_tile(plane, limits[0], limits[1], size=_size(plane))


def _size(plane: NDArray[Any]) -> tuple[int, int]:
    """Return width and height in pixels; small slices are enlarged by a whole factor."""
    times = max(1, -(-_SMALLEST // max(plane.shape)))
    return plane.shape[1] * times, plane.shape[0] * times
