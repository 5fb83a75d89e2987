"""Write the program that Slicer starts."""

from __future__ import annotations

import shlex
import stat
import sys
from pathlib import Path

from medcyclegan.errors import UsageError
from medcyclegan.storage import atomic_write, check_output

__all__ = ["write_launcher"]

#: Settings of Slicer's own Python and libraries. A Python that inherits them does not start.
_FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH")


def write_launcher(folder: Path) -> Path:
    """Write the program that Slicer starts into ``folder``, which must hold nothing else; return its path.

    Slicer starts every program in a module folder. It passes on the settings of its own Python, with which another
    Python cannot run: the launcher removes them. An existing launcher is replaced. Raises
    :class:`~medcyclegan.errors.UsageError` for a folder with other files.
    """
    launcher = folder / "medcyclegan-translate"
    if folder.exists() and (not folder.is_dir() or set(folder.iterdir()) - {launcher}):
        raise UsageError(
            f"{folder}: Slicer would start every program in this folder", remedy="name a folder that does not exist"
        )
    check_output(launcher, overwrite=True)
    python = shlex.quote(sys.executable)
    text = f'#!/bin/sh\nunset {" ".join(_FOREIGN)}\nexec {python} -E -P -m medcyclegan.cli.slicer "$@"\n'
    with atomic_write(launcher, mode=0o777) as file:
        file.write(text.encode())
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    return launcher
