"""Contact sheets, one per domain, to inspect the slices before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np

from medcyclegan.errors import StoreError
from medcyclegan.manifest import SliceRow, stack_file
from medcyclegan.pictures import contact_sheet, png_bytes
from medcyclegan.storage import atomic_write

__all__ = ["save_contact_sheets"]

#: Number of volumes on a sheet; of more, evenly spaced ones are shown.
_CASES = 24


def save_contact_sheets(store: Path, rows: Sequence[SliceRow]) -> None:
    """Write ``<store>/<domain>.png`` for every domain: evenly spaced slices of up to 24 volumes.

    The sheet of a domain without volumes is removed.
    """
    domains = {row.domain for row in rows}
    for path in store.glob("*.png"):
        if path.stem not in domains and (store / path.stem).is_dir():
            path.unlink()
    for domain in sorted(domains):
        own = [row for row in rows if row.domain == domain]
        chosen = [own[i] for i in sorted({int(i) for i in np.linspace(0, len(own) - 1, _CASES)})]
        stacks = []
        for row in chosen:
            try:
                stacks.append(np.lib.format.open_memmap(stack_file(store, row), mode="r"))
            except (OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TokenError) as error:
                raise StoreError(f"{store / row.file} cannot be read ({error}): remove it and slice again") from None
        with atomic_write(store / f"{domain}.png") as file:
            file.write(png_bytes(contact_sheet(stacks)))
