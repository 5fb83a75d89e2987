"""Changes to the slices of a synthetic DICOM series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset

Change = Callable[[list[Dataset]], Any]


def each(change: Callable[[Dataset], Any]) -> Change:
    def all_of_them(slices: list[Dataset]) -> None:
        for dataset in slices:
            change(dataset)

    return all_of_them


def set_values(number: int | None = None, /, **values: Any) -> Change:
    """Set elements in one slice, or in all."""

    def change(slices: list[Dataset]) -> None:
        for dataset in slices if number is None else [slices[number]]:
            for keyword, value in values.items():
                setattr(dataset, keyword, value)

    return change


def delete(number: int | None, keyword: str) -> Change:
    def change(slices: list[Dataset]) -> None:
        for dataset in slices if number is None else [slices[number]]:
            del dataset[keyword]

    return change
