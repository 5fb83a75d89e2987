"""Names and metadata of a BIDS derivative dataset (BIDS specification 1.10, "BIDS Derivatives")."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import medcyclegan
from medcyclegan.errors import WriteError
from medcyclegan.storage import atomic_write

__all__ = ["RAW", "derivative_path", "generated_by", "open_derivative", "parse_bids_name"]

#: The name of the source dataset in ``Sources`` and ``DatasetLinks``.
RAW = "raw"
_DESCRIPTION = "dataset_description.json"
_MADE_BY = "medcyclegan"
_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")
#: Name of a domain -> BIDS suffix; for other domains, the suffix is the letters and digits of the name.
_SUFFIXES: Mapping[str, str] = {"t1": "T1w", "t2": "T2w", "pd": "PDw", "flair": "FLAIR", "ct": "ct", "mr": "MRI"}
_KNOWN = ("T1w", "T2w", "PDw", "FLAIR", "T2starw", "inplaneT1", "inplaneT2", "angio")
#: Files that validators should ignore: suffixes for which BIDS has no schema, our markers and the ledger.
_IGNORED = ("*_ct.*", "*_MRI.*", ".done/", ".ledger.lock", ".names.*", "ledger.jsonl", "logs/")
_README = """Synthetic images, made by medcyclegan from the dataset in DatasetLinks.
Research only, not a medical device: a network that matches distributions can invent or remove lesions.
"""


def parse_bids_name(name: str) -> tuple[dict[str, str], str | None]:
    """Return the entities and suffix of a path without extension: ``sub-01_T1w`` gives ``{"sub": "01"}, "T1w"``.

    If the last part of the path is not a BIDS name, the result is ``{}, None``.
    """
    *parts, suffix = PurePosixPath(name).name.split("_")
    matches = [_ENTITY.fullmatch(part) for part in parts]
    if not parts or not all(matches) or not re.fullmatch(r"[a-zA-Z0-9]+", suffix):
        return {}, None
    return {match[1]: match[2] for match in matches if match}, suffix


def derivative_path(name: str, domain: str) -> PurePosixPath:
    """Return the path of the translation of the volume ``name`` (a path without extension) to ``domain``.

    ``sub-01/ses-2/anat/sub-01_ses-2_T1w`` to ``t2`` is ``sub-01/ses-2/anat/sub-01_ses-2_desc-synthetic_T2w.nii.gz``.
    For a name that is not a BIDS name, its letters and digits become the label of the subject.
    """
    entities, _ = parse_bids_name(name)
    if "sub" not in entities:
        entities = {"sub": re.sub(r"[^a-zA-Z0-9]", "", name) or "unnamed"}
    description = entities.pop("desc", "") + "synthetic"
    label = "_".join([*(f"{key}-{value}" for key, value in entities.items()), f"desc-{description}"])
    folders = [f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities]
    return PurePosixPath(*folders, "anat", f"{label}_{_suffix(domain)}.nii.gz")


def generated_by(model: str) -> list[dict[str, Any]]:
    """Return the field ``GeneratedBy`` of a sidecar: program, version, and fingerprint of the model."""
    return [{"Name": "medcyclegan", "Version": medcyclegan.__version__, "Model": model}]


def open_derivative(folder: Path, source: Path, domain: str) -> None:
    """Create the derivative dataset of ``source`` in ``folder``, or check that it is one.

    Writes ``dataset_description.json``, ``README`` and ``.bidsignore``. Raises
    :class:`~medcyclegan.errors.WriteError` for a folder with other contents.
    """
    description = folder / _DESCRIPTION
    if description.exists():
        if not _is_ours(description):
            raise WriteError(f"{folder} is a dataset that medcyclegan did not write: choose another --out")
        return
    if folder.exists() and (
        not folder.is_dir() or any(p.name[0] != "." and p.name != "logs" for p in folder.iterdir())
    ):
        raise WriteError(f"{folder} contains other files: choose a new or empty folder with --out")
    record = {
        "Name": f"Synthetic {_suffix(domain)} images",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": _MADE_BY,
                "Version": medcyclegan.__version__,
                "Description": "Synthetic images, translated by a CycleGAN; research only, not a medical device",
            }
        ],
        "DatasetLinks": {RAW: Path(os.path.relpath(source.resolve(), folder.resolve())).as_posix()},
    }
    contents = {"README": _README, ".bidsignore": "\n".join(_IGNORED) + "\n"}
    contents[_DESCRIPTION] = json.dumps(record, indent=2) + "\n"
    for name, content in contents.items():
        with atomic_write(folder / name) as file:
            file.write(content.encode())


def _suffix(domain: str) -> str:
    known = {**{suffix.lower(): suffix for suffix in _KNOWN}, **_SUFFIXES}
    return known.get(domain.lower()) or re.sub(r"[^a-zA-Z0-9]", "", domain)


def _is_ours(description: Path) -> bool:
    try:
        makers = json.loads(description.read_text("utf-8"))["GeneratedBy"]
        return any(maker.get("Name") == _MADE_BY for maker in makers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
