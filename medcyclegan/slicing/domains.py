"""Which volumes belong to which domain, whose they are, and what modality a domain has."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medcyclegan.config import Domain
from medcyclegan.errors import IntensityError, MedCycleGANError, ReadError, UsageError
from medcyclegan.io import FoundVolume, ReadOptions, check_exists, find_volumes
from medcyclegan.manifest import DOMAIN_NAME, Split
from medcyclegan.slicing.split import patient_of_name
from medcyclegan.volume import Volume

__all__ = [
    "Member",
    "check_domain_name",
    "choose_modality",
    "find_members",
    "members_by_domain",
    "modality_of_name",
]

#: The folders of the public unpaired image sets, and what they hold.
_IMAGE_SETS: dict[str, tuple[str, Split]] = {
    "trainA": ("A", "train"),
    "trainB": ("B", "train"),
    "testA": ("A", "test"),
    "testB": ("B", "test"),
}


@dataclasses.dataclass(frozen=True)
class Member:
    """A volume that was found, its domain and its patient; ``split`` where the folder decides it."""

    domain: str
    found: FoundVolume
    patient: str
    split: Split | None = None


def check_domain_name(name: str, error: type[MedCycleGANError] = UsageError) -> str:
    """Return ``name``, which becomes a folder of the store; raises ``error`` where it cannot."""
    if not DOMAIN_NAME.fullmatch(name):
        raise error(f"the domain name {name!r}: letters, digits, '.', '_' and '-' only, such as t1 or ct: rename it")
    return name


def choose_modality(volume: Volume, domain: str, rule: Domain) -> str | None:
    """Return what a volume of ``domain`` shows: ``"CT"``, ``"MR"`` or None (a picture, or not known).

    What the file says counts first, then the configuration, then the domain's name (``ct`` and
    ``cbct`` are CT). Raises :class:`~medcyclegan.errors.IntensityError` where file and configuration
    disagree.
    """
    if volume.modality in ("CT", "MR"):
        if rule.modality and rule.modality != volume.modality:
            raise IntensityError(
                f"its header says {volume.modality}, but domains.{domain}.modality is {rule.modality}: "
                "move it to a domain of its own, or correct the configuration"
            )
        return volume.modality
    if rule.modality:
        return rule.modality
    if volume.value_range is not None:
        return None
    return modality_of_name(domain)


def modality_of_name(domain: str) -> str:
    """Return the modality that a domain's name tells: CT for ct and cbct (also ct_head), else MR."""
    return "CT" if re.split(r"[^a-z0-9]", domain.lower())[0] in ("ct", "cbct") else "MR"


def find_members(inputs: Sequence[Path], domain: str | None, reading: ReadOptions) -> list[Member]:
    """Find the volumes of every input: folders of domains, or one ``domain``'s volumes.

    A volume's patient is DICOM's PatientID, else guessed from its name. Raises
    :class:`~medcyclegan.errors.ReadError` where an input is missing or holds no volume.
    """
    members: list[Member] = []
    for path in inputs:
        check_exists(path, "name the folder that holds <domain>/<volumes>")
        if domain is not None:
            members += _members_of(path, check_domain_name(domain), None, reading)
            continue
        folders = _domain_folders(path)
        for folder in folders:
            name, split = _IMAGE_SETS.get(folder.name, (folder.name, None))
            members += _members_of(folder, check_domain_name(name, ReadError), split, reading)
    if not members:
        raise ReadError(f"{', '.join(map(str, inputs))}: no volumes found (NIfTI, DICOM, .mha, .nrrd, PNG or JPEG)")
    _check_names(members)
    return members


def members_by_domain(volumes: Mapping[str, Sequence[FoundVolume]]) -> list[Member]:
    """Return the members of domains whose volumes were found already, in the order given.

    Raises :class:`~medcyclegan.errors.ReadError` for two volumes of one name in a domain.
    """
    members = [
        Member(check_domain_name(domain), found, found.patient or patient_of_name(found.name, domain))
        for domain, volumes_of_domain in volumes.items()
        for found in volumes_of_domain
    ]
    _check_names(members)
    return members


def _check_names(members: Sequence[Member]) -> None:
    counts = collections.Counter((m.domain, m.split, m.found.name) for m in members)
    for (name, _, volume), count in counts.items():
        if count > 1:
            raise ReadError(f"{count} volumes of {name} are named {volume!r}: rename them, or slice them one by one")


def _domain_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise ReadError(f"{path} is a file: name a folder of domains, or pass --domain NAME with its volumes")
    try:
        entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise ReadError(f"{path} cannot be listed: {os.strerror(error.errno or 0)}") from None
    for entry in entries:
        check_exists(entry)  # a broken link may be a domain
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise ReadError(
            f"{path} holds no folders: put each domain's volumes into a folder of its name (volumes/t1, "
            "volumes/t2), or pass --domain NAME"
        )
    return folders


def _members_of(folder: Path, domain: str, split: Split | None, reading: ReadOptions) -> list[Member]:
    members = []
    for found in find_volumes(folder, reading):
        patient = found.patient or patient_of_name(found.name, domain)
        # Image sets number their files anew in each folder: 1.jpg of trainA and of testA are two patients.
        members.append(Member(domain, found, patient if split is None else f"{folder.name}/{patient}", split))
    return members
