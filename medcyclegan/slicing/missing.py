"""Find, by keyed hashes, the slices of volumes that are no longer among the inputs of a store, and remove them."""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from medcyclegan.errors import StoreError
from medcyclegan.io.discover import volume_name
from medcyclegan.manifest import SliceRow
from medcyclegan.slicing.domains import Member, Source
from medcyclegan.slicing.store import Refusal, SliceStore

__all__ = ["Missing", "case_of", "find_missing", "origin_of", "remove_missing"]

log = logging.getLogger(__name__)


def case_of(store: SliceStore, member: Member) -> str:
    """Return the keyed hash that names a volume in the store."""
    return store.name("case", member.domain, member.split or "", member.found.name)


def origin_of(store: SliceStore, source: Source) -> tuple[str, str]:
    """Return keyed hashes of the folder of a source and of its parent folder, relative to the store.

    They do not change if inputs and store are moved together.
    """
    kind = "files" if source.kind == "files" else "folder"
    return _place(store, kind, source.folder), _place(store, "folder", source.folder / "..")


@dataclasses.dataclass(frozen=True)
class Missing:
    """Rows and refusals of volumes that are no longer among the inputs."""

    rows: tuple[SliceRow, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def find_missing(
    store: SliceStore, rows: Sequence[SliceRow], members: Sequence[Member], sources: Sequence[Source], *, keep: bool
) -> Missing:
    """Return the rows and refusals to remove: of volumes that these sources no longer have; none with ``keep``.

    They are logged. Volumes from other sources are not missing. Raises :class:`~medcyclegan.errors.StoreError` if a
    folder no longer holds any volume, unless ``keep``: a disk may be missing.
    """
    present = {(member.domain, case_of(store, member)) for member in members}
    searched = _Searched(store, sources)
    absent = [row for row in rows if (row.domain, row.case) not in present]
    gone = tuple(row for row in absent if searched.misses(row))
    if len(absent) > len(gone):
        log.info("%s of other inputs and stay in the store", _volumes(len(absent) - len(gone)))
    counts = sorted(collections.Counter(row.domain for row in gone).items())
    if keep:
        for domain, count in counts:
            log.warning("%s: %s no longer among the inputs; --keep-missing keeps the slices", domain, _volumes(count))
        return Missing()
    _check_folders(store, gone, {member.source for member in members}, sources)
    for domain, count in counts:
        log.warning(
            "%s: %s no longer among the inputs: the slices are removed (--keep-missing would keep them); models and "
            "pictures that were made from them are not", domain, _volumes(count),
        )  # fmt: skip
    refusals = [item for item in store.refusals() if (item.domain, item.case) not in present and searched.misses(item)]
    return Missing(gone, tuple(refusals))


def _check_folders(
    store: SliceStore, gone: Sequence[SliceRow], full: Collection[Source], sources: Sequence[Source]
) -> None:
    """Refuse a folder that holds no volumes although the store has slices of it."""
    for source in sources:
        folder = origin_of(store, source)[0]
        lost = sum(row.domain == source.domain and row.origin[0] == folder for row in gone)
        if lost and source not in full:
            raise StoreError(
                f"{source.folder} holds no volumes, but {store.folder} has slices of {lost}: is a disk missing? Bring "
                "them back, keep their slices with --keep-missing, or remove the folder and the slices go too"
            )


def remove_missing(store: SliceStore, missing: Missing) -> None:
    """Remove slices, rows and refusals of missing volumes; the manifest is not changed."""
    for row in missing.rows:
        store.remove_case(row.domain, row.case)
    if missing.refusals:
        store.save_refusals([(item.domain, item.case) for item in missing.refusals], [])


class _Searched:
    """What was searched, by keyed hashes: whole folders, their parent folders, and folders of single files."""

    def __init__(self, store: SliceStore, sources: Iterable[Source]) -> None:
        self.folders: set[tuple[str, str]] = set()
        self.files: dict[tuple[str, str], set[str]] = {}
        #: For a parent folder: its subfolders, and the domains that were searched (None: all).
        self.above: dict[str, tuple[set[str], set[str] | None]] = {}
        for source in set(sources):
            folder, above = origin_of(store, source)
            if source.kind == "files":
                found = _list(source.folder)
                names = {volume_name(Path(path.name)) for path in found} | {source.folder.name}
                if found:
                    self.files[source.domain, folder] = {store.name("case", source.domain, "", name) for name in names}
                continue
            self.folders.add((source.domain, folder))
            beside = {_place(store, "folder", path) for path in _list(source.folder / "..")}
            if source.kind != "list" and folder in beside:
                domains = self.above.get(above, (beside, set()))[1]
                in_tree = source.kind == "tree" or domains is None
                self.above[above] = (beside, None if in_tree else {source.domain, *(domains or ())})

    def misses(self, item: SliceRow | Refusal) -> bool:
        """Return whether an absent case came from a searched source, or from a folder that no longer exists."""
        folder, above = item.origin
        if (item.domain, folder) in self.folders:
            return True
        if (item.domain, folder) in self.files:
            return item.case not in self.files[item.domain, folder]
        beside, domains = self.above.get(above, ({folder}, None))
        return folder not in beside and (domains is None or item.domain in domains)


def _volumes(count: int) -> str:
    return "1 volume is" if count == 1 else f"{count} volumes are"


def _place(store: SliceStore, kind: str, folder: Path) -> str:
    place = os.path.relpath(os.path.abspath(folder), os.path.abspath(store.folder))
    return store.name("origin", kind, place)


def _list(folder: Path) -> list[Path]:
    try:
        return [Path(os.path.abspath(folder), name) for name in os.listdir(folder)]
    except OSError:
        return []
