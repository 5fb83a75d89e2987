"""The model that a translation uses by default, and the shipped models to suggest if it does not exist."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medcyclegan.errors import ModelError
from medcyclegan.inference.translate import Model, load_models
from medcyclegan.io.inspect import inspect_paths
from medcyclegan.io.options import ReadOptions
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.model.shipped import DEFAULT_MODEL, fitting_models

__all__ = ["load_or_suggest"]


def load_or_suggest(
    model: Model | Sequence[Model], source: Path, reading: ReadOptions | None = None
) -> list[ModelBundle]:
    """Load the models; if only the default one is named and it does not exist, suggest shipped models.

    Raises :class:`~medcyclegan.errors.ModelError`; its message names the shipped models that fit ``source`` by its
    modality, and by its contrast if the name or the description of the input contains it.
    """
    named = [model] if isinstance(model, ModelBundle | str | Path) else list(model)
    if named != [DEFAULT_MODEL] or Path(DEFAULT_MODEL).exists():
        return load_models(model)
    rows = inspect_paths([source], reading or ReadOptions()).volumes if source.exists() else ()
    modality = rows[0].modality if rows else None
    description = " ".join([source.name, *(row.description or "" for row in rows)])
    names = fitting_models(modality if modality in ("CT", "MR") else None, description)
    shipped = f", or use a shipped one: --model {' or --model '.join(names)}" if names else ""
    raise ModelError(f"the default model, {DEFAULT_MODEL}, does not exist: train one (medcyclegan train){shipped}")
