"""Domains: which volumes belong to each, where they were found, and which modality a domain has."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from medcyclegan.config import Domain
from medcyclegan.errors import IntensityError, MedCycleGANError, ReadError, UsageError
from medcyclegan.intensity import looks_like_hu
from medcyclegan.io import FoundVolume, ReadOptions, check_exists, find_volumes
from medcyclegan.io.formats import READABLE
from medcyclegan.manifest import DOMAIN_NAME, Split
from medcyclegan.volume import Volume

__all__ = [
    "Member",
    "Source",
    "check_domain_name",
    "check_one_modality",
    "choose_modality",
    "find_members",
    "members_by_domain",
    "modality_of_name",
]

#: Folders of the public unpaired image sets, with their domain and split.
_IMAGE_SETS: dict[str, tuple[str, Split]] = {
    "trainA": ("A", "train"),
    "trainB": ("B", "train"),
    "testA": ("A", "test"),
    "testB": ("B", "test"),
}
_CT_WORDS = {"ct", "cbct", "cta", "ncct", "cect", "ldct", "sct"}
_MR_WORDS = {"mr", "mri"}
#: Number of names that an error lists.
_LISTED = 3


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a call looked for the volumes of ``domain``.

    ``kind``: ``"tree"``: a folder among those of other domains; ``"folder"``: a folder that was given with its domain;
    ``"files"``: some files of a folder; ``"list"``: all volumes of the domain, which the caller had found.
    """

    domain: str
    folder: Path
    kind: Literal["tree", "folder", "files", "list"]


@dataclasses.dataclass(frozen=True)
class Member:
    """A volume that was found, with its domain and source, and with ``split`` if the folder determines it."""

    domain: str
    found: FoundVolume
    source: Source
    split: Split | None = None

    @property
    def folder(self) -> str:
        """The name of the folder that was searched: of the domain in a tree, or of an image set."""
        return Path(os.path.abspath(self.source.folder)).name


def check_domain_name(name: str, error: type[MedCycleGANError] = UsageError) -> str:
    """Return ``name``, which becomes a folder of the store; raises ``error`` if it is not valid."""
    if not DOMAIN_NAME.fullmatch(name):
        raise error(f"the domain name {name!r}: letters, digits, '.', '_' and '-' only, such as t1 or ct: rename it")
    return name


def choose_modality(volume: Volume, domain: str, settings: Domain, headers: str | None = None) -> str | None:
    """Return the modality of a volume of ``domain``: ``"CT"``, ``"MR"`` or None (a 2-D picture).

    The order of precedence is: the file, the configuration, the ``headers`` of the domain's DICOM series, the name of
    the domain (:func:`modality_of_name`). Raises :class:`~medcyclegan.errors.IntensityError` if two of these disagree,
    and if a volume seems to be a CT in HU although none of them is CT.
    """
    if volume.modality in ("CT", "MR"):
        if settings.modality and settings.modality != volume.modality:
            raise IntensityError(
                f"its header says {volume.modality}, but domains.{domain}.modality is {settings.modality}: "
                "move it to another domain, or correct the configuration"
            )
        if headers in ("CT", "MR") and headers != volume.modality:
            raise IntensityError(
                f"its header says {volume.modality}, but other volumes of {domain} are {headers}: move it to another "
                "domain"
            )
        return volume.modality
    if settings.modality:
        return settings.modality
    if volume.value_range is not None:
        return None
    modality = headers if headers in ("CT", "MR") else modality_of_name(domain)
    if modality != "CT" and looks_like_hu(volume.array):
        raise IntensityError(
            f"its values look like a CT in HU (air near -1000), but nothing says that {domain} is CT: pass --set "
            f"domains.{domain}.modality=CT, or =MR if it is not CT"
        )
    return modality


def modality_of_name(domain: str) -> str:
    """Return the modality that the name of a domain indicates.

    It is CT if the name contains the word CT or a variant such as CBCT (``ct``, ``head_ct``, ``CT2``, ``planCT``) and
    not the word MR; else MR. Words end at a digit, at a separator, and before a capital that starts a word
    (``headCT``).
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", domain)
    words = {word.lower() for word in re.split(r"[^A-Za-z]+", spaced)}
    return "CT" if words & _CT_WORDS and not words & _MR_WORDS else "MR"


def check_one_modality(domain: str, modalities: Mapping[str, Sequence[str]]) -> None:
    """Refuse a domain of several modalities; ``modalities``: the names of the volumes of each.

    Raises :class:`~medcyclegan.errors.IntensityError`, naming volumes of each.
    """
    if len(modalities) < 2:
        return
    listed = []
    for modality, names in sorted(modalities.items(), key=lambda item: (-len(item[1]), item[0])):
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        listed.append(f"{modality} ({', '.join(sorted(names)[:_LISTED])}{more})")
    raise IntensityError(
        f"the domain {domain} mixes {' with '.join(listed)}: a domain has one modality; move the others to another "
        f"domain, or set domains.{domain}.modality to the one that you want, and the others are refused"
    )


def find_members(inputs: Sequence[Path], domain: str | None, reading: ReadOptions) -> tuple[list[Member], list[Source]]:
    """Find the volumes of all inputs (folders of domains, or volumes of ``domain``); also return the sources.

    Raises :class:`~medcyclegan.errors.ReadError` if an input is missing or there are no volumes.
    """
    members: list[Member] = []
    sources: list[Source] = []
    for path in inputs:
        check_exists(path, "name the folder that holds <domain>/<volumes>")
        found: list[tuple[Source, Path, Split | None]]
        if domain is None:
            found = [_source_in_tree(folder) for folder in _domain_folders(path)]
        elif path.is_dir():
            found = [(Source(check_domain_name(domain), path, "folder"), path, None)]
        else:
            found = [(Source(check_domain_name(domain), path.parent, "files"), path, None)]
        for source, place, split in found:
            sources.append(source)
            members += [Member(source.domain, volume, source, split) for volume in find_volumes(place, reading)]
    if not members:
        raise ReadError(f"{', '.join(map(str, inputs))}: no volumes found ({READABLE})")
    _check_names(members)
    return members, sources


def members_by_domain(volumes: Mapping[str, Sequence[FoundVolume]]) -> list[Member]:
    """Return the members of domains whose volumes were already found, in the given order.

    Raises :class:`~medcyclegan.errors.ReadError` for two volumes of the same name in a domain.
    """
    members = [
        Member(check_domain_name(domain), found, Source(domain, found.base, "list"))
        for domain, volumes_of_domain in volumes.items()
        for found in volumes_of_domain
    ]
    _check_names(members)
    return members


def _check_names(members: Sequence[Member]) -> None:
    counts = collections.Counter((m.domain, m.split, m.found.name) for m in members)
    for (name, _, volume), count in counts.items():
        if count > 1:
            raise ReadError(f"{count} volumes of {name} are named {volume!r}: rename them, or slice them separately")


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


def _source_in_tree(folder: Path) -> tuple[Source, Path, Split | None]:
    name, split = _IMAGE_SETS.get(folder.name, (folder.name, None))
    return Source(check_domain_name(name, ReadError), folder, "tree"), folder, split
