"""Read values of a DICOM header one by one: a hostile or damaged one is refused, never only warned of.

pydicom converts on access, and warns or fails differently for each type of damage. Here the raw bytes of an
element either conform to the standard (PS3.5 section 6.2), or are refused by keyword.
"""

from __future__ import annotations

import functools
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag

from medcyclegan.errors import ReadError

__all__ = ["PARSE_ERRORS", "integer", "items", "numbers", "quiet", "short_reason", "text", "texts", "vector"]

#: What pydicom and its decoders raise on damaged input (seen in mutation runs); no other error is expected of them.
PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Suppress pydicom's warnings: the values that matter are checked one by one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def short_reason(error: BaseException) -> str:
    """Return the message of a library's error, shortened; its type if it has none."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return reason if 0 < len(reason) <= 80 else f"{reason[:77]}..." if reason else type(error).__name__


@functools.cache
def _tag(keyword: str) -> BaseTag | None:
    number = tag_for_keyword(keyword)
    return None if number is None else BaseTag(number)


def _element(dataset: Dataset, keyword: str) -> Any:
    tag = _tag(keyword)
    return None if tag is None else dataset.get_item(tag)


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of ``keyword`` as texts without padding; none if it is absent or empty."""
    element = _element(dataset, keyword)
    if element is None or not element.value:
        return () if element is None or element.value != 0 else ("0",)
    value = element.value
    if isinstance(value, bytes):
        vr = _known_representation(element.tag) or element.VR or "US"
        if vr in _BINARY:
            return tuple(repr(number) for number in _unpack(value, vr, element.is_little_endian, keyword))
        whole = value.decode("latin-1").strip(" \0")
        return tuple(part.strip(" \0") for part in whole.split("\\")) if whole else ()
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return (str(value).strip(" \0"),)
    return tuple(str(part).strip(" \0") for part in value)


def text(dataset: Dataset, keyword: str) -> str:
    """Return ``keyword`` as one text, its values joined by a backslash; empty if it is absent."""
    return "\\".join(texts(dataset, keyword))


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Return the numbers of ``keyword``, none if it is absent or empty.

    Raises :class:`~medcyclegan.errors.ReadError` for anything that is not a finite number.
    """
    found: list[float] = []
    for part in texts(dataset, keyword):
        if not _NUMBER.fullmatch(part) or abs(number := float(part)) > 1e300:
            raise ReadError(
                f"{keyword} is {part[:40]!r}, not a number", remedy="the header is damaged, export the series again"
            )
        found.append(number)
    return tuple(found)


def vector(dataset: Dataset, keyword: str, length: int) -> tuple[float, ...]:
    """Return exactly ``length`` numbers of ``keyword``, or none if it is absent.

    Raises :class:`~medcyclegan.errors.ReadError` for another count, or for what is not a number.
    """
    found = numbers(dataset, keyword)
    if found and len(found) != length:
        raise ReadError(
            f"{keyword} has {len(found)} values, and the standard requires {length}",
            remedy="the header is damaged, export the series again",
        )
    return found


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Return the one whole number of ``keyword``, None if it is absent.

    Raises :class:`~medcyclegan.errors.ReadError` for anything else.
    """
    found = vector(dataset, keyword, 1)
    if not found:
        return None
    if found[0] != int(found[0]):
        raise ReadError(
            f"{keyword} is {found[0]:g} instead of a whole number",
            remedy="the header is damaged, export the series again",
        )
    return int(found[0])


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence, none if it is absent.

    Raises :class:`~medcyclegan.errors.ReadError` if its bytes are not a sequence.
    """
    tag = _tag(keyword)
    if tag is None or tag not in dataset:
        return []
    with quiet():
        try:
            return list(dataset[tag].value or [])
        except PARSE_ERRORS as error:
            raise ReadError(
                f"{keyword} does not parse ({short_reason(error)})",
                remedy="the header is damaged, export the series again",
            ) from error


@functools.cache
def _known_representation(tag: BaseTag) -> str:
    """Return the dictionary's value representation; empty if it has none or several."""
    try:
        known = dictionary_VR(tag)
    except KeyError:
        return ""
    return "" if " or " in known else known


def _unpack(value: bytes, vr: str, little_endian: bool, keyword: str) -> tuple[float, ...]:
    letter = _BINARY[vr]
    size = struct.calcsize("=" + letter)
    if len(value) % size:
        raise ReadError(
            f"{keyword} holds {len(value)} bytes, not a multiple of {size}",
            remedy="the header is damaged, export again",
        )
    found = struct.unpack(("<" if little_endian else ">") + letter * (len(value) // size), value)
    if vr in ("FL", "FD") and not all(abs(number) < 1e300 for number in found):
        raise ReadError(f"{keyword} is not finite", remedy="the header is damaged, export the series again")
    return found
