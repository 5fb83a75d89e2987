"""Files of records, one JSON object per line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medcyclegan.storage import atomic_write

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["read_records", "save_records"]

T = TypeVar("T")


def read_records(file: Path, parse: Callable[[Any], T]) -> list[T]:
    """Return ``parse(value)`` for each line of JSON in ``file``; an empty list if there is no file.

    Lines that are not JSON, or that ``parse`` rejects with ValueError or TypeError, are skipped.
    """
    try:
        lines = file.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            records.append(parse(json.loads(line)))
    return records


def save_records(file: Path, records: Iterable[DataclassInstance], *, mode: int = 0o666) -> None:
    """Write each of ``records`` as a line of JSON to ``file``; if there are none, no new file is created."""
    lines = [json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n" for record in records]
    if lines or file.exists():
        with atomic_write(file, mode=mode) as stream:
            # an undecodable byte of a file name becomes \udcNN, which is JSON too
            stream.write("".join(lines).encode("utf-8", "backslashreplace"))
