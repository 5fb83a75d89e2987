"""Find the models that come with the package by their names; each is an ordinary model folder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medcyclegan.errors import ModelError, UsageError, nearest
from medcyclegan.model.contrast_names import contrasts_in
from medcyclegan.model.folder import MODEL_JSON, read_record

__all__ = [
    "DEFAULT_MODEL",
    "SHIPPED",
    "ShippedModel",
    "find_translation",
    "fitting_models",
    "model_folder",
    "order_of_domains",
    "shipped_models",
    "translation_choices",
]

#: The model that commands use by default: where ``train`` puts the newest one.
DEFAULT_MODEL = "runs/latest/model"
#: The folder that holds one model folder per shipped model.
SHIPPED = Path(__file__).parent / "shipped"
#: Names of domains that say no more than the modality.
_ANY_MR = ("mr", "mri")
#: Name and modality of A and of B.
Domains = tuple[tuple[str, str], tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class ShippedModel:
    """A shipped model, as its ``model.json`` describes it.

    ``domains``: names and modalities of A and B. ``about``: what it was trained on and measured on, and what it is not
    for (``provenance.shipped`` of ``model.json``). ``size_mb``: the size of its folder in MB. ``fit`` and ``pixel_mm``:
    how its slices were made.
    """

    name: str
    folder: Path
    domains: Domains
    about: Mapping[str, Any]
    size_mb: float
    fit: str
    pixel_mm: float


def shipped_models() -> list[ShippedModel]:
    """Return all shipped models, sorted by name, those of whole heads first: lists of choices begin with them.

    Raises :class:`~medcyclegan.errors.ModelError` for one whose ``model.json`` is damaged.
    """
    folders = sorted(SHIPPED.glob("*/"), key=lambda folder: (not folder.name.startswith("head-"), folder.name))
    return [_read(folder) for folder in folders if (folder / MODEL_JSON).is_file()]


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


def order_of_domains(
    model: Sequence[tuple[str, str | None]], own: Sequence[tuple[str, str | None]]
) -> tuple[int, int] | None:
    """Return which of a model's two domains are the domains A and B of a training; None if they do not fit.

    Both are names with modalities. A domain fits one of the same name, or of the contrast that its name contains, such
    as ``T1w`` for ``t1``; a domain that is only called MR fits every MR contrast.
    """
    for order in ((0, 1), (1, 0)):
        if all(_is_contrast(name, modality, *model[n]) for (name, modality), n in zip(own, order, strict=True)):
            return order
    return None


def _is_contrast(name: str, modality: str | None, contrast: str, contrast_modality: str | None) -> bool:
    if None not in (modality, contrast_modality) and modality != contrast_modality:
        return False
    if name.lower() in _ANY_MR:
        return contrast_modality == "MR"
    return name == contrast or contrasts_in(name) == {contrast}


def translation_choices(folders: Iterable[Path] = ()) -> dict[str, tuple[str, str]]:
    """Return all translations to choose from: as users see them, and their model and target domain.

    Those of the models in ``folders`` are first, those of the shipped models follow.

    >>> translation_choices()["t1 to ct (head-t1-ct)"]
    ('head-t1-ct', 'ct')
    """
    choices = {}
    models = [(str(folder.absolute()), folder.absolute().name, read_domains(folder)) for folder in folders]
    models += [(model.name, model.name, model.domains) for model in shipped_models()]
    for model, name, ((a, _), (b, _)) in models:
        for source, target in ((a, b), (b, a)):
            choices[f"{source} to {target} ({name})"] = (model, target)
    return choices


def find_translation(choice: str, folders: Iterable[Path] = ()) -> tuple[str, str]:
    """Return the model and the target domain of a choice; raise UsageError for an unknown one."""
    choices = translation_choices(folders)
    if choice not in choices:
        raise UsageError(f"{choice}: no such translation", remedy=f"choose one of: {'; '.join(choices)}")
    return choices[choice]


def read_domains(folder: Path) -> Domains:
    """Return names and modalities of the two domains of the model in ``folder``.

    Raises :class:`~medcyclegan.errors.ModelError`.
    """
    try:
        return _domains_in(read_record(folder))
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / MODEL_JSON} does not describe a model ({error!r}): name another folder") from None


def _domains_in(record: Mapping[str, Any]) -> Domains:
    a, b = (record["domains"][side] for side in "AB")
    return (str(a["name"]), a["modality"]), (str(b["name"]), b["modality"])


def _read(folder: Path) -> ShippedModel:
    record = read_record(folder)
    try:
        domains = _domains_in(record)
        made = record["preparation"]
        fit, pixel_mm = str(made["fit"]), float(made["pixel_mm"])
        about = {key: record["provenance"]["shipped"][key] for key in ("title", "trained_on", "measured", "limits")}
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / MODEL_JSON} does not describe a shipped model ({error!r}): reinstall") from None
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    return ShippedModel(folder.name, folder, domains, about, size, fit, pixel_mm)
