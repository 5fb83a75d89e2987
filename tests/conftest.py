"""How hypothesis draws: the same examples every time in the suite, new ones where ``make torture`` asks for many."""

import os

from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("suite", derandomize=True, max_examples=100, **_COMMON)
settings.register_profile("torture", max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "1000")), **_COMMON)
settings.load_profile("suite")
