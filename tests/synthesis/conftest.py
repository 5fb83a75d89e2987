from __future__ import annotations

import pytest
from support.label_phantoms import label_volume

from medcyclegan.synthesis import build_head


@pytest.fixture(scope="package")
def head():
    return build_head(label_volume())
