"""Kills at random moments: fewer than in the benchmark, which takes half an hour for 100."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medcyclegan[pacs]'")

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "service_kills.py"


@pytest.mark.slow
def test_no_accepted_study_is_lost_or_sent_with_other_uids():
    command = [sys.executable, str(SCRIPT), "--kills", "4", "--studies", "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accepted 6 of 6 studies" in done.stdout
    assert "lost 0, with different UIDs 0, incomplete 0" in done.stdout
