"""How a cohort script ends: as the commands do, in one line and with an exit code."""

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
    """Return the exit code of ``main``: 0 done, 1 where anything failed, 2 where the command line is wrong.

    An expected failure is one line on stderr, and messages of the package go there too.
    """
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("medcyclegan").setLevel(logging.INFO)
    for library in ("monai", "torch", "ignite", "nibabel", "pydicom", "highdicom"):
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        logging.getLogger(library).setLevel(logging.CRITICAL)
    # submitit logs to stderr itself.
    logging.getLogger("submitit").propagate = False
    show_progress(True)
    try:
        return main()
    except MedCycleGANError as error:
        log.error("Error: %s", one_line(str(error)))
        return error.exit_code
