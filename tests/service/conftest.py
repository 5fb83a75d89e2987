"""The queue of a node in a temporary folder."""

import pytest

from medcyclegan.service.queue import Queue


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "queue")
    yield queue
    queue.close()
