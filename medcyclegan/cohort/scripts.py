"""Error messages and exit codes of cohort scripts, which are those of the commands."""

from __future__ import annotations

import logging
from collections.abc import Callable

from medcyclegan.errors import MedCycleGANError
from medcyclegan.logs import set_up_logging
from medcyclegan.progress import show_progress

__all__ = ["run_script"]

log = logging.getLogger(__name__)


def run_script(main: Callable[[], int]) -> int:
    """Return the exit code of ``main``: 0 for success, 1 for a failure, 2 for a wrong command line.

    Expected failures are printed in one line on stderr, as are the log messages of the package.
    """
    set_up_logging()
    show_progress(True)
    try:
        return main()
    except MedCycleGANError as error:
        log.error("%s", error)
        return error.exit_code
