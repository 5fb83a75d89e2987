"""Drawing functions shared by all pictures: grey tiles, labels, grids, PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["GAP", "LINE", "draw_text", "grey_tile", "heat_tile", "join", "labelled", "png_bytes", "text_width"]

#: Pixels between tiles.
GAP = 4
#: Height of a line of text in pixels.
LINE = 20
_BACKGROUND = (24, 24, 24)
_INK = (235, 235, 235)
_FONT_SIZE = 14


def grey_tile(plane: NDArray[Any], lower: float, upper: float, *, size: tuple[int, int] | None = None) -> Image.Image:
    """Return ``plane`` ``(rows, columns)`` as a grey image: ``lower`` is black, ``upper`` white, NaN black.

    ``size`` is ``(width, height)`` in pixels; the image is resized to it by linear interpolation.
    """
    unit = np.clip((np.asarray(plane, dtype=np.float32) - lower) / max(upper - lower, 1e-12), 0, 1)
    tile = Image.fromarray(np.rint(np.nan_to_num(unit) * 255).astype(np.uint8))
    return tile if size is None else tile.resize(size, Image.Resampling.BILINEAR)


def heat_tile(plane: NDArray[Any], upper: float, *, size: tuple[int, int] | None = None) -> Image.Image:
    """Return ``plane`` ``(rows, columns)`` in colors from black (0) over red and yellow to white (``upper``)."""
    unit = np.asarray(grey_tile(plane, 0.0, upper, size=size), dtype=np.float32) / 255
    channels = np.clip(np.stack([3 * unit, 3 * unit - 1, 3 * unit - 2], axis=-1), 0, 1)
    return Image.fromarray(np.rint(channels * 255).astype(np.uint8))


def labelled(tile: Image.Image, title: str, *, below: str = "") -> Image.Image:
    """Return ``tile`` with ``title`` in a line above it and, if given, ``below`` in a line under it."""
    width = max(tile.width, text_width(title), text_width(below))
    picture = Image.new("RGB", (width, tile.height + LINE * (2 if below else 1)), _BACKGROUND)
    picture.paste(tile, ((width - tile.width) // 2, LINE))
    draw_text(picture, title, (width // 2, 1))
    if below:
        draw_text(picture, below, (width // 2, tile.height + LINE + 1))
    return picture


def draw_text(picture: Image.Image, text: str, place: tuple[int, int], *, anchor: str = "ma") -> None:
    """Draw ``text`` on an RGB ``picture``, legible on any grey; ``anchor`` as in Pillow."""
    pen = ImageDraw.Draw(picture)
    pen.text(place, text, fill=_INK, font=_font(), anchor=anchor, stroke_width=1, stroke_fill=_BACKGROUND)


def text_width(text: str) -> int:
    """Return the width of ``text`` in pixels."""
    left, _, right, _ = _font().getbbox(text)
    return int(right - left)


def join(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Arrange tiles on a grid; each column and row has the size of its largest tile."""
    columns = max(len(row) for row in rows)
    widths = [max((row[n].width for row in rows if n < len(row)), default=0) for n in range(columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    size = (sum(widths) + GAP * (columns + 1), sum(heights) + GAP * (len(rows) + 1))
    sheet = Image.new("RGB", size, _BACKGROUND)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        for tile, width in zip(row, widths, strict=False):
            sheet.paste(tile, (left + (width - tile.width) // 2, top))
            left += width + GAP
        top += height + GAP
    return sheet


def png_bytes(image: Image.Image) -> bytes:
    """Return ``image`` encoded as a PNG file; equal images give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=_FONT_SIZE)
