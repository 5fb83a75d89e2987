"""Find the held-out volumes of a slice store among the inputs, by their keyed hashes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from medcyclegan.errors import StoreError
from medcyclegan.io import FoundVolume
from medcyclegan.manifest import Split, load_manifest
from medcyclegan.slicing.domains import members_by_domain
from medcyclegan.slicing.store import load_store

__all__ = ["HeldOutVolume", "find_held_out"]


@dataclasses.dataclass(frozen=True)
class HeldOutVolume:
    """A volume of a held-out patient; ``patient`` is the store's hash, the same in every domain."""

    domain: str
    found: FoundVolume
    patient: str


def find_held_out(
    store: Path,
    volumes: Mapping[str, Sequence[FoundVolume]],
    *,
    split: Split = "test",
    keyed_store: Path | None = None,
) -> list[HeldOutVolume]:
    """Return those of the ``volumes`` (by domain) that are in ``split`` of ``store``, in the given order.

    ``keyed_store``: the store with the key that names the cases, if it is not ``store`` (a fold has no key).
    Raises :class:`~medcyclegan.errors.StoreError` if none of the volumes is in the store.
    """
    names = load_store(keyed_store or store)
    rows = {(row.domain, row.case): row for row in load_manifest(store)}
    seen, held = 0, []
    for member in members_by_domain(volumes):
        row = rows.get((member.domain, names.name("case", member.domain, "", member.found.name)))
        seen += row is not None
        if row is not None and row.split == split:
            held.append(HeldOutVolume(member.domain, member.found, row.patient))
    if not seen:
        raise StoreError(f"{store} was not sliced from these volumes: name its input volumes, or slice again")
    return held
