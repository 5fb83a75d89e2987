"""Find the models that come with the package by their names; each is an ordinary model folder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medcyclegan.errors import ModelError, nearest
from medcyclegan.model.contrast_names import contrasts_in
from medcyclegan.model.folder import MODEL_JSON, read_record

__all__ = ["DEFAULT_MODEL", "SHIPPED", "ShippedModel", "fitting_models", "model_folder", "shipped_models"]

#: The model that commands use by default: where ``train`` puts the newest one.
DEFAULT_MODEL = "runs/latest/model"
#: The folder that holds one model folder per shipped model.
SHIPPED = Path(__file__).parent / "shipped"


@dataclasses.dataclass(frozen=True)
class ShippedModel:
    """A shipped model, as its ``model.json`` describes it.

    ``domains``: names and modalities of A and B. ``about``: what it was trained on and measured on, and what it is not
    for (``provenance.shipped`` of ``model.json``). ``size_mb``: the size of its folder in MB.
    """

    name: str
    folder: Path
    domains: tuple[tuple[str, str], tuple[str, str]]
    about: Mapping[str, Any]
    size_mb: float


def shipped_models() -> list[ShippedModel]:
    """Return all shipped models, sorted by name.

    Raises :class:`~medcyclegan.errors.ModelError` for one whose ``model.json`` is damaged.
    """
    return [_read(folder) for folder in sorted(SHIPPED.glob("*/")) if (folder / MODEL_JSON).is_file()]


def model_folder(model: str | Path) -> Path:
    """Return the folder of ``model``: a folder, or the name of a shipped model if no folder has that name.

    Raises :class:`~medcyclegan.errors.ModelError` if it is neither.
    """
    path = Path(model)
    is_name = re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(model)) is not None
    if is_name and not path.exists() and (SHIPPED / str(model) / MODEL_JSON).is_file():
        return SHIPPED / str(model)
    if not path.is_dir():
        near = nearest(str(model), (folder.name for folder in SHIPPED.glob("*/")))
        hint = f"did you mean {near}?" if near else "train a model (medcyclegan train), or name one with --model"
        raise ModelError(
            f"{path} is neither a folder nor a shipped model: {hint} (medcyclegan models lists the shipped ones)"
        )
    return path


def fitting_models(modality: str | None, name: str = "") -> list[str]:
    """Return the names of the shipped models for an input of ``modality`` (``"CT"``, ``"MR"`` or None if unknown).

    ``name``: the input's file name or description. If it contains the name of a domain (``t1``, ``t2``), only models of
    that domain are returned.
    """
    models = [m for m in shipped_models() if modality is None or modality in {kind for _, kind in m.domains}]
    words = contrasts_in(name)
    named = [m for m in models if words & {domain for domain, kind in m.domains if modality in (None, kind)}]
    return [m.name for m in named or models]


def _read(folder: Path) -> ShippedModel:
    record = read_record(folder)
    try:
        a, b = ((str(record["domains"][side]["name"]), record["domains"][side]["modality"]) for side in "AB")
        about = {key: record["provenance"]["shipped"][key] for key in ("title", "trained_on", "measured", "limits")}
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / MODEL_JSON} does not describe a shipped model ({error!r}): reinstall") from None
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    return ShippedModel(folder.name, folder, (a, b), about, size)
