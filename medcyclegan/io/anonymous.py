"""Reasons without names: what a refusal says of an input, for records that must not tell which input it was."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from medcyclegan.errors import one_line
from medcyclegan.io.discover import FoundVolume

__all__ = ["anonymous_reason"]

_HIDDEN = "…"
#: A name that could as well be a word or a number of the sentence: it is hidden only where a name stands.
_PLAIN = re.compile(r"[^\W\d_]+|\d{1,4}(\.\d{1,4})?")
#: What follows the name that a sentence is about.
_SUBJECT = r"(?=:| (?:is|cannot|could|does|ends|has|holds|looks|names)\b)"
#: What is quoted or listed in brackets may be the text of a header; a plural's ending is not.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\((?!s\))[^()]*\)")


def anonymous_reason(reason: str, found: FoundVolume) -> str:
    """Return ``reason`` without the paths, names and series UID of the input ``found``, and without header texts.

    Whole path components are replaced, by ``…``: never a part of a word or of a number. A name that is itself a word
    or a short number (a file ``27``, a folder ``slice``) is replaced where it stands as a name: in a path, before an
    ending, or as what the sentence is about (``27: not a NIfTI file``, ``the first: 27 ends before its pixel data``).
    What is in quotes or brackets is left out whole.
    """
    reason = one_line(reason)
    for path in sorted(_paths(found), key=len, reverse=True):
        if path in reason:
            reason = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w-])", _HIDDEN, reason)
    for name in sorted(_names(found), key=len, reverse=True):
        if name not in reason:
            continue
        whole = rf"(?<![\w-]){re.escape(name)}(?![\w-])"
        if _PLAIN.fullmatch(name):
            places = (rf"(?<=/){whole}", rf"{whole}(?=/|\.[A-Za-z])", rf"(?:(?<=^)|(?<=: )){whole}{_SUBJECT}")
            reason = re.sub("|".join(places), _HIDDEN, reason)
        else:
            reason = re.sub(whole, _HIDDEN, reason)
    return _QUOTED.sub(_HIDDEN, reason)


def _paths(found: FoundVolume) -> set[str]:
    """Return the paths that lead to an input, to its files and to the folders above, as they are and resolved."""
    given = {found.path, found.relative_path, *found.files}
    each = {
        path for start in given for whole in (start, Path(os.path.realpath(start))) for path in (whole, *whole.parents)
    }
    return {one_line(path) for path in (*each, found.name) if "/" in str(path).strip("/")}


def _names(found: FoundVolume) -> set[str]:
    """Return the components of an input's path below the tree and of its files', with and without endings; its UID."""
    names = {part for path in (found.relative_path, *_below(found)) for part in path.parts}
    names |= {found.path.name, *found.name.split("/"), *(_stem(name) for name in names)}
    return {one_line(name) for name in (*names, *_uids(found)) if name.strip("./ ")}


def _uids(found: FoundVolume) -> tuple[str, ...]:
    """Return the series UID in full, and as messages shorten it."""
    if not found.series_uid:
        return ()
    from medcyclegan.io.dicom.read.series import short_uid

    return found.series_uid, short_uid(found.series_uid)


def _below(found: FoundVolume) -> Iterator[Path]:
    for file in found.files:
        yield (
            file.relative_to(found.path) if file != found.path and file.is_relative_to(found.path) else Path(file.name)
        )


def _stem(name: str) -> str:
    return Path(name.removesuffix(".gz")).stem
