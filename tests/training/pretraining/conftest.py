"""Label maps, a finished pretraining and a store of pairs, made once per module."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.label_phantoms import label_array, write_labels
from support.pretraining import changed

from medcyclegan.config import Config
from medcyclegan.slicing import slice_volumes
from medcyclegan.synthesis import Cohort, Variation, synthesize
from medcyclegan.training.pretraining.pretrain import PretrainingData, pretrain


@pytest.fixture(scope="module")
def small(tiny) -> Config:
    """Return ``tiny`` with slices and patients of a size for tests."""
    return changed(
        tiny,
        slicing={"size": 32, "pixel_mm": 8.0},
        training={"max_steps": 9, "checkpoint_steps": 4, "log_every": 2},
        pretraining={
            "patients_at_once": 2, "slices_per_patient": 5, "reference_patients": 1, "validation_patients": 1,
            "workers": 0,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    write_labels(folder / "one.nii.gz")
    write_labels(folder / "two.nii.gz", label_array((46, 54, 54)))
    return folder


@pytest.fixture(scope="module")
def pretrained(labels, small, tmp_path_factory) -> Path:
    """Return a complete pretraining, which is read-only."""
    out = tmp_path_factory.mktemp("pretrained") / "runs"
    return pretrain(PretrainingData((labels,)), config=small, out=out, device="cpu")


@pytest.fixture(scope="module")
def paired_store(labels, small, tmp_path_factory) -> Path:
    """Return a slice store of synthetic patients with both domains."""
    folder = tmp_path_factory.mktemp("paired")
    synthesize([labels], folder / "volumes", Cohort(("t1", "t2"), 6, variation=Variation(spacing_mm=6.0)))
    slice_volumes(folder / "volumes", folder / "slices", config=small)
    return folder / "slices"
