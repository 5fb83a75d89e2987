"""Contact sheets, one per domain, to inspect the slices before training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np

from medcyclegan.errors import StoreError
from medcyclegan.manifest import SliceRow, stack_file
from medcyclegan.pictures import contact_sheet, png_bytes
from medcyclegan.slicing.key_file import Names
from medcyclegan.storage import atomic_write

__all__ = ["label_of", "save_contact_sheets", "sort_key"]

#: Number of volumes on a sheet; of more, evenly spaced ones are shown.
_CASES = 24
#: Number of digits of a hash that name a volume without a number.
_HASH_DIGITS = 8


def save_contact_sheets(store: Path, rows: Sequence[SliceRow], names: Names) -> None:
    """Write ``<store>/<domain>.png`` for every domain: evenly spaced slices of up to 24 volumes.

    Each volume has its number in ``names``, or the beginning of its hash; ``medcyclegan slices`` accepts both.

    The sheet of a domain without volumes is removed.
    """
    domains = {row.domain for row in rows}
    for path in store.glob("*.png"):
        if path.stem not in domains and (store / path.stem).is_dir():
            path.unlink()
    for domain in sorted(domains):
        own = sorted((row for row in rows if row.domain == domain), key=lambda row: sort_key(row, names))
        chosen = [own[i] for i in sorted({int(i) for i in np.linspace(0, len(own) - 1, _CASES)})]
        stacks = []
        for row in chosen:
            try:
                stacks.append(np.lib.format.open_memmap(stack_file(store, row), mode="r"))
            except (OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TokenError) as error:
                raise StoreError(f"{store / row.file} cannot be read ({error}): remove it and slice again") from None
        with atomic_write(store / f"{domain}.png") as file:
            file.write(png_bytes(contact_sheet(stacks, labels=[label_of(row, names) for row in chosen])))


def label_of(row: SliceRow, names: Names) -> str:
    """Return the number of a volume in its store, or the beginning of its hash if it has none."""
    named = names.get((row.domain, row.case))
    return row.case[:_HASH_DIGITS] if named is None else str(named.number)


def sort_key(row: SliceRow, names: Names) -> tuple[float, str]:
    """Return a sort key: volumes in the order of their numbers, then those without one."""
    named = names.get((row.domain, row.case))
    return (math.inf if named is None else named.number, row.case)
