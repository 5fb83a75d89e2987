"""Contact sheets: the slices of a domain, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medcyclegan.pictures.drawing import LINE, draw_text, grey_tile, join, text_width

__all__ = ["contact_sheet"]

_TILE = 96
_MOST_CASES = 40


def contact_sheet(
    stacks: Sequence[NDArray[Any]], *, columns: int = 12, labels: Sequence[str] | None = None
) -> Image.Image:
    """Return evenly spaced slices of each case, one row per case, from inferior (left) to superior.

    ``stacks`` are ``(K, H, W)`` in [-1, 1]; of a memory-mapped stack only the slices shown are read.
    ``labels``: the text in front of each case, which must not be a name; by default cases are numbered from 1. Of more
    than 40 cases, 40 evenly spaced ones are shown; the last line then states both numbers.
    """
    shown = _spread(len(stacks), _MOST_CASES)
    texts = [str(number) for number in range(1, len(stacks) + 1)] if labels is None else labels
    width = max(map(text_width, texts), default=0) + 8
    rows = [[_label(texts[index], width), *_slices(stacks[index], columns)] for index in shown]
    sheet = join(rows)
    if len(shown) == len(stacks):
        return sheet
    taller = Image.new("RGB", (sheet.width, sheet.height + LINE), sheet.getpixel((0, 0)))
    taller.paste(sheet, (0, 0))
    draw_text(taller, f"{len(shown)} of {len(stacks)} cases", (sheet.width // 2, sheet.height))
    return taller


def _slices(stack: NDArray[Any], columns: int) -> list[Image.Image]:
    longest = max(stack.shape[1:])
    size = (max(1, round(_TILE * stack.shape[2] / longest)), max(1, round(_TILE * stack.shape[1] / longest)))
    return [grey_tile(np.asarray(stack[k]), -1.0, 1.0, size=size) for k in _spread(stack.shape[0], columns)]


def _label(text: str, width: int) -> Image.Image:
    tile = Image.new("RGB", (width, _TILE))
    draw_text(tile, text, (width // 2, _TILE // 2), anchor="mm")
    return tile


def _spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the indices 0 to ``count`` - 1, evenly spaced; a selection avoids both ends."""
    if count <= most:
        return list(range(count))
    return [int((n + 0.5) * count / most) for n in range(most)]
