"""The results of translating many volumes, as text."""

from __future__ import annotations

from pathlib import Path

from medcyclegan.cohort.translations import TranslatedCohort, TranslatedVolume
from medcyclegan.errors import one_line
from medcyclegan.terminal import wrapped

__all__ = ["translations_table"]

_COLUMNS = ("Input", "Result", "Output")


def translations_table(done: TranslatedCohort, folder: Path, columns: int) -> str:
    """Return a table of the volumes with result, verdict and output below ``folder``, and a line with their numbers.

    Reasons are listed below the table, each once, under the numbers that the rows refer to. If the table is wider than
    ``columns``, the result and the output are in a line of their own, and reasons are wrapped.
    """
    reasons: dict[str, int] = {}
    rows = [_COLUMNS, *(_row(volume, folder, reasons) for volume in done.volumes)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1, 2)]
    if sum(widths) + 4 <= columns:
        lines = [f"{name:<{widths[0]}}  {result:<{widths[1]}}  {output}".rstrip() for name, result, output in rows]
    else:
        lines = [
            line
            for name, result, output in rows[1:]
            for line in (name, *wrapped(f"  {result}{f': {output}' if output else ''}", columns, "    "))
        ]
    for reason, number in reasons.items():
        lines += wrapped(f"[{number}] {reason}", columns, "    ")
    return "\n".join([*lines, done.summary])


def _row(volume: TranslatedVolume, folder: Path, reasons: dict[str, int]) -> tuple[str, str, str]:
    result = volume.state if volume.verdict is None else f"{volume.state}, {volume.verdict}"
    if volume.reason:
        result += f" [{reasons.setdefault(volume.reason, len(reasons) + 1)}]"
    return volume.case, result, "" if volume.output is None else one_line(volume.output.relative_to(folder).as_posix())
