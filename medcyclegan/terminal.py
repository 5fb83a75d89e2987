"""The width of the terminal, and text that fits it."""

from __future__ import annotations

import shutil
import sys
import textwrap

__all__ = ["terminal_columns", "wrapped"]

#: The width if the output is not a terminal: nothing is wrapped.
_PIPE_COLUMNS = 10_000
_FEWEST_COLUMNS = 20


def terminal_columns() -> int:
    """Return the columns of the terminal to which stdout is connected; 10,000 for a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_COLUMNS


def wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """Return the lines of ``text``, wrapped at spaces; a longer word, such as a path, is never broken.

    ``indent``: begins all lines but the first.

    >>> wrapped("[1] the first two volumes have no slices", 24, "    ")
    ['[1] the first two', '    volumes have no', '    slices']
    """
    return textwrap.wrap(
        text, max(_FEWEST_COLUMNS, columns), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
        drop_whitespace=True,
    )  # fmt: skip
