"""Render pages from templates; text from files is escaped, and a page loads nothing from the network."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

import medcyclegan
from medcyclegan.errors import ReadError
from medcyclegan.provenance import now
from medcyclegan.report.viewing import to_text

__all__ = ["asset", "data_url", "niivue", "number", "picture_url", "plain_rows", "render", "webp_url"]

_ASSETS = "medcyclegan.report"
_QUALITY = 85


def render(template: str, *, home: str = _ASSETS, **values: Any) -> str:
    """Return the page that ``template`` gives with ``values``.

    ``template`` is a file in ``assets/`` of the package ``home``; it can use those of this package.
    """
    loaders = [jinja2.FunctionLoader(functools.partial(_template, home=place)) for place in (home, _ASSETS)]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    common = {"version": medcyclegan.__version__, "created": now(), "voxel_files": ()}
    return environment.get_template(template).render({**common, **values})


def asset(name: str, home: str = _ASSETS) -> str:
    """Return the text of a file in ``assets/`` of a package; it is part of medcyclegan and therefore trusted."""
    return resources.files(home).joinpath("assets", name).read_text("utf-8")


def _template(name: str, *, home: str) -> str | None:
    try:
        return asset(name, home)
    except FileNotFoundError:
        return None


def niivue() -> Markup:
    """Return the script of the viewer library, as gzip and as text."""
    return to_text(gzip.compress(asset("niivue.umd.js").encode(), mtime=0))


def number(value: float | None) -> str:
    """Return a score as text of four digits; ``-`` if there is none."""
    if value is None:
        return "-"
    return "∞" if math.isinf(value) else f"{value:.4g}"


def picture_url(file: Path) -> str:
    """Return a picture as a ``data:`` URL in WebP format, at most a third of the PNG's size without visible loss.

    Raises :class:`~medcyclegan.errors.ReadError` for a file that is not a picture.
    """
    try:
        with Image.open(file) as picture:
            return webp_url(picture)
    except OSError as error:
        raise ReadError(f"{file}: cannot be read as a picture ({error}): remove it, or write it again") from None


def webp_url(picture: Image.Image) -> str:
    """Return a picture as a ``data:`` URL in WebP format."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="WEBP", quality=_QUALITY)
    return data_url(buffer.getvalue(), "image/webp")


def data_url(content: bytes, kind: str) -> str:
    """Return bytes as a ``data:`` URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def plain_rows(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the fields of a JSON object as rows of (name, text), without empty ones."""
    return [
        (f"{prefix}{name}".replace("_", " "), _text(value))
        for name, value in values.items()
        if value is not None and value != [] and value != {}
    ]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        parts = [
            f"{name} ({_text(v)})" if isinstance(v, Mapping) else f"{name} {_text(v)}" for name, v in value.items()
        ]
        return ", ".join(parts).replace("_", " ")
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(part) for part in value)
    return str(value)
