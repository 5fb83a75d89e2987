"""Thousands of steps, hundreds of volumes, in one process: do memory and open files stay flat?

``python tests/reliability/torture.py long_run``: 2,000 steps and 300 volumes. The slope is that of a straight
line through the second half of the samples.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import psutil
from ignite.engine import Events
from reliability.sandbox import Row
from reliability.workspace import AFFINE, make_workspace
from support.phantoms import head_ct, write_nifti
from support.stores import blobs, make_store

#: What counts as flat: megabytes in a thousand steps, and in a hundred volumes.
MOST_MB = 20.0


class Watch:
    """Samples of this process: resident memory in MB, open files."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.samples: list[tuple[int, float, int]] = []

    def look(self, number: int) -> None:
        """Take a sample."""
        memory, files = self._process.memory_info().rss / 2**20, self._process.num_fds()
        self.samples.append((number, memory, files))

    def slopes(self) -> tuple[float, float]:
        """Return MB and open files per unit, over the second half."""
        half = np.array(self.samples[len(self.samples) // 2 :])
        return float(np.polyfit(half[:, 0], half[:, 1], 1)[0]), float(np.polyfit(half[:, 0], half[:, 2], 1)[0])

    def ends(self) -> str:
        """Return the samples in the middle and at the end, as text."""
        (_, middle, _), (_, last, files) = self.samples[len(self.samples) // 2], self.samples[-1]
        return f"{middle:.0f} to {last:.0f} MB, {files} files open"


def train_long(root: Path, steps: int) -> Watch:
    """Train ``steps`` steps; a sample every 20."""
    from medcyclegan import train
    from medcyclegan.config import Config
    from medcyclegan.training.monitor.metrics_log import MetricsLog

    make_store(
        root / "slices", {"t1": [blobs(8, 32, n) for n in range(100)], "t2": [blobs(8, 32, n) for n in range(100)]}
    )
    values = Config().model_dump(mode="json")
    values["networks"] = {"generator": {"filters": 2, "blocks": 1}, "discriminator": {"filters": 2, "layers": 1}}
    values["training"] |= {
        "max_steps": steps,
        "checkpoint_steps": 100,
        "panel_every": 50,
        "log_every": 10,
        "precision": "fp32",
    }
    watch, attach = Watch(), MetricsLog.attach

    def attach_and_watch(log: MetricsLog, engine: object) -> None:
        attach(log, engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=20), lambda e: watch.look(e.state.iteration))

    from unittest import mock

    with mock.patch.object(MetricsLog, "attach", attach_and_watch):
        train(root / "slices", config=Config.model_validate(values), out=root / "runs", device="cpu")
    return watch


def translate_long(root: Path, volumes: int) -> Watch:
    """Translate ``volumes`` volumes of other sizes each, NIfTI and DICOM; a sample after each."""
    from medcyclegan.inference import TranslationOptions, translate_file

    work, watch = make_workspace(root / "work"), Watch()
    options = TranslationOptions(to="mr", overwrite=True)
    for number in range(volumes):
        if number % 3:
            source = write_nifti(head_ct((40 + number % 7, 48, 6), AFFINE), work / "next.nii.gz")
            translate_file(source, work / "out.nii.gz", work / "model", options)
        else:
            translate_file(work / "in", work / "mr", work / "model", options)
        watch.look(number)
    return watch


def measure(steps: int = 2000, volumes: int = 300) -> Row:
    """Return the row of the table."""
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    root = Path(tempfile.mkdtemp())
    try:
        training, translating = train_long(root, steps), translate_long(root, volumes)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    (step_mb, step_files), (volume_mb, volume_files) = training.slopes(), translating.slopes()
    wrong = []
    if step_mb * 1000 > MOST_MB or volume_mb * 100 > MOST_MB:
        wrong.append(f"memory grows by {step_mb * 1000:.1f} MB in 1,000 steps, {volume_mb * 100:.1f} MB in 100 volumes")
    if step_files * 1000 > 1 or volume_files * 100 > 1:
        wrong.append(
            f"open files grow by {step_files * 1000:.2f} in 1,000 steps, {volume_files * 100:.2f} in 100 volumes"
        )
    figure = (
        f"{steps} steps: {step_mb * 1000:+.2f} MB and {step_files * 1000:+.2f} open files a thousand "
        f"({training.ends()}); "
        f"{volumes} volumes: {volume_mb * 100:+.2f} MB and {volume_files * 100:+.2f} a hundred ({translating.ends()})"
    )
    return Row("long run", figure, wrong)
