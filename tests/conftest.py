"""For all tests: the settings of hypothesis, and a logger that no earlier test has set up.

The suite always draws the same examples; ``make torture`` draws new ones, and many.
"""

import logging
import os

import pytest
from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("suite", derandomize=True, max_examples=100, **_COMMON)
settings.register_profile("torture", max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "1000")), **_COMMON)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def fresh_logger():
    """Undo ``set_up_logging``: a command that ran in this process earlier would hide messages from ``caplog``."""
    logger = logging.getLogger("medcyclegan")
    logger.handlers[:] = []
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def same_umask():
    """Undo the umask that ``serve`` sets: files of later tests in this process would be private."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
