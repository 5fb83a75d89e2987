"""Tiny volumes of two domains, and their slice store."""

import pytest
from support.volume_folders import TINY, add_tiny

from medcyclegan.slicing import slice_volumes


@pytest.fixture
def volumes(tmp_path):
    """A folder with three volumes of t1 and two of t2."""
    add_tiny(tmp_path / "volumes" / "t1", "a", "b", "c")
    add_tiny(tmp_path / "volumes" / "t2", "d", "e", seed=5)
    return tmp_path / "volumes"


@pytest.fixture
def store(tmp_path, volumes):
    """The slices of ``volumes``."""
    slice_volumes(volumes, tmp_path / "slices", config=TINY)
    return tmp_path / "slices"
