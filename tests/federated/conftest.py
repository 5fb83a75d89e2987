"""Three tiny sites: one with t1, one with t2, one with both; and a job that they train in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stores import blobs, make_store

from medcyclegan.config import parse_config
from medcyclegan.federated import Job, write_job

SMALL = {
    "networks": {"generator": {"filters": 2, "blocks": 1}, "discriminator": {"filters": 2, "layers": 2}},
    "training": {"precision": "fp32", "log_every": 2, "pool_size": 3, "compile": "off"},
}


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """Return a folder with ``<site>/slices`` of the sites north, south and west."""
    folder = tmp_path / "sites"
    make_store(folder / "north" / "slices", {"t1": [blobs(4, 32, 0), blobs(3, 32, 1)]})
    make_store(folder / "south" / "slices", {"t2": [blobs(5, 32, 2, inverted=True)]})
    make_store(folder / "west" / "slices", {"t1": [blobs(2, 32, 3)], "t2": [blobs(3, 32, 4, inverted=True)]})
    return folder


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Return a job of three rounds of two steps, written to ``tmp_path/job``."""
    return write_job(tmp_path / "job", parse_config(SMALL, "test"), ("t1", "t2"), rounds=(3, 2), answers=(3, 60))
