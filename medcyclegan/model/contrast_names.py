"""Contrasts that the name of a file or a description contains."""

from __future__ import annotations

import re

__all__ = ["contrasts_in"]

#: A contrast in a file name or a description: a word that begins with it, such as ``T1w`` or ``CT``, but not a part of
#: another word, as in ``subject1``.
_CONTRAST = re.compile(r"(?<![a-z0-9])(?:[23]d)?(?:(t[12])(?!\d)|(ct)(?![a-z]))", re.IGNORECASE)


def contrasts_in(text: str) -> set[str]:
    """Return those of ``t1``, ``t2`` and ``ct`` that ``text`` contains as words, such as ``sub-1_T2w.nii.gz``."""
    return {(mr or ct).lower() for mr, ct in _CONTRAST.findall(text)}
