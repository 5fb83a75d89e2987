"""Error messages and exit codes of cohort scripts, which are those of the commands."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable

from medcyclegan.errors import MedCycleGANError, one_line
from medcyclegan.progress import show_progress

__all__ = ["run_script"]

log = logging.getLogger(__name__)


def run_script(main: Callable[[], int]) -> int:
    """Return the exit code of ``main``: 0 for success, 1 for a failure, 2 for a wrong command line.

    Expected failures are printed in one line on stderr, as are the log messages of the package.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("medcyclegan")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    for library in ("monai", "torch", "ignite", "nibabel", "pydicom", "highdicom"):
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        logging.getLogger(library).setLevel(logging.CRITICAL)
    show_progress(True)
    try:
        return main()
    except MedCycleGANError as error:
        log.error("Error: %s", one_line(str(error)))
        return error.exit_code
