"""Calibrations that need no fit."""

import dataclasses

import numpy as np
import torch

from medcyclegan.inference.intervals.tissue_classes import class_names
from medcyclegan.metrics.conformal import LEVELS
from medcyclegan.metrics.familiarity import Familiarity
from medcyclegan.model import ModelBundle
from medcyclegan.model.calibration import HEAD, Calibration, Reliability
from medcyclegan.networks import ErrorHead


def constant_head(expected: float) -> ErrorHead:
    """Return an error head that expects the same error everywhere, in scaled units."""
    head = ErrorHead(2)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(head.last.bias, float(np.log(expected - 2e-3)))
    return head.eval().requires_grad_(False)


def make_calibration(
    bundle: ModelBundle, to: str, *, expected: float = 0.1, patients: int = 30, **changes
) -> Calibration:
    """Return a calibration in which scores are exponential: the factor of 90 % is about log(10 K / (K + 1))."""
    direction = bundle.direction(to)
    names = class_names(direction.target.scaling)
    quantiles = -np.log(1 - LEVELS).astype(np.float32)
    random = np.random.default_rng(0)
    fields = {
        "fingerprint": bundle.fingerprint,
        "generator": direction.generator,
        "unit": direction.target.scaling.unit,
        "settings": {"tta": False, "planes": "axial"},
        "classes": names,
        "levels": (-0.6, -0.5, -0.4)[: len(names) - 2],
        "head": constant_head(expected),
        "quantiles": {name: quantiles.copy() for name in names},
        "counts": dict.fromkeys(names, patients),
        "fitted_on": 5,
        "patients": patients,
        "ratios": {name: tuple(np.linspace(0.8, 1.2, patients).tolist()) for name in (HEAD, *names[1:])},
        "mae": tuple(np.linspace(50, 1000, patients).tolist()),
        "reliability": Reliability((0.5, 0.9), {HEAD: (0.5, 0.9)} | dict.fromkeys(names, (0.52, 0.91)), 0.5),
        "familiarity": Familiarity.fit(
            [
                [random.normal(0, 100, n).astype(np.float32) for n in (8, 8, 12, 2, 4, 4, 2, 2, 6, 6, 6, 6, 6)]
                for _ in range(30)
            ]
        ),
    }
    return Calibration(**(fields | changes))


def calibrated(bundle: ModelBundle, to: str, **changes) -> ModelBundle:
    """Return the model with a calibration of the translation to ``to``."""
    data = make_calibration(bundle, to, **changes).to_bytes()
    return dataclasses.replace(bundle, calibrations={bundle.direction(to).generator: data})
