"""Select rows of an inspection by series, modality, description and patient."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import Counter
from collections.abc import Sequence

from medcyclegan.io.inspected import InspectedVolume

__all__ = ["Selection", "describe_choice", "select_rows"]

_WILDCARDS = frozenset("*?[")


@dataclasses.dataclass(frozen=True)
class Selection:
    """The rows to list; an empty field selects all rows.

    ``series``: a SeriesInstanceUID, or its beginning or end. ``modalities``: Modality, regardless of case.
    ``descriptions``: shell patterns of SeriesDescription, regardless of case; a pattern without wildcards is searched
    anywhere in it. ``patients``: shell patterns of PatientID. A row is selected if it matches all fields, and of a
    field any value.
    """

    series: str = ""
    modalities: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(dataclasses.astuple(self))

    def __str__(self) -> str:
        """Return the fields as options of the command line."""
        given = [("--series", [self.series] if self.series else []), ("--modality", self.modalities)]
        given += [("--description", self.descriptions), ("--patient", self.patients)]
        return " ".join(f"{option} {value}" for option, values in given for value in values)


def select_rows(rows: Sequence[InspectedVolume], selection: Selection) -> list[InspectedVolume]:
    """Return the rows that match ``selection``, in order."""
    uids: set[str] | None = None
    if selection.series:
        from medcyclegan.io.dicom.read.series import matching_uids

        uids = set(matching_uids([row.series_uid for row in rows if row.series_uid], selection.series))
    return [row for row in rows if _matches(row, selection, uids)]


def describe_choice(rows: Sequence[InspectedVolume]) -> str:
    """Return the modalities of ``rows`` with their numbers, for a message that nothing was selected."""
    counts = Counter(row.modality or "no modality" for row in rows)
    return ", ".join(f"{modality} ({count})" for modality, count in sorted(counts.items()))


def _matches(row: InspectedVolume, selection: Selection, uids: set[str] | None) -> bool:
    modality, description, patient = row.modality or "", (row.description or "").lower(), row.patient or ""
    return (
        (uids is None or row.series_uid in uids)
        and (not selection.modalities or modality.upper() in {name.upper() for name in selection.modalities})
        and _any_matches(description, [_anywhere(pattern.lower()) for pattern in selection.descriptions])
        and _any_matches(patient, selection.patients)
    )


def _any_matches(text: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def _anywhere(pattern: str) -> str:
    return pattern if _WILDCARDS & set(pattern) else f"*{pattern}*"
